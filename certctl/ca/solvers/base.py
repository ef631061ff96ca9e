"""Solving challenges: Present, Wait, CleanUp, in our own process, whatever engine talks to the CA."""

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
"""Waits, at most so many seconds, until the CA has looked and then for so many seconds has not looked again.

Returns False when it has not looked, at once when nobody can tell.
"""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,256}")
_READABLE_BY_NGINX = 0o755


@dataclass(frozen=True, slots=True)
class Challenge:
    """One thing the CA wants to see.

    Attributes:
        domain: The identifier of the authorization, never with ``*.`` (RFC 8555 §7.1.4).
        type: ``http-01`` or ``dns-01``.
        token: The CA's token, as it came; whoever puts it in a path checks it first.
        validation: What must be seen: the key authorization (http-01, RFC 8555 §8.3) or its digest (dns-01, §8.4).
    """

    domain: str
    type: str
    token: str
    validation: str


class Solver(Protocol):
    """A way to show challenges. Always gets all challenges of an order at once."""

    @property
    def challenge_type(self) -> str:
        """Return the one type of challenge it solves."""
        ...

    def present(self, challenges: Sequence[Challenge]) -> None:
        """Make the CA able to see them. Any CertctlError aborts the order before the CA is asked."""
        ...

    def wait(self, challenges: Sequence[Challenge]) -> None:
        """Return when the CA will see them. Any CertctlError aborts the order before the CA is asked."""
        ...

    def watched(self, challenges: Sequence[Challenge]) -> AbstractContextManager[Look]:
        """Notice the CA looking at what was presented, from now on."""
        ...

    def clean_up(self, challenges: Sequence[Challenge]) -> None:
        """Take away what ``present`` made, also half of it, also a second time."""
        ...


def unseen() -> AbstractContextManager[Look]:
    """Return what stands for looks that nobody can notice, such as those into DNS."""
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
                # Under its own name at once: nobody asks before we say so, and the run after a crash finds it. That
                # one leaves it as it is: the CA may be looking at it.
                if not _shows(path, challenge.validation.encode()):
                    path.unlink(missing_ok=True)
                    write_new(path, challenge.validation.encode(), PUBLIC, durable=False)

    def wait(self, challenges: Sequence[Challenge]) -> None:
        """Return at once: a file that was written is served."""

    def watched(self, challenges: Sequence[Challenge]) -> AbstractContextManager[Look]:
        """Notice nginx reading the tokens, which it does because the CA asks for them."""
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
