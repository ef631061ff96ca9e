"""Two processes instead of one: who listens to strangers has no rights, and who has rights listens to no stranger.

For a host where a new name takes root, because nginx must be tested and reloaded. The process that hears visitors
and asks DNS becomes an ordinary user; the one forked off before asks the operator and the CA and changes this host,
and hears nothing but a name that its own parser must let in. In the field's words it is the "monitor" (Provos et
al., Preventing Privilege Escalation, USENIX Security 2003, as in OpenSSH).

A question is a line: a number, ``issue NAME``, ``store`` or ``close``. Its answer is a line: the number, and JSON.
"""

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from certctl.domain import Domain
from certctl.errors import NameRejected, unforeseen
from certctl.io.process import end_children
from certctl.io.stop import stopping
from certctl.serve.answers import of_failure
from certctl.serve.ondemand import Issuer
from certctl.serve.settings import ServeSettings

_LONGEST_QUESTION = 300
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PIPE = 3  # the first descriptor after stdin, stdout and stderr


@dataclass(frozen=True, slots=True)
class Duties:
    """What the monitor does for the other process.

    Attributes:
        parse: Turns a name into a domain, or raises NameRejected.
        store_up: Whether the store can be read.
        clean_up: Called at the end of an orderly life.
    """

    parse: Callable[[str], Domain]
    issue: Issuer
    store_up: Callable[[], bool]
    clean_up: Callable[[], None]


def part(duties: Callable[[], Duties], settings: ServeSettings) -> tuple[socket.socket, int]:
    """Fork off the monitor, and return the line to it and its process number; call it before any thread is made.

    The monitor has no descriptor of ours but that line, and outlives signals to our group: it ends when we do.
    """
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid:
        theirs.close()
        return ours, pid
    status = 1
    try:
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)  # not SIG_IGN, which the programs it starts would inherit
        os.dup2(theirs.fileno(), _PIPE, inheritable=False)
        os.closerange(_PIPE + 1, os.sysconf("SC_OPEN_MAX"))
        Monitor(socket.socket(fileno=_PIPE), duties(), settings).listen()
        status = 0
    except BaseException:  # noqa: BLE001 - nothing may run on in a copy of the other process
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


class Monitor:
    """The process with rights. It believes nothing: a line that is no question ends it."""

    def __init__(self, line: socket.socket, duties: Duties, settings: ServeSettings) -> None:
        self._line = line
        self._duties = duties
        self._settings = settings
        self._saying = threading.Lock()
        self._free = threading.Semaphore(settings.threads + 1)
        self._is_closed = False

    def listen(self) -> None:
        """Do what is asked until the other process hangs up; what has not ended by then stops at its next step."""
        workers = ThreadPoolExecutor(self._settings.threads + 1)
        with self._line, self._line.makefile("rb") as heard, workers as pool:
            while self._understood(heard.readline(_LONGEST_QUESTION), pool):
                pass
            stopping.set()
            end_children()
        if self._is_closed:
            self._duties.clean_up()

    def _understood(self, question: bytes, pool: ThreadPoolExecutor) -> bool:
        match question.decode("ascii", "replace").removesuffix("\n").split(" "):
            case [number, "issue", name] if number.isdecimal():
                try:
                    domain = self._duties.parse(name)
                except NameRejected:
                    return False
                self._begin(pool, number, partial(self._issue, domain))
            case [number, "store"] if number.isdecimal():
                self._begin(pool, number, self._look)
            case ["close"]:
                self._is_closed = True
                self._duties.issue.close()
            case _:
                return False
        return True

    def _begin(self, pool: ThreadPoolExecutor, number: str, do: Callable[[], bytes]) -> None:
        self._free.acquire()  # the other process asks for no more than this; one that was taken over might
        pool.submit(self._answer, number, do)

    def _answer(self, number: str, do: Callable[[], bytes]) -> None:
        try:
            told = do()
            with self._saying, suppress(OSError):  # who has hung up is told nothing
                self._line.sendall(b"%s %s\n" % (number.encode(), told))
        finally:
            self._free.release()

    def _issue(self, domain: Domain) -> bytes:
        try:
            return self._duties.issue(domain).to_json()
        except Exception as bug:  # noqa: BLE001 - one name's trouble is not another's
            return of_failure(unforeseen(bug), self._settings).to_json()

    def _look(self) -> bytes:
        return json.dumps(self._duties.store_up()).encode()
