"""The line between the process without rights and the one with them: a name goes over, and nothing else does."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from certctl.domain import Domain, parse_domain
from certctl.errors import NotReady
from certctl.serve import monitor as under_test
from certctl.serve.answers import READY, Answer, Kind, Outcome
from certctl.serve.monitor import Duties, Monitor
from certctl.serve.settings import ServeSettings
from certctl.serve.unprivileged import Unprivileged
from tests.fakes.serving import NAMES

if TYPE_CHECKING:
    from certctl.values import Delegation

SECONDS = 10
SETTINGS = ServeSettings(threads=2)
NAME = Domain("status.example.com")
ISSUED = Outcome(READY, "issued", changed=True, orders=1, expires=datetime(2027, 2, 21, tzinfo=UTC))
RESTING = Outcome(
    Answer(Kind.RESTING, timedelta(seconds=60.5), "ca-refused"), who="us", message="a \n <3>\x1b line"
)


@dataclass
class Issuer:
    outcome: Outcome | Exception = ISSUED
    asked: list[Domain] = field(default_factory=list)
    closed: bool = False
    gate: threading.Event | None = None

    def __call__(self, domain: Domain) -> Outcome:
        self.asked.append(domain)
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
    cleaned: list[bool]

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
    issuer, cleaned = issuer or Issuer(), list[bool]()
    duties = Duties(lambda text: parse_domain(text, NAMES), issuer, lambda: True, lambda: cleaned.append(True))
    thread = threading.Thread(target=Monitor(theirs, duties, SETTINGS).listen)
    thread.start()
    with ours:
        yield Monitored(ours, issuer, thread, cleaned)
    thread.join(SECONDS)


def points_here(_: Domain) -> "Delegation":
    return None  # type: ignore[return-value]  # only whether it raises matters


def unprivileged(
    here: Monitored, verify: "Callable[[Domain], Delegation]" = points_here, lost: Callable[[], None] = lambda: None
) -> Unprivileged:
    return Unprivileged(here.line, verify, SETTINGS, lost)


@pytest.mark.parametrize("outcome", [ISSUED, RESTING])
def test_an_outcome_comes_back_as_it_was(outcome: Outcome) -> None:
    with monitored(Issuer(outcome)) as here:
        ours = unprivileged(here)
        assert ours(NAME) == outcome
        assert here.issuer.asked == [NAME]
        assert ours.store_up() is True
        ours.leave()


def test_a_name_that_does_not_point_here_is_no_business_of_the_monitors() -> None:
    def points_elsewhere(domain: Domain) -> "Delegation":
        raise NotReady("dns-cname-mismatch", f"{domain} points elsewhere")

    with monitored() as here:
        ours = unprivileged(here, points_elsewhere)
        outcome = ours(NAME)
        assert (outcome.answer.kind, outcome.answer.slug, outcome.who) == (
            Kind.REFUSED,
            "dns-cname-mismatch",
            "customer",
        )
        ours.leave()
        assert here.ended()
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
        ours.leave()


def test_what_nobody_foresaw_ends_one_name_and_not_the_monitor() -> None:
    with monitored(Issuer(ZeroDivisionError("a bug"))) as here:
        ours = unprivileged(here)
        assert ours(NAME).answer.slug == "internal"
        assert ours.store_up() is True
        ours.leave()


@pytest.mark.parametrize(
    "question",
    [
        b"hello\n",
        b"issue status.example.com\n",
        b"x issue status.example.com\n",
        b"-1 issue status.example.com\n",
        b"1 issue ../../etc/passwd\n",
        b"1 issue status.hyperping.io\n",
        b"1 issue *.example.com extra\n",
        b"1 issue localhost\n",
        b"1 issue st\xc3\xa4tus.example.com\n",
        b"1 remove status.example.com\n",
        b"1 issue " + b"a" * 400 + b"\n",
        b"\n",
        b"\0" * 1000,
    ],
)
def test_whoever_speaks_nonsense_was_taken_over_and_gets_nothing_more(
    question: bytes, stopping: threading.Event
) -> None:
    with monitored() as here:
        here.line.sendall(question + b"2 issue status.example.com\n")
        assert here.ended()
        assert (here.issuer.asked, here.cleaned, stopping.is_set()) == ([], [], True)


def test_a_monitor_asked_too_much_reads_no_further() -> None:
    with monitored(Issuer(gate=threading.Event())) as here:
        here.line.settimeout(0.2)
        questions = b"".join(b"%d issue status.example.com\n" % number for number in range(10**5))
        with pytest.raises(TimeoutError):
            here.line.sendall(questions)
        assert len(here.issuer.asked) <= SETTINGS.threads + 1
        assert here.issuer.gate
        here.issuer.gate.set()


def test_only_an_orderly_end_cleans_up() -> None:
    with monitored() as here:
        ours = unprivileged(here)
        ours.close()
        assert ours.store_up() is True, "what is at the CA goes on"
        assert here.issuer.closed
        ours.leave()
        assert here.ended()
        assert here.cleaned == [True]
    with monitored() as here:
        here.line.close()
        assert here.ended()
        assert here.cleaned == []


def test_a_monitor_that_ends_is_missed_by_everyone_who_waits() -> None:
    ours, theirs = socket.socketpair()
    lost, told = threading.Event(), list[Outcome]()
    with ours:
        front = Unprivileged(ours, points_here, SETTINGS, lost.set)
        waiting = threading.Thread(target=lambda: told.append(front(NAME)))
        waiting.start()
        assert theirs.recv(100) == b"0 issue status.example.com\n"
        theirs.close()
        waiting.join(SECONDS)
        assert lost.wait(SECONDS)
        assert [outcome.answer.kind for outcome in told] == [Kind.PREPARING]
        assert front(NAME).answer.kind is Kind.PREPARING
        assert front.store_up() is False
