"""Each command, killed before every kind of change it makes; then another command, then the same one again.

Real nginx, Pebble, certbot and DNS packets. ``./check`` tries the points whose numbers end like the count of
commits, ``./check --faults`` all of them. ``CERTCTL_KILL`` says which: ``all``, or numbers.
"""

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.killed_host import Hosts, KilledHost
from tests.faults.killing import Change, Killer, Point, build, commits, points, read
from tests.faults.whole import KILLED, ended, start

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(7200)]

MODES = ("blocks", "shared", "lua")
VERSIONS = 3
LEAST = 5  # points that each course has, or its record is not what it seems
MOST_MISSED = 1 / 8  # of the points of a course: what a run changes depends a little on what was there before


@dataclass(frozen=True)
class Act:
    """One command that is to be killed, on a host that is ready for it.

    Attributes:
        about: The name it is about; empty when it is about all.
        orders: How many orders it needs if nothing is lost.
        dark: Who need not be served until it has ended well.
        damaged: Whose files are spoilt until then.
        end: What else must hold when it has ended well.
    """

    argv: tuple[str, ...]
    about: str = ""
    orders: int = 0
    dark: frozenset[str] = frozenset()
    damaged: frozenset[str] = frozenset()
    end: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Course:
    """A command in a mode with an engine; ``ready`` makes a host ready for it."""

    command: str
    mode: str
    engine: str
    ready: Callable[[KilledHost], Act]

    def __str__(self) -> str:
        return f"{self.command}-{self.mode}-{self.engine}"

    def has(self, point: Point) -> bool:
        """Tell whether a point is this course's.

        What follows the CA is the same with both engines, what comes before it the same in both modes with a
        catch-all, whether it is issued or renewed.
        """
        is_the_cas = "acme/" in point.about or "challenges/" in point.about
        is_its_first = (self.command, self.mode) in {("issue", "blocks"), ("issue", "shared"), ("serve", "shared")}
        if self.engine == "certbot":
            return is_the_cas
        return not is_the_cas or is_its_first or (self.command, self.mode) == ("renew", "blocks")

    def notes(self, change: Change) -> bool:
        """Tell whether a change notes what the CA did: the order with one engine, the chain with the other."""
        call, name = ("rename", "begun.json") if self.engine == "acme" else ("write", "fullchain.pem")
        return change.call == call and re.search(rf"/acme/work/[^/]+/{name}$", change.subject) is not None


def issue(host: KilledHost) -> Act:
    name = host.fresh()
    return Act(("issue", name), name, 1, end=lambda: host.live.append(name))


def renew(host: KilledHost) -> Act:
    while host.version(host.subject) < VERSIONS:  # then one goes with each that comes
        host.sandbox.must("renew", host.subject, "--force")
    return Act(("renew", host.subject, "--force"), host.subject, 1)


def publish(host: KilledHost) -> Act:
    """Publish a name that was obtained; a reload shows it."""
    name = host.stocked("obtain")
    while (host.root / "var/lib/certctl/live" / name / "current").is_symlink():
        host.live.append(name)  # a reconcile that followed another kill has published it
        name = host.stocked("obtain")

    def end() -> None:
        host.sandbox.must("reload")
        host.live.append(name)

    return Act(("publish", name), name, end=end)


def remove(host: KilledHost) -> Act:
    name = host.stocked("issue")
    key = (host.pair(name) / "current/privkey.pem").read_bytes().splitlines()[1]
    return Act(("remove", name), name, dark=frozenset({name}), end=lambda: host.is_gone(name, key))


def reconcile(host: KilledHost) -> Act:
    """Mend a name whose block and pair were lost, and a key that somebody opened to all."""
    lost, opened = host.loser, host.subject
    (host.sandbox.layout.conf_dir / f"{lost}.conf").unlink(missing_ok=True)
    subprocess.run(["rm", "-r", str(host.pair(lost))], check=True)
    (host.pair(opened) / "current/privkey.pem").chmod(0o644)
    return Act(("reconcile",), dark=frozenset({lost}), damaged=frozenset({lost, opened}))


def serve(host: KilledHost) -> Act:
    name = host.fresh()
    return Act(("serve",), name, 1, end=lambda: host.live.append(name))


def move_to(mode: str) -> Callable[[KilledHost], Act]:
    """Return what makes a host ready to be moved."""

    def ready(host: KilledHost) -> Act:
        host.send_home()

        def end() -> None:
            assert host.mode == mode

        return Act(("init", "--mode", mode), end=end)

    return ready


COMMANDS = {
    "issue": issue, "renew": renew, "remove": remove, "reconcile": reconcile, "publish": publish, "serve": serve
}  # fmt: skip
COURSES = [
    *(
        course
        for mode in MODES
        for course in (
            *(Course(command, mode, "acme", ready) for command, ready in COMMANDS.items()),
            *(Course(f"init-to-{new}", mode, "acme", move_to(new)) for new in MODES if new != mode),
        )
    ),
    Course("issue", "blocks", "certbot", issue),
    Course("renew", "blocks", "certbot", renew),
    Course("issue", "shared", "certbot", issue),
]

# Another command, and how many orders it takes.
OTHERS: dict[str, Callable[[KilledHost], int]] = {}


def another(command: str) -> Callable[[Callable[[KilledHost], int]], Callable[[KilledHost], int]]:
    """Note a command that may follow a killed one."""

    def note(run: Callable[[KilledHost], int]) -> Callable[[KilledHost], int]:
        OTHERS[command] = run
        return run

    return note


@another("issue")
def issue_another(host: KilledHost) -> int:
    host.sandbox.must("issue", name := host.fresh())
    host.live.append(name)
    return 1


@another("renew")
def renew_the_neighbour(host: KilledHost) -> int:
    host.sandbox.must("renew", host.neighbour, "--force")
    return 1


@another("reconcile")
def reconcile_all(host: KilledHost) -> int:
    host.sandbox.must("reconcile")
    return 0


@another("serve")
def first_visit_of_another(host: KilledHost) -> int:
    host.visit(name := host.fresh())
    host.live.append(name)
    return 1


def follower(course: Course, point: Point) -> str:
    """Return which other command follows at a point: each in turn."""
    others = [command for command in OTHERS if command != course.command]
    return others[point.number // 10 % len(others)]


class NotReached(Exception):
    """The command came to its end: this time it did not do what it did when it was recorded."""


@dataclass
class Trial:
    """One course, point after point; a new host for the next one when somebody was harmed."""

    course: Course
    killer: Killer
    place: Path
    hosts: Hosts
    failures: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    after: str = ""
    noted: int = 0
    host: KilledHost = field(init=False)

    def ready(self) -> Act:
        """Have a host that is ready for the command."""
        self.host = self.hosts.get(self.course.mode, self.course.engine)
        return self.course.ready(self.host)

    def recorded(self) -> list[Point]:
        """Run the command once; return where it may be killed."""
        log = self.place / "changes"
        act = self.ready()
        self.run(act, self.killer.record(log), 0)
        act.end()
        self.host.is_well()
        changes = read(log, self.host.places)
        self.noted = next((index for index, change in enumerate(changes) if self.course.notes(change)), 0)
        found = [point for point in points(str(self.course), changes) if self.course.has(point)]
        if not act.about:  # how many customers there are differs from point to point, and so does the last of them
            found = [point for point in found if point.which != "last" or "NAME" not in point.about]
        assert len(found) >= LEAST, found
        return found

    def run(self, act: Act, prefix: list[str], code: int) -> None:
        """Run a command to its end; a daemon gets its first visit, and is stopped."""
        if act.argv == ("serve",):
            ran, _ = self.host.visited(act.about, prefix)
        else:
            ran = ended(start(self.host.sandbox, *act.argv, prefix=prefix), 120)
        if code == KILLED and ran.code == 0:
            raise NotReached
        assert ran.code == code, f"{' '.join(act.argv)} ended with {ran.code}, not {code}: {ran.err[-2000:]}"

    def at(self, point: Point) -> None:
        """Kill, look; run another command, look; run the same again, look."""
        self.after = "getting ready"
        act, host = self.ready(), self.host
        ca = Orders(host, act)
        self.after = "the kill"
        self.run(act, self.killer.kill(point, host.places), KILLED)
        ca.look(is_noted=point.index > self.noted)
        host.is_whole(act.dark, act.damaged)
        self.after = other = follower(self.course, point)
        ca.allowed += OTHERS[other](host)
        host.is_whole(act.dark, act.damaged)
        self.after = f"{other} and the same again"
        host.let_probes_age()
        self.run(act, [], 0)
        act.end()
        host.is_well()
        ca.judge()
        host.thin_out()

    def every(self, chosen: list[Point]) -> None:
        for point in chosen:
            began = time.monotonic()
            try:
                self.at(point)
                verdict = "well"
            except NotReached:
                verdict = "not reached"
                self.missed.append(f"{point}: {verdict}\n    again: {repeat(point)}")
            except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
                words, _, _ = str(error).partition("\nassert ")
                verdict = f"after {self.after}: {words}"
                self.failures.append(f"{point}: {verdict}\n    again: {repeat(point)}")
                self.hosts.throw_away()
            print(f"{time.monotonic() - began:5.1f} s  {point}: {verdict}")


@dataclass
class Orders:
    """What the CA may be asked for: once for a name, and again only when nobody could know that it was."""

    host: KilledHost
    act: Act
    allowed: int = field(init=False)

    def __post_init__(self) -> None:
        self.allowed = self.act.orders
        self.before = (self.host.sandbox.orders(), self.host.watch.issued)
        self.version = self.host.version(self.act.about)

    def look(self, *, is_noted: bool) -> None:
        """Look right after the kill: what was noted need not be done again, what was stored is done."""
        is_stored = self.host.version(self.act.about) > self.version
        is_asked = self.host.sandbox.orders() > self.before[0]
        if is_stored and "--force" in self.act.argv:
            self.allowed += 1  # somebody insists once more
        elif is_asked and not is_stored and not is_noted:
            self.allowed += 1

    def judge(self) -> None:
        orders, issued = self.host.sandbox.orders() - self.before[0], self.host.watch.issued - self.before[1]
        assert max(orders, issued) <= self.allowed, f"{orders} orders, {issued} certificates, {self.allowed} needed"


def repeat(point: Point) -> str:
    """Return what tries one point again."""
    return f"CERTCTL_KILL={point.number} .venv/bin/pytest -s tests/faults/test_killed.py -k {point.course}"


def is_chosen(point: Point) -> bool:
    """Tell whether a point is to be tried in this session: the share of this commit, unless CERTCTL_KILL says."""
    asked = os.environ.get("CERTCTL_KILL", "")
    if asked:
        return asked == "all" or point.number in map(int, asked.split(","))
    return point.number % 10 == commits() % 10


@pytest.fixture(scope="session")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Killer:
    return build(tmp_path_factory.mktemp("killer"))


@pytest.fixture(scope="session")
def hosts(real_parts: None) -> Iterator[Hosts]:  # noqa: ARG001
    hosts = Hosts()
    yield hosts
    hosts.throw_away()


@pytest.mark.parametrize("course", COURSES, ids=str)
def test_killed_anywhere_nobody_is_harmed_and_whatever_comes_next_ends_well(
    course: Course, killer: Killer, hosts: Hosts, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    trial = Trial(course, killer, tmp_path, hosts)
    try:
        found = trial.recorded()
    except AssertionError:
        hosts.throw_away()
        raise
    chosen = [point for point in found if is_chosen(point)]
    began = time.monotonic()
    trial.every(chosen)
    record_property("killed", (len(chosen), len(found), time.monotonic() - began))
    if len(trial.missed) > len(found) * MOST_MISSED or len(trial.missed) == len(chosen):
        trial.failures += trial.missed
    if trial.failures:
        pytest.fail(f"{len(trial.failures)} of {len(chosen)}:\n" + "\n".join(trial.failures), pytrace=False)
