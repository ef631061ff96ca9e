"""The line between the process without rights and the one with them: a name goes over, and nothing else does."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from certctl.domain import Domain, parse_domain
from certctl.errors import Busy, CertctlError, ConfigInvalid, Interrupted, NotReady, Refused, Unreachable
from certctl.serve import privsep_monitor as under_test
from certctl.serve.answers import READY, Answer, Kind, WireResult, of_result
from certctl.serve.privsep_child import PrivsepChild
from certctl.serve.privsep_monitor import PrivilegedOperations, PrivsepMonitor
from certctl.serve.settings import ServeSettings
from certctl.serve.worker import Silent
from certctl.slugs import Slug
from certctl.stories.journey import Journey
from certctl.stories.result import Step, StepTaken
from certctl.values import Delegation
from tests.fakes.serving import NAMES, verified

SECONDS = 120
SETTINGS = ServeSettings(threads=2)
NAME = Domain("status.example.com")
SAID = 'CNAME → status.hyperping.io, "2 of 2"\n<3>\x1b agree'
ASKED = b'issue status.example.com "CNAME"\n'
ISSUED = WireResult(READY, "issued", changed=True, orders=1, expires=datetime(2027, 2, 21, tzinfo=UTC))
RESTING = WireResult(
    Answer(Kind.RESTING, timedelta(seconds=60.5), Slug.CA_REFUSED), who="us", message="a \n <3>\x1b line"
)


@dataclass
class Issuer:
    outcome: WireResult | Exception = ISSUED
    asked: list[Domain] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    closed: bool = False
    gate: threading.Event | None = None

    def issue_verified(self, delegation: Delegation) -> WireResult:
        self.asked.append(delegation.domain)
        self.told.append(delegation.summary)
        if self.gate:
            assert self.gate.wait(SECONDS)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def close(self) -> None:
        self.closed = True


@dataclass
class Monitored:
    """A monitor on a thread, and our end of its line."""

    line: socket.socket
    issuer: Issuer
    thread: threading.Thread
    approves_everything: bool = False

    def probe(self) -> None:
        if self.approves_everything:
            raise ConfigInvalid(Slug.APPROVAL_APPROVES_EVERYTHING, "it says yes", seen=["200"], expected=["404"])

    def ended(self) -> bool:
        self.thread.join(SECONDS)
        return not self.thread.is_alive()


@pytest.fixture(autouse=True)
def stopping(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Keep what a monitor tells its own process from this one."""
    event = threading.Event()
    monkeypatch.setattr(under_test, "stopping", event)
    return event


@contextmanager
def monitored(issuer: Issuer | None = None) -> Iterator[Monitored]:
    ours, theirs = socket.socketpair()
    issuer = issuer or Issuer()
    with ours:
        here = Monitored(ours, issuer, threading.Thread())
        duties = PrivilegedOperations(lambda text: parse_domain(text, NAMES), issuer, here.probe, lambda: True)
        here.thread = threading.Thread(target=PrivsepMonitor(theirs, duties, SETTINGS).work)
        here.thread.start()
        yield here
        with suppress(OSError):
            ours.shutdown(socket.SHUT_RDWR)
    assert here.ended()


def points_here(domain: Domain) -> Delegation:
    return verified(domain, SAID)


def unprivileged(
    here: Monitored, verify: Callable[[Domain], Delegation] = points_here, lost: Callable[[], None] = lambda: None
) -> PrivsepChild:
    return PrivsepChild(here.line, verify, SETTINGS, lost)


@pytest.mark.parametrize("outcome", [ISSUED, RESTING])
def test_an_outcome_comes_back_as_it_was(outcome: WireResult) -> None:
    with monitored(Issuer(outcome)) as here:
        ours = unprivileged(here)
        assert ours(NAME) == outcome
        assert (here.issuer.asked, here.issuer.told) == ([NAME], [SAID])
        assert ours.store_up() is True


@pytest.mark.parametrize(
    ("error", "kind", "seconds", "who"),
    [
        (NotReady(Slug.DNS_CNAME_MISMATCH, "it points elsewhere"), Kind.REFUSED, 30, "customer"),
        (Unreachable(Slug.DNS_UNREACHABLE, "no resolver answers"), Kind.UNSURE, 10, "nobody"),
    ],
)
def test_a_name_that_does_not_point_here_is_no_business_of_the_monitors(
    error: CertctlError, kind: Kind, seconds: int, who: str
) -> None:
    def points_elsewhere(_: Domain) -> Delegation:
        raise error

    with monitored() as here:
        ours = unprivileged(here, points_elsewhere)
        outcome = ours(NAME)
        assert outcome.answer == Answer(kind, timedelta(seconds=seconds), error.slug)
        assert (outcome.who, outcome.message) == (who, error.message)
    assert here.issuer.asked == []


def test_names_do_not_wait_for_each_other() -> None:
    with monitored(Issuer(gate=threading.Event())) as here:
        ours = unprivileged(here)
        first = threading.Thread(target=ours, args=(NAME,))
        first.start()
        assert ours.store_up() is True
        assert first.is_alive()
        assert here.issuer.gate
        here.issuer.gate.set()
        first.join(SECONDS)


def test_answers_that_come_at_once_do_not_mix() -> None:
    long = replace(RESTING, message="x" * 500_000)  # more than a socket takes at once
    with monitored(Issuer(long, gate=threading.Event())) as here:
        for number in range(4):
            here.line.sendall(b"%d " % number + ASKED)
        while len(here.issuer.asked) < 4:
            time.sleep(0.01)
        assert here.issuer.gate
        here.issuer.gate.set()
        with here.line.makefile("rb") as heard:
            told = dict(heard.readline().split(b" ", 1) for _ in range(4))
    assert {number: WireResult.from_json(line) for number, line in told.items()} == dict.fromkeys(
        (b"0", b"1", b"2", b"3"), long
    )


def test_what_nobody_foresaw_ends_one_name_and_not_the_monitor() -> None:
    with monitored(Issuer(ZeroDivisionError("a bug"))) as here:
        ours = unprivileged(here)
        assert ours(NAME).answer.slug == "internal"
        assert ours.store_up() is True


@pytest.mark.parametrize(
    "question",
    [
        b"hello\n",
        b"issue status.example.com\n",
        b"x issue status.example.com\n",
        b"-1 issue status.example.com\n",
        b"1 issue status.example.com\n",
        b"1 issue status.example.com CNAME\n",
        b'1 issue status.example.com "CNAME" more\n',
        b'1 issue status.example.com "\xff\n',
        b"1 issue status.example.com " + b"[" * 5000 + b"\n",
        b'1 issue status.example.com "\\ud800"\n',
        b"1 issue status.example.com 7\n",
        b'1 issue ../../etc/passwd "CNAME"\n',
        b'1 issue status.hyperping.io "CNAME"\n',
        b'1 issue *.example.com "CNAME"\n',
        b'1 issue localhost "CNAME"\n',
        b'1 issue st\xc3\xa4tus.example.com "CNAME"\n',
        b'1 remove status.example.com "CNAME"\n',
        b'1 issue status.example.com "' + b"a" * 9000 + b'"\n',
        b"\n",
        b"\0" * 1000,
    ],
)
def test_whoever_speaks_nonsense_was_taken_over_and_gets_nothing_more(
    question: bytes, stopping: threading.Event
) -> None:
    with monitored() as here:
        here.line.sendall(question + b"2 " + ASKED)
        assert here.ended()
        assert (here.issuer.asked, stopping.is_set()) == ([], True)


def test_a_monitor_asked_too_much_reads_no_further() -> None:
    with monitored(Issuer(gate=threading.Event())) as here:
        here.line.settimeout(0)
        taken = [fill(here.line), fill(here.line)]
        assert taken[0] > 0
        assert taken[1] == 0
        assert here.issuer.gate
        here.issuer.gate.set()
        here.line.settimeout(SECONDS)
        assert here.line.recv(2) == b"0 ", "and goes on once there is room"


def fill(line: socket.socket) -> int:
    """Ask until nothing more is taken for a while; return how many bytes were."""
    taken, quiet_since = 0, time.monotonic()
    while time.monotonic() - quiet_since < 1:
        with suppress(BlockingIOError):
            taken += line.send((b"0 " + ASKED) * 100)
            quiet_since = time.monotonic()
    return taken


def test_asked_to_close_it_lets_nothing_begin_and_what_is_at_the_ca_go_on() -> None:
    with monitored() as here:
        ours = unprivileged(here)
        ours.close()
        assert ours.store_up() is True
        assert here.issuer.closed


@pytest.mark.parametrize("unread", [b"", b"1 " + ASKED])
def test_a_process_that_dies_ends_what_is_done_for_it(unread: bytes, stopping: threading.Event) -> None:
    with monitored() as here:
        here.line.sendall(unread)
        while unread and not here.issuer.asked:
            time.sleep(0.01)
        here.line.close()  # with an answer unread the other end hears of a reset, not of an end
        assert here.ended()
        assert stopping.is_set()


def test_a_monitor_whose_listener_died_does_not_wait_for_what_is_at_the_ca(stopping: threading.Event) -> None:
    with monitored(Issuer(gate=threading.Event())) as here:
        here.line.sendall(b"1 " + ASKED)
        while not here.issuer.asked:
            time.sleep(0.01)
        here.line.close()
        here.thread.join(SECONDS / 6)
        assert (here.thread.is_alive(), stopping.is_set()) == (False, True)
        assert here.issuer.gate
        here.issuer.gate.set()


def test_the_monitor_ends_as_its_listener_did_and_a_signal_that_comes_too_late_is_no_trouble() -> None:
    script = """
import os, signal
from certctl.serve.privsep_monitor import PrivilegedOperations, fork_and_monitor
from certctl.serve.settings import ServeSettings
from tests.unit.test_serve_monitor import Issuer
code = fork_and_monitor(
    lambda line: 5, [], PrivilegedOperations(str, Issuer(), print, bool), ServeSettings(threads=1)
)
os.kill(os.getpid(), signal.SIGTERM)
print(code)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, "5\n"), ended.stderr


def test_the_approval_endpoint_is_probed_by_who_asks_it() -> None:
    with monitored() as here:
        ours = unprivileged(here)
        ours.probe()
        here.approves_everything = True
        with pytest.raises(ConfigInvalid) as caught:
            ours.probe()
        error = caught.value
        assert (error.slug, error.message, error.seen, error.expected) == (
            "approval-approves-everything",
            "it says yes",
            ("200",),
            ("404",),
        )


def test_a_monitor_that_ends_is_missed_at_once() -> None:
    ours, theirs = socket.socketpair()
    lost = threading.Event()
    with ours:
        front = PrivsepChild(ours, points_here, SETTINGS, lost.set)
        theirs.close()
        assert lost.wait(SECONDS)
        assert front(NAME).answer.kind is Kind.PREPARING
        assert front.store_up() is False
        front.close()  # which is no trouble


@pytest.mark.parametrize(
    ("failed", "error", "orders"),
    [
        (Step.CONFIRM, Busy(Slug.BUSY, "nginx is being changed"), 1),
        (Step.OBTAIN, Refused(Slug.CA_REFUSED, "no"), 1),
        (Step.OBTAIN, Busy(Slug.SERVE_BUSY, "no turn"), 0),
        (Step.OBTAIN, Interrupted(Slug.INTERRUPTED, "stopped before"), 0),
        (Step.OBTAIN, ConfigInvalid(Slug.STATE_UNWRITABLE, "too little room"), 0),
        (Step.VERIFY, NotReady(Slug.DNS_NO_SUCH_NAME, "nothing"), 0),
    ],
)
def test_an_order_counts_when_the_ca_was_asked(failed: Step, error: CertctlError, orders: int) -> None:
    journey = Journey(NAME, Silent())
    for step in (Step.VERIFY, Step.OBTAIN, Step.CONFIRM):
        journey.steps.append(StepTaken(step, step is not failed, 1, ""))
        if step is failed:
            break
    journey.changed = bool(orders)
    journey.fail(error)
    outcome = of_result(journey.result, SETTINGS, datetime(2026, 11, 23, tzinfo=UTC))
    assert (outcome.orders, outcome.changed) == (orders, bool(orders))
