"""The working directory of one order: our key and request, certbot's own directories, and the chain.

It outlives a killed certctl on purpose: the next run finds the certificate already issued, or the order already
made, with its key, and makes no second order. Other content is removed before work starts. Only what ``flush`` was
called for surely survives a power cut.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from certctl.ca.keys import key_pem, new_key, signing_request
from certctl.ca.settings import CaSettings, OrderRequest
from certctl.ca.solvers.base import Challenge
from certctl.certificates import MAX_CHAIN
from certctl.io.files import (
    PRIVATE,
    NotRegular,
    flush,
    make_directory,
    read_regular,
    remove_tree,
    require_room,
    write_atomic,
    write_new,
    writing,
)

_PRIVATE_DIRECTORY = 0o700
KEPT = frozenset(
    {
        "privkey.pem", "request.pem", "cert.pem", "chain.pem", "fullchain.pem",
        "order.json", "begun.json", "presented.json",
    }
)  # fmt: skip
"""The files from which a run resumes the order of a killed one."""
_MOST = 100_000


@dataclass(frozen=True, slots=True)
class BegunOrder:
    """An order that was made at the CA and can be resumed.

    Attributes:
        url: Its URL (RFC 8555 §7.4).
        since: When we made it.
        ends: Its expiry (RFC 8555 §7.1.3), if the CA said it.
        is_handed_in: Whether our request was sent to ``finalize``, so that the CA may have signed.
    """

    url: str
    since: datetime
    ends: datetime | None
    is_handed_in: bool = False


@dataclass(frozen=True, slots=True)
class WorkingDirectory:
    """The files of one working directory, each by name."""

    root: Path

    @property
    def key(self) -> Path:
        """The path of our private key, 0600 from creation."""
        return self.root / "privkey.pem"

    @property
    def request(self) -> Path:
        """The path of our signing request (PKCS #10)."""
        return self.root / "request.pem"

    @property
    def cert(self) -> Path:
        """The path at which certbot writes the leaf."""
        return self.root / "cert.pem"

    @property
    def chain(self) -> Path:
        """The path at which certbot writes the intermediates."""
        return self.root / "chain.pem"

    @property
    def fullchain(self) -> Path:
        """The path at which certbot writes leaf and intermediates, last of the three."""
        return self.root / "fullchain.pem"

    @property
    def config(self) -> Path:
        """The directory certbot takes for its configuration; ``accounts`` in it links to the shared account."""
        return self.root / "config"

    @property
    def work(self) -> Path:
        """The directory for certbot's temporary files."""
        return self.root / "work"

    @property
    def logs(self) -> Path:
        """The directory of certbot's debug log."""
        return self.root / "logs"

    @property
    def log(self) -> Path:
        """The path of certbot's debug log."""
        return self.logs / "letsencrypt.log"

    def make(self, settings: CaSettings) -> None:
        """Create the directory anew: empty, private, with the directories that any certbot command needs.

        Raises:
            ConfigInvalid: ``state-unwritable``.
        """
        with writing(self.root):
            for private in (settings.acme_dir, settings.accounts, self.root.parent):
                make_directory(private, _PRIVATE_DIRECTORY)
            require_room(self.root.parent)
            remove_tree(self.root)
            for directory in (self.root, self.config, self.work, self.logs):
                make_directory(directory, _PRIVATE_DIRECTORY)
            (self.config / "accounts").symlink_to(settings.accounts.absolute())

    def ask(self, order: OrderRequest) -> None:
        """Write a new key, the signing request, and the order request it is for."""
        key = new_key(order.key_type)
        with writing(self.root):
            write_new(self.key, key_pem(key), PRIVATE, durable=False)
            write_new(self.request, signing_request(key, order.names), PRIVATE, durable=False)
            write_new(self._order, json.dumps(asdict(order)).encode(), PRIVATE, durable=False)

    def asked(self, order: OrderRequest) -> bool:
        """Tell whether the directory was made for an equal order request."""
        try:
            kept = json.loads(read_regular(self._order, _MOST))
        except (OSError, ValueError):
            return False
        return bool(kept == json.loads(json.dumps(asdict(order))))

    def note_begun(self, begun: BegunOrder) -> None:
        """Write down that the order was made at the CA, before anything else is done about it."""
        ends = begun.ends.isoformat() if begun.ends else None
        note = asdict(begun) | {"since": begun.since.isoformat(), "ends": ends}
        with writing(self._begun):
            write_atomic(self._begun, json.dumps(note), PRIVATE, durable=False)

    def begun(self) -> BegunOrder | None:
        """Return the order that an earlier run made; None when there is none."""
        try:
            note = json.loads(read_regular(self._begun, _MOST))
            ends = datetime.fromisoformat(note["ends"]) if note["ends"] else None
            return BegunOrder(note["url"], datetime.fromisoformat(note["since"]), ends, note["is_handed_in"])
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def forget_begun(self) -> None:
        """Remove the note of an order that the CA no longer has."""
        with writing(self._begun):
            self._begun.unlink(missing_ok=True)

    def flush(self) -> None:
        """Write all files here to disk, so that they survive a power cut (fsync)."""
        with writing(self.root):
            flush(self.root)

    def keep(self, chain: bytes) -> None:
        """Write the chain the CA issued."""
        with writing(self.root):
            write_atomic(self.fullchain, chain, PRIVATE, durable=False)

    def forget_result(self) -> None:
        """Remove certbot's results before another try: certbot refuses to overwrite them."""
        with writing(self.root):
            for path in (self.cert, self.chain, self.fullchain, self.log):
                path.unlink(missing_ok=True)

    def result(self) -> tuple[bytes, bytes] | None:
        """Return (chain, key) when both are there; the chain is cut just above the size we accept."""
        try:
            return read_regular(self.fullchain, MAX_CHAIN + 1), read_regular(self.key, _MOST)
        except (FileNotFoundError, NotRegular):
            return None

    def note_presented(self, challenges: Sequence[Challenge]) -> None:
        """Write down the challenges about to be presented, so that the run after a crash removes them."""
        with writing(self._presented):
            content = json.dumps([asdict(challenge) for challenge in challenges])
            write_atomic(self._presented, content, PRIVATE, durable=False)

    def presented(self) -> list[Challenge]:
        """Return the challenges that a killed run may have left."""
        with suppress(OSError, ValueError, TypeError):
            return [Challenge(**item) for item in json.loads(read_regular(self._presented, _MOST))]
        return []

    def remove(self) -> None:
        """Remove the directory, the key first."""
        with writing(self.root):
            self.key.unlink(missing_ok=True)
            remove_tree(self.root)

    @property
    def is_cut_short(self) -> bool:
        """Tell whether a removal was interrupted: a directory without its key is of no use."""
        return self.root.is_dir() and not self.key.exists()

    def sweep(self) -> None:
        """Finish a removal that was interrupted."""
        if self.is_cut_short:
            self.remove()

    @property
    def _order(self) -> Path:
        return self.root / "order.json"

    @property
    def _begun(self) -> Path:
        return self.root / "begun.json"

    @property
    def _presented(self) -> Path:
        return self.root / "presented.json"
