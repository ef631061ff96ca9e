"""The working directory of one issuance: our key, our request, an engine's private world, and what it brought back.

It outlives a killed certctl on purpose. The next run finds in it the certificate the CA has already made or the
order the CA has already taken, and the key that fits, and orders nothing. Any other content is wiped before work
starts. Nothing here outlives a power cut for sure, but what ``flush`` was called for.
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
"""The files by which a run goes on that comes after a killed one."""
_MOST = 100_000


@dataclass(frozen=True, slots=True)
class BegunOrder:
    """An order the CA has taken, to go on with.

    Attributes:
        url: Its URL (RFC 8555 §7.4).
        since: When we made it.
        ends: When the CA forgets it, if it said so.
        is_handed_in: Whether the CA may have signed by now, because our request was on its way.
    """

    url: str
    since: datetime
    ends: datetime | None
    is_handed_in: bool = False


@dataclass(frozen=True, slots=True)
class WorkingDirectory:
    """The files of one working directory, by name."""

    root: Path

    @property
    def key(self) -> Path:
        """Our private key, 0600 from creation."""
        return self.root / "privkey.pem"

    @property
    def request(self) -> Path:
        """Our signing request."""
        return self.root / "request.pem"

    @property
    def cert(self) -> Path:
        """Where certbot puts the leaf."""
        return self.root / "cert.pem"

    @property
    def chain(self) -> Path:
        """Where certbot puts the intermediates."""
        return self.root / "chain.pem"

    @property
    def fullchain(self) -> Path:
        """Where certbot puts the leaf and the intermediates, last of the three."""
        return self.root / "fullchain.pem"

    @property
    def config(self) -> Path:
        """The directory certbot takes for its configuration; its ``accounts`` is a link to the shared account."""
        return self.root / "config"

    @property
    def work(self) -> Path:
        """The directory certbot works in, and puts temporary files in."""
        return self.root / "work"

    @property
    def logs(self) -> Path:
        """The directory of the debug log."""
        return self.root / "logs"

    @property
    def log(self) -> Path:
        """The debug log itself."""
        return self.logs / "letsencrypt.log"

    def make(self, settings: CaSettings) -> None:
        """Start over: an empty private directory with what any certbot command needs, and room to work in.

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
        """Write a new key, the request for it, and what was asked for."""
        key = new_key(order.key_type)
        with writing(self.root):
            write_new(self.key, key_pem(key), PRIVATE, durable=False)
            write_new(self.request, signing_request(key, order.names), PRIVATE, durable=False)
            write_new(self._order, json.dumps(asdict(order)).encode(), PRIVATE, durable=False)

    def asked(self, order: OrderRequest) -> bool:
        """Tell whether this is what the directory was made for."""
        try:
            kept = json.loads(read_regular(self._order, _MOST))
        except (OSError, ValueError):
            return False
        return bool(kept == json.loads(json.dumps(asdict(order))))

    def note_begun(self, begun: BegunOrder) -> None:
        """Note that the CA has taken the order, before anything is done about it."""
        ends = begun.ends.isoformat() if begun.ends else None
        note = asdict(begun) | {"since": begun.since.isoformat(), "ends": ends}
        with writing(self._begun):
            write_atomic(self._begun, json.dumps(note), PRIVATE, durable=False)

    def begun(self) -> BegunOrder | None:
        """Return the order that a run before this one has made."""
        try:
            note = json.loads(read_regular(self._begun, _MOST))
            ends = datetime.fromisoformat(note["ends"]) if note["ends"] else None
            return BegunOrder(note["url"], datetime.fromisoformat(note["since"]), ends, note["is_handed_in"])
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def forget_begun(self) -> None:
        """Let an order go that the CA no longer keeps."""
        with writing(self._begun):
            self._begun.unlink(missing_ok=True)

    def flush(self) -> None:
        """Make everything here survive a power cut."""
        with writing(self.root):
            flush(self.root)

    def keep(self, chain: bytes) -> None:
        """Keep the chain the CA made."""
        with writing(self.root):
            write_atomic(self.fullchain, chain, PRIVATE, durable=False)

    def forget_result(self) -> None:
        """Make room for another try: certbot refuses to overwrite what it wrote."""
        with writing(self.root):
            for path in (self.cert, self.chain, self.fullchain, self.log):
                path.unlink(missing_ok=True)

    def result(self) -> tuple[bytes, bytes] | None:
        """Return the chain and the key when both are there; the chain is cut just above the size we accept."""
        try:
            return read_regular(self.fullchain, MAX_CHAIN + 1), read_regular(self.key, _MOST)
        except (FileNotFoundError, NotRegular):
            return None

    def note_presented(self, challenges: Sequence[Challenge]) -> None:
        """Note what is about to be shown, so that the run after a crash can take it away."""
        with writing(self._presented):
            content = json.dumps([asdict(challenge) for challenge in challenges])
            write_atomic(self._presented, content, PRIVATE, durable=False)

    def presented(self) -> list[Challenge]:
        """Return what a killed run may have left on show."""
        with suppress(OSError, ValueError, TypeError):
            return [Challenge(**item) for item in json.loads(read_regular(self._presented, _MOST))]
        return []

    def remove(self) -> None:
        """Remove it all, the key first of all."""
        with writing(self.root):
            self.key.unlink(missing_ok=True)
            remove_tree(self.root)

    @property
    def is_cut_short(self) -> bool:
        """Tell whether a removal ended half-way: what has no key any more serves nobody."""
        return self.root.is_dir() and not self.key.exists()

    def sweep(self) -> None:
        """Finish a removal that was cut short."""
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
