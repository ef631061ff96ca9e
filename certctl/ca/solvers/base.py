"""The interface of a solver (present, wait, clean up), and the solver of http-01; both engines use them."""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from certctl.errors import Refused
from certctl.io.files import PUBLIC, make_directory, write_new, writing
from certctl.io.inotify import Readers
from certctl.slugs import Slug

HTTP_01 = "http-01"
DNS_01 = "dns-01"

Look = Callable[[float, float], bool]
"""``look(within, quiet)`` waits until the CA has fetched, and then has been quiet for ``quiet`` seconds.

It returns False when the CA has not fetched in ``within`` seconds, and at once where that cannot be noticed.
"""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,256}")
_READABLE_BY_NGINX = 0o755


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge (RFC 8555 §7.1.5) as a solver needs it.

    Attributes:
        domain: The identifier of the authorization, never with ``*.`` (RFC 8555 §7.1.4).
        type: ``http-01`` or ``dns-01``.
        token: The CA's token, unchecked; a solver checks it before it uses it in a path.
        validation: The content to present: the key authorization (http-01, RFC 8555 §8.3) or its digest (dns-01,
            §8.4).
    """

    domain: str
    type: str
    token: str
    validation: str


class Solver(Protocol):
    """Presents challenges to the CA; always called with all challenges of an order at once."""

    @property
    def challenge_type(self) -> str:
        """Return the type of challenge it solves, such as ``http-01``."""
        ...

    def present(self, challenges: Sequence[Challenge]) -> None:
        """Write the tokens or records. Any CertctlError aborts the order before the CA validates."""
        ...

    def wait(self, challenges: Sequence[Challenge]) -> None:
        """Return when the CA can see the challenges. Any CertctlError aborts the order before the CA validates."""
        ...

    def watched(self, challenges: Sequence[Challenge]) -> AbstractContextManager[Look]:
        """Return a context whose ``Look`` waits for the CA to look at the challenges."""
        ...

    def clean_up(self, challenges: Sequence[Challenge]) -> None:
        """Remove what ``present`` wrote, even half of it; a second call does nothing."""
        ...


def unseen() -> AbstractContextManager[Look]:
    """Return a ``Look`` that reports nothing, for challenges whose validation leaves no trace here, as in DNS."""
    return nullcontext(lambda *_: False)


class HttpTokens:
    """HTTP-01: one file per token in the directory that nginx serves as ``/.well-known/acme-challenge/``."""

    challenge_type = HTTP_01

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._readers = Readers(directory)

    def present(self, challenges: Sequence[Challenge]) -> None:
        """Write the token files.

        Raises:
            Refused: a token is not base64url (RFC 8555 §8.3), so it may be an attempt to leave the directory.
            ConfigInvalid: the directory cannot be written.
        """
        paths = [self._path(challenge) for challenge in challenges]
        with writing(self._directory):
            make_directory(self._directory, _READABLE_BY_NGINX)
            for path, challenge in zip(paths, challenges, strict=True):
                # Under its own name at once: the CA fetches it only when told, and the run after a crash finds it.
                # That one leaves it as it is: the CA may be looking at it.
                if not _shows(path, challenge.validation.encode()):
                    path.unlink(missing_ok=True)
                    write_new(path, challenge.validation.encode(), PUBLIC, durable=False)

    def wait(self, challenges: Sequence[Challenge]) -> None:
        """Return at once: nginx serves a file as soon as it is written."""

    def watched(self, challenges: Sequence[Challenge]) -> AbstractContextManager[Look]:
        """Return a ``Look`` that notices when nginx opens the tokens, as it does when the CA validates."""
        return self._readers.of([challenge.token for challenge in challenges])

    def clean_up(self, challenges: Sequence[Challenge]) -> None:
        """Remove the token files."""
        with writing(self._directory):
            for challenge in challenges:
                if _TOKEN.fullmatch(challenge.token):
                    self._path(challenge).unlink(missing_ok=True)

    def _path(self, challenge: Challenge) -> Path:
        if not _TOKEN.fullmatch(challenge.token):
            raise Refused(
                Slug.CA_CHALLENGE_ABORTED,
                f"the CA's challenge for {challenge.domain} has a token that is not base64url",
                seen=[f"token: {challenge.token[:300]}"],
                expected=["16 to 256 letters, digits, '-' or '_' (RFC 8555 §8.3)"],
            )
        return self._directory / challenge.token


def _shows(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except FileNotFoundError:
        return False
