"""A host on which certctl meets calls that fail and a clock that is off, without a new Python for each run."""

import errno
import json
import os
import sqlite3
import ssl
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import IntFlag
from mmap import mmap
from pathlib import Path
from typing import Any

from certctl.errors import CATALOGUE
from tests.e2e.real_sandbox import Ran, Sandbox
from tests.faults.whole import Watch

_SOURCE = Path(__file__).with_name("faulty.c")
_PLAN = struct.Struct("=qii4096s4096s")  # ``struct plan`` there


class Call(IntFlag):
    """Kinds of system calls that change the disk (``enum kind`` in faulty.c)."""

    WRITE = 1
    FLUSH = 2
    RENAME = 4
    LINK = 8
    MKDIR = 16
    CREATE = 32
    UNLINK = 64
    RIGHTS = 128


ANY = Call(255)


@dataclass(frozen=True)
class Fault:
    """Calls of a kind fail in a place of the host, or below it; ``{name}`` there is the name a run is about.

    Which call of a run fails is said by places: how many there were before it is nobody's promise.

    Attributes:
        after: A place that is there before the first call fails.
    """

    place: str
    calls: Call = ANY
    error: int = errno.EIO
    after: str = ""

    def about(self, name: str) -> "Fault":
        """Return the fault for a run about a name."""
        return replace(self, place=self.place.format(name=name), after=self.after.format(name=name))

    def __str__(self) -> str:
        when = f", after {self.after}" if self.after else ""
        return f"{self.calls!r} in {self.place}{when}: {errno.errorcode[self.error]}"


class Plan:
    """What faulty.c reads, in a file that both map: what runs with it meets a change at once."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(_PLAN.size))
        with path.open("r+b") as file:
            self._map = mmap(file.fileno(), _PLAN.size)

    def set(self, root: Path | None = None, fault: Fault | None = None, clock: timedelta = timedelta()) -> None:
        """Let calls fail, or the clock be off, or neither."""
        seconds = round(clock.total_seconds())
        if root and fault:
            place = os.fsencode(root / fault.place)
            after = os.fsencode(root / fault.after) if fault.after else b""
            self._map[:] = _PLAN.pack(seconds, fault.calls, fault.error, place, after)
        else:
            self._map[:] = _PLAN.pack(seconds, 0, 0, b"", b"")


def preload(place: Path) -> Path:
    """Compile what certctl is preloaded with."""
    library = place / "faulty.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(_SOURCE)], check=True)
    return library


@dataclass
class FaultyHost(Watch):
    """A sandbox in mode shared with two canaries, one of which has a server block of its own.

    Attributes:
        place: A directory of the test's own.
        neighbour: The canary with a server block.
    """

    place: Path = field(kw_only=True)
    neighbour: str = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.plan = Plan(self.place / "plan")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CERTCTL_")}
        self.env = clean | {
            "CERTCTL_CONFIG": str(self.sandbox.addresses["config"]),
            "CERTCTL_TEST_PLAN": str(self.place / "plan"),
            "LD_PRELOAD": str(preload(self.place)),
        }
        self._server = self._start()
        self._neighbour_before = self.served(self.neighbour)

    def _start(self) -> "subprocess.Popen[str]":
        argv = [sys.executable, "-m", "tests.faults.prefork"]
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True, env=self.env)

    def close(self) -> None:
        """End what runs the commands."""
        self._server.communicate()

    def certctl(self, *arguments: str) -> Ran:
        """Run a command as it is typed."""
        (ran,) = self.at_once(arguments)
        return ran

    def _answers(self, commands: list[list[str]]) -> list[list[Any]]:
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.write(json.dumps(commands) + "\n")
        self._server.stdin.flush()
        answers: list[list[Any]] = json.loads(self._server.stdout.readline())
        return answers

    def at_once(self, *commands: Sequence[str]) -> list[Ran]:
        """Run commands side by side, each in a process of its own."""
        return [Ran(*answer) for answer in self._answers([list(command) for command in commands])]

    def ends(self, *arguments: str) -> str:
        """Run a command; return the slugs it ends with, which must fit the exit code, or ``ok``."""
        ran = self.certctl(*arguments, "--json")
        assert "Traceback" not in ran.err, ran
        if ran.code == 0:
            return "ok"
        document = ran.json
        errors = [document["error"]] if document.get("error") else [r["error"] for r in document["results"]]
        slugs = sorted({error["code"] for error in errors if error})
        codes = {CATALOGUE[slug].family.exit_code for slug in slugs}
        assert ran.code == (codes.pop() if len(codes) == 1 else 1), ran
        return " ".join(slugs)

    @contextmanager
    def failing(self, fault: Fault) -> Iterator[None]:
        """Let calls fail for a block."""
        self.plan.set(self.root, fault)
        try:
            yield
        finally:
            self.plan.set()

    @contextmanager
    def by_the_clock(self, off: timedelta) -> Iterator[None]:
        """Set this host's clock wrong for a block."""
        self.plan.set(clock=off)
        try:
            yield
        finally:
            self.plan.set()

    def open_keys(self) -> list[str]:
        """Return keys that others than their owner and nginx's workers could read."""
        keys = (p for p in self.files() if p.suffix == ".pem" or p.name.endswith(".tmp"))
        return [str(path) for path in keys if path.stat().st_mode & 0o137 and b"PRIVATE KEY" in path.read_bytes()]

    def nobody_is_harmed(self, when: str = "") -> None:
        """Insist on it for both canaries."""
        super().nobody_is_harmed(when)
        assert self.served(self.neighbour) == self._neighbour_before, when

    def traces(self, name: str) -> list[str]:
        """Return what is left of a name where its keys have been."""
        places = ("live", "../certctl-sites", "aside", "acme/work")
        return [str(path) for place in places for path in (self.state / place).rglob(f"*{name}*")]

    def leaf(self, name: str) -> str | None:
        """Return the fingerprint of what nginx shows for a name, None for nothing."""
        try:
            return self.served(name)
        except ssl.SSLError:
            return None

    def makes_due(self, name: str) -> None:
        """Have the CA suggest that a certificate is renewed now."""
        ask_at = datetime.now(UTC) + timedelta(hours=6)
        with closing(sqlite3.connect(self.state / "certctl.db")) as db, db:
            db.execute(
                "INSERT OR REPLACE INTO suggestion SELECT name, version, ?, ? FROM domain WHERE name = ?",
                ("2020-01-01T00:00:00.000+00:00", ask_at.isoformat(timespec="milliseconds"), name),
            )


def live(sandbox: Sandbox, place: Path) -> FaultyHost:
    """Let the two canaries be live in a sandbox."""
    config = sandbox.layout.config
    config.write_text(config.read_text().replace("[ca]\n", '[ca]\nengine = "acme"\n'))
    canary, neighbour = sandbox.customer("canary.example.com"), sandbox.customer("neighbour.example.com")
    sandbox.must("issue", canary)
    sandbox.must("issue", "--mode", "blocks", neighbour)
    return FaultyHost(sandbox, canary, place=place, neighbour=neighbour)
