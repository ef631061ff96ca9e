"""The unprivileged process of the pair, which reads what visitors send; see ``privsep_monitor``."""

import itertools
import json
import socket
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from threading import Lock, Thread

from certctl.domain import Domain
from certctl.errors import CATALOGUE, CertctlError, Interrupted
from certctl.serve.answers import WireResult, of_failure
from certctl.serve.settings import ServeSettings
from certctl.slugs import Slug
from certctl.values import Delegation

_STORE_SECONDS = 2.0
_LONGEST_WORD = 1000  # characters, of at most six bytes each in JSON


class PrivsepChild:
    """The issuer of the unprivileged process: verifies DNS itself, and asks the monitor for every later step.

    Args:
        line: The socket to the monitor.
        verify: Verifies that a name ends at our target; raises CertctlError when not.
        settings: What the daemon may spend.
        lost: Called when the monitor is gone; it ends this process.
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
        self._turn = Lock()
        self._numbers = itertools.count()
        self._asked: dict[int, Future[bytes]] = {}
        Thread(target=self._hear, name="monitor", daemon=True).start()

    def __call__(self, domain: Domain) -> WireResult:
        """Verify one name, have the monitor issue for it, and return the result."""
        try:
            said = json.dumps(self._verify(domain).summary[:_LONGEST_WORD])
            return WireResult.from_json(self._ask(f"issue {domain} {said}").result())
        except CertctlError as error:
            return of_failure(error, self._settings)

    def probe(self) -> None:
        """Return only when the approval endpoint refuses an invented name.

        Raises:
            CertctlError: as the monitor's check raised it.
        """
        facts = json.loads(self._ask("probe").result())
        if facts:
            slug = Slug(facts.pop("slug"))
            raise CATALOGUE[slug].family(slug, **facts)

    def store_up(self) -> bool:
        """Tell whether the monitor can read the store."""
        try:
            return json.loads(self._ask("store").result(_STORE_SECONDS)) is True
        except (CertctlError, TimeoutError):
            return False

    def close(self) -> None:
        """Place no more orders; those under way at the CA go on."""
        with suppress(CertctlError):
            self._say("close")

    def _ask(self, question: str) -> "Future[bytes]":
        number, asked = next(self._numbers), Future[bytes]()
        with self._turn:
            self._asked[number] = asked
        self._say(f"{number} {question}")
        return asked

    def _say(self, text: str) -> None:
        try:
            with self._turn:
                self._line.sendall(f"{text}\n".encode("ascii"))
        except OSError as error:
            raise Interrupted(Slug.INTERRUPTED, "the process that does root's work has ended") from error

    def _hear(self) -> None:
        with suppress(OSError), self._line.makefile("rb") as heard:
            for told in heard:
                number, _, answer = told.partition(b" ")
                with self._turn:
                    asked = self._asked.pop(int(number))
                asked.set_result(answer)
        self._lost()
