"""The process that listens to strangers, where that must not be the one with rights; see ``monitor``."""

import itertools
import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress

from certctl.domain import Domain
from certctl.errors import CertctlError, Interrupted
from certctl.serve.answers import Outcome, of_failure
from certctl.serve.settings import ServeSettings
from certctl.values import Delegation

_STORE_SECONDS = 2.0


class Unprivileged:
    """The issuer of the process without rights: asks DNS itself, and the monitor for all that comes after.

    Args:
        verify: Whether a name ends at us; raises CertctlError when not.
        lost: Called when the monitor ends although nobody asked it to.
    """

    def __init__(
        self,
        line: socket.socket,
        verify: Callable[[Domain], Delegation],
        settings: ServeSettings,
        lost: Callable[[], None],
    ) -> None:
        self._line = line
        self._verify = verify
        self._settings = settings
        self._lost = lost
        self._turn = threading.Lock()
        self._numbers = itertools.count()
        self._asked: dict[int, Future[bytes]] = {}
        self._has_left = self._is_alone = False
        threading.Thread(target=self._listen, name="monitor", daemon=True).start()

    def __call__(self, domain: Domain) -> Outcome:
        """Take one name all the way."""
        try:
            self._verify(domain)
            return Outcome.from_json(self._ask(f"issue {domain}").result())
        except CertctlError as error:
            return of_failure(error, self._settings)

    def store_up(self) -> bool:
        """Tell whether the store can be read."""
        try:
            return json.loads(self._ask("store").result(_STORE_SECONDS)) is True
        except (CertctlError, TimeoutError):
            return False

    def close(self) -> None:
        """Let no order begin any more; those at the CA go on."""
        with self._turn, suppress(CertctlError):
            self._say("close")

    def leave(self) -> None:
        """Hang up."""
        self._has_left = True
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)

    def _ask(self, question: str) -> "Future[bytes]":
        with self._turn:
            number, asked = next(self._numbers), Future[bytes]()
            self._asked[number] = asked
            self._say(f"{number} {question}")
            return asked

    def _say(self, text: str) -> None:
        if self._is_alone:
            raise _gone()
        try:
            self._line.sendall(f"{text}\n".encode("ascii"))
        except OSError as error:
            raise _gone() from error

    def _listen(self) -> None:
        with suppress(OSError), self._line.makefile("rb") as heard:
            for told in heard:
                number, _, answer = told.partition(b" ")
                with self._turn:
                    asked = self._asked.pop(int(number))
                asked.set_result(answer)
        with self._turn:
            self._is_alone = True
        for asked in self._asked.values():
            asked.set_exception(_gone())
        if not self._has_left:
            self._lost()


def _gone() -> CertctlError:
    return Interrupted("interrupted", "the process that does root's work has ended")
