"""Privilege separation: an unprivileged process reads what visitors send, and this one, root, does not.

It is the "monitor" of Provos et al., Preventing Privilege Escalation (USENIX Security 2003), as in OpenSSH, for a
host where a new name needs root, because nginx must be tested and reloaded. The process that serves visitors and
asks DNS is forked and becomes an unprivileged user. The monitor asks the operator and the CA and changes this host;
its only input is a name, which it parses itself, and a sentence for the history.

A request is a line: a number and ``issue NAME "WHAT DNS SAID"``, ``probe`` or ``store``; or ``close`` alone. Its
response is a line: the number, and JSON.
"""

import json
import os
import signal
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from threading import Lock, Semaphore
from typing import Protocol

from certctl.domain import Domain
from certctl.errors import CertctlError, ExitCode, NameRejected, unforeseen
from certctl.io import sd_notify
from certctl.io.interrupt import stopping
from certctl.io.process import end_children, fork
from certctl.serve.answers import WireResult, of_failure
from certctl.serve.settings import ServeSettings
from certctl.values import Delegation

_LONGEST_QUESTION = 8192
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class VerifiedIssuer(Protocol):
    """Issues for names that were verified already."""

    def issue_verified(self, delegation: Delegation) -> WireResult:
        """Issue for one name and return the result."""
        ...

    def close(self) -> None:
        """Place no more orders."""
        ...


@dataclass(frozen=True, slots=True)
class PrivilegedOperations:
    """The privileged operations that the monitor offers to the unprivileged process.

    Attributes:
        parse: Turns a name into a domain, or raises NameRejected.
        probe: Raises CertctlError while the approval endpoint approves an invented name, or does not answer.
        store_up: Whether the store can be read.
    """

    parse: Callable[[str], Domain]
    issuing: VerifiedIssuer
    probe: Callable[[], None]
    store_up: Callable[[], bool]


def fork_and_monitor(
    listen: Callable[[socket.socket], int],
    doors: Sequence[socket.socket],
    operations: PrivilegedOperations,
    settings: ServeSettings,
) -> int:
    """Fork the unprivileged process and be its monitor; return its exit code, negative for a signal that ended it.

    Args:
        listen: Runs in the new process, which has a session of its own and no terminal, with its end of the socket
            pair.
        doors: Sockets that only the new process uses; closed here.
        operations: The privileged operations.
        settings: Bounds how many of them run at once.
    """
    ours, theirs = socket.socketpair()

    def run() -> int:
        ours.close()
        sd_notify.speak_for_parent()
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            return listen(theirs)
        except KeyboardInterrupt:  # told to stop before it had handlers of its own
            return int(ExitCode.DONE)

    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # one that comes meanwhile is for both
    pid = fork(run)
    for number in _SIGNALS:
        signal.signal(number, lambda number, _: _pass_on(number, pid))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    for each in (theirs, *doors):
        each.close()
    PrivsepMonitor(ours, operations, settings).work()
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _pass_on(number: int, pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


class PrivsepMonitor:
    """The privileged process. It trusts no input: after a line that is no valid request it reads no more."""

    def __init__(self, line: socket.socket, operations: PrivilegedOperations, settings: ServeSettings) -> None:
        self._line = line
        self._operations = operations
        self._most = settings.threads + 2  # flights, a probe and somebody's look at the store
        self._settings = settings
        self._saying = Lock()
        self._free = Semaphore(self._most)

    def work(self) -> None:
        """Serve requests until the other process has ended; operations that still run stop at their next step."""
        workers = ThreadPoolExecutor(self._most, thread_name_prefix="monitor")
        try:
            with self._line, self._line.makefile("rb") as heard, suppress(OSError):
                while self._understood(heard.readline(_LONGEST_QUESTION), workers):
                    pass
        finally:
            stopping.set()
            end_children()
            workers.shutdown(wait=False, cancel_futures=True)

    def _understood(self, question: bytes, workers: ThreadPoolExecutor) -> bool:
        do: Callable[[], bytes]
        match question.decode("ascii", "replace").removesuffix("\n").split(" ", 3):
            case [number, "issue", name, said] if number.isdecimal():
                try:
                    delegation = Delegation(self._operations.parse(name), "", (), _sentence(said))
                except (NameRejected, ValueError, RecursionError):
                    return False
                do = partial(self._issue, delegation)
            case [number, "probe"] if number.isdecimal():
                do = self._probe
            case [number, "store"] if number.isdecimal():
                do = self._look
            case ["close"]:
                self._operations.issuing.close()
                return True
            case _:
                return False
        self._free.acquire()  # the other process asks for no more than this; one that was taken over might
        workers.submit(self._answer, number, do)
        return True

    def _answer(self, number: str, do: Callable[[], bytes]) -> None:
        try:
            told = do()
            with self._saying, suppress(OSError):  # who has gone is told nothing
                self._line.sendall(b"%s %s\n" % (number.encode(), told))
        finally:
            self._free.release()

    def _issue(self, delegation: Delegation) -> bytes:
        """Issue on the child's word that DNS was verified; a lie gains little, as operator and CA check too."""
        try:
            return self._operations.issuing.issue_verified(delegation).to_json()
        except Exception as bug:  # noqa: BLE001 - one name's trouble is not another's
            return of_failure(unforeseen(bug), self._settings).to_json()

    def _probe(self) -> bytes:
        try:
            self._operations.probe()
        except CertctlError as error:
            facts = {"slug": error.slug, "message": error.message, "seen": error.seen, "expected": error.expected}
            return json.dumps(facts).encode()
        return b"null"

    def _look(self) -> bytes:
        return json.dumps(self._operations.store_up()).encode()


def _sentence(told: str) -> str:
    """Return what DNS said, from JSON; the history must be able to take it, as it is written after an order.

    Raises:
        ValueError: it is no text, or none that UTF-8 can hold, such as half of a surrogate pair.
    """
    sentence = json.loads(told)
    if not isinstance(sentence, str):
        raise ValueError("not a sentence")  # noqa: TRY004 - as whatever else is wrong with the line
    sentence.encode()
    return sentence
