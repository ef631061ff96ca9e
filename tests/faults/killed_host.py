"""A sandbox in which one run after another is killed, and what must hold in it after each run."""

import grp
import http.client
import os
import pwd
import re
import signal
import socket
import sqlite3
import subprocess
import tempfile
from collections.abc import Collection, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from shutil import copy

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.e2e.real_sandbox import DAEMON, GROUP, Ran, Sandbox, own_host, rewrite
from tests.faults.whole import Watch, ended, start, until

_POOL = 100  # names that become customers' at once
_MIRRORS = ("var/lib/certctl-sites", "var/lib/certctl/live")
_MOST_LIVE = 12
_STOCK = 6
_CLOSED = {"directory 700 root:root", "privkey.pem 600 root:root", "fullchain.pem 644 root:root"}
_OPEN = {f"{what} {DAEMON}:{GROUP}" for what in ("directory 750", "privkey.pem 640", "fullchain.pem 644")}


@dataclass
class KilledHost:
    """A sandbox with live customers, and names that are to become some.

    Attributes:
        live: Who is served, and must be at every moment.
    """

    sandbox: Sandbox
    engine: str
    live: list[str] = field(default_factory=list)
    watch: Watch = field(init=False)
    _made: int = 0
    _fresh: list[str] = field(default_factory=list)
    _stocks: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rewrite(self.sandbox.layout.config, "[ca]\n", f'[ca]\nengine = "{self.engine}"\n')
        self.canary, self.neighbour, self.subject, self.loser = (self.fresh() for _ in range(4))
        self.live += [self.canary, self.neighbour, self.subject, self.loser]
        self.sandbox.must("issue", *self.live, "--jobs", "8")
        if self.mode != "blocks":
            self.live.append(self.fresh())
            self.sandbox.must("issue", self.live[-1], "--mode", "blocks")
        self.regulars = len(self.live)
        self.watch = Watch(self.sandbox, self.canary)

    @property
    def root(self) -> Path:
        return self.sandbox.layout.root

    @property
    def mode(self) -> str:
        """Return the mode the configuration names."""
        found = re.search(r'^mode = "(\w+)"', self.sandbox.layout.config.read_text(), re.MULTILINE)
        assert found
        return found[1]

    @property
    def places(self) -> dict[str, str]:
        """Return what differs from sandbox to sandbox."""
        ports = {
            name: str(self.sandbox.addresses[name]) for name in ("http", "https", "approval", "acme_directory")
        }
        numbers = {name: re.findall(r":(\d+)", address)[0] for name, address in ports.items()}
        return numbers | {"root": str(self.root)}

    def fresh(self) -> str:
        """Return a customer's name that certctl has never seen."""
        if not self._fresh:
            self._fresh = [f"n{number}.test" for number in range(self._made, self._made + _POOL)]
            self.sandbox.customers(self._fresh)
            self._made += _POOL
        return self._fresh.pop()

    def stocked(self, command: str) -> str:
        """Return a name that was issued, or only obtained, in a batch."""
        stock = self._stocks.setdefault(command, [])
        if not stock:
            stock += [self.fresh() for _ in range(_STOCK)]
            self.sandbox.must(command, *stock, "--jobs", "8")
        return stock.pop()

    def thin_out(self) -> None:
        """Remove customers of earlier points when there are many: each that is live is looked at after each run."""
        if len(self.live) > _MOST_LIVE:
            self.sandbox.must("remove", *self.live[self.regulars :])
            del self.live[self.regulars :]

    def send_home(self) -> None:
        """Remove all customers but the first ones, so that a run that takes each along does the same every time."""
        extra = [*self.live[self.regulars :], *chain.from_iterable(self._stocks.values())]
        if extra:
            self.sandbox.must("remove", *extra)
        del self.live[self.regulars :]
        self._stocks.clear()

    def pair(self, name: str) -> Path:
        """Return the directory of a name's pairs."""
        places = [self.root / top / name for top in _MIRRORS]
        return next(place for place in places if (place / "current").exists())

    def stored(self) -> dict[str, tuple[int, str]]:
        """Return the newest version of each name, and its fingerprint; a copy is asked, so that nobody notices."""
        with tempfile.TemporaryDirectory() as place:
            for path in (self.root / "var/lib/certctl").glob("certctl.db*"):
                if not path.name.endswith("-shm"):
                    copy(path, place)
            with closing(sqlite3.connect(Path(place) / "certctl.db")) as store:
                rows = store.execute(
                    "SELECT domain, version, fingerprint FROM certificate ORDER BY version"
                ).fetchall()
        return {name: (version, fingerprint) for name, version, fingerprint in rows}

    def version(self, name: str) -> int:
        """Return the newest version of a name in the store, 0 for none."""
        return self.stored().get(name, (0, ""))[0]

    def let_probes_age(self) -> None:
        """Make the probes of killed runs as old as they will be: one that is young may be another run's."""
        for path in self.watch.challenges.glob("certctl-probe-*"):
            os.utime(path, (0, 0))

    # What must hold after each run

    def is_whole(self, dark: Collection[str] = (), damaged: Collection[str] = ()) -> None:
        """Insist that nginx's test passes, each customer has the own leaf, pairs load and keys are private.

        Args:
            dark: Who need not be served.
            damaged: Whose files a test has spoilt, and no run has mended yet.
        """
        argv = ["nginx", "-t", "-p", str(self.root), "-e", "stderr", "-c", str(self.sandbox.layout.nginx_conf)]
        test = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert test.returncode == 0, f"nginx could not start now: {test.stderr}"
        whole = {*self.live} - {*dark, *damaged}
        for name in self.live:
            assert name in dark or self.watch.is_served(name), f"{name} is not served"
        for place in self.pairs("current"):
            assert place.parent.name not in whole or loads(place), f"{place} does not load"
        for path in self.watch.files():
            assert set(path.parts) & set(damaged) or not is_open_key(path), f"{path} can be read by others"

    def pairs(self, version: str) -> list[Path]:
        """Return versions in the mirror: those in force, or all."""
        found = [path for top in _MIRRORS for path in (self.root / top).glob(f"*/{version}")]
        return [path for path in found if path.is_symlink() or path.is_dir()]

    def is_well(self) -> None:
        """Insist that each customer has the leaf in the store, that nothing lies about, and on every right."""
        self.is_whole()
        stored = self.stored()
        for name in self.live:
            assert self.watch.served(name) == stored[name][1], f"{name} is served with another than the store's"
        assert not (left := self.leftovers()), f"left over: {left}"
        known = {*self.live, *chain.from_iterable(self._stocks.values())}
        for place in self.pairs("*"):
            assert loads(place), f"{place} does not load"
            assert place.parent.name in known, f"nobody needs {place}"
        if os.geteuid() == 0:
            assert self.rights("certctl-sites") <= _CLOSED
            assert self.rights("certctl/live") <= (_CLOSED if self.mode == "blocks" else _OPEN)

    def leftovers(self) -> list[str]:
        """Return what nobody needs; the copy of a key is needed until nginx has it."""
        unpublished = self._stocks.get("obtain", [])
        return [path for path in self.watch.leftovers() if Path(path).name not in unpublished]

    def rights(self, place: str) -> set[str]:
        """Return the mode and the owner of everything in a place of the mirror."""
        top = self.root / "var/lib" / place
        paths = [path for path in (top, *top.rglob("*")) if not path.is_symlink() and not path.name.startswith(".")]
        return {f"{'directory' if path.is_dir() else path.name} {owned(path)}" for path in paths}

    def is_gone(self, name: str, key: bytes) -> None:
        """Insist that a name is nowhere but in the history, and its key nowhere at all."""
        assert not self.watch.is_served(name), f"{name} is still served"
        homes = [path for at in ("etc", "var/lib") for path in (self.root / at).rglob(f"{name}*")]
        assert not [path for path in homes if path.suffix != ".lock"], homes
        for path in self.watch.files():
            assert key not in path.read_bytes(), f"the key of {name} is still in {path}"

    # The daemon

    def visit(self, name: str) -> None:
        """Be the first visitor of a name: it must be live then."""
        ran, answer = self.visited(name)
        assert self.watch.is_served(name), f"{name} is not served after a first visit: {ran.err}{answer}"
        assert ran.code == 0, f"certctl serve ended with {ran.code}: {ran.err}"

    def visited(self, name: str, prefix: Sequence[str] = ()) -> tuple[Ran, str]:
        """Run ``certctl serve`` and visit a name until it is live; return the daemon's end and the last answer.

        Live is who is served and whose key lies nowhere else. At the end the daemon is stopped, unless it has died.
        """
        self.sandbox.layout.serve_socket.unlink(missing_ok=True)
        run, answers = start(self.sandbox, "serve", prefix=prefix), [""]

        def is_over() -> bool:
            answers.append(self.knock(name))
            is_live = self.watch.is_served(name) and not (self.watch.state / "acme/work" / name).exists()
            return run.poll() is not None or is_live

        try:
            until(lambda: run.poll() is not None or listens(self.sandbox.layout.serve_socket))
            with suppress(AssertionError):
                until(is_over, 60)
        finally:
            if run.poll() is None:
                run.send_signal(signal.SIGTERM)
            ran = ended(run, 120)
        return ran, answers[-1]

    def knock(self, name: str) -> str:
        """Visit a name on port 80, whatever comes of it; return the answer in words."""
        address, _, port = str(self.sandbox.addresses["http"]).rpartition(":")
        with closing(http.client.HTTPConnection(address, int(port), timeout=30)) as visitor:
            try:
                visitor.request("GET", "/", headers={"Host": name})
                answer = visitor.getresponse()
                return f"{answer.status} {answer.read()!r}"
            except (OSError, http.client.HTTPException) as error:
                return repr(error)


@dataclass
class Hosts:
    """One host at a time: the one for a mode and an engine, until another is asked for or it is thrown away."""

    _up: ExitStack = field(default_factory=ExitStack)
    _host: KilledHost | None = None
    _wanted: tuple[str, str] = ("", "")

    def get(self, mode: str, engine: str) -> KilledHost:
        """Return a host in a mode."""
        if self._host is None or self._wanted != (mode, engine):
            self.throw_away()
            sandbox = self._up.enter_context(own_host("--mode", mode))
            self._host, self._wanted = KilledHost(sandbox, engine), (mode, engine)
        if self._host.mode != mode:
            self._host.sandbox.must("init", "--mode", mode)
        return self._host

    def throw_away(self) -> None:
        """Take it down: whoever was harmed there is not to disturb what comes next."""
        self._up.close()
        self._host = None


def listens(path: Path) -> bool:
    """Tell whether somebody listens on a socket."""
    with socket.socket(socket.AF_UNIX) as caller:
        return caller.connect_ex(str(path)) == 0


def loads(place: Path) -> bool:
    """Tell whether a version has a chain and a key that fit."""
    try:
        leaf = x509.load_pem_x509_certificates((place / "fullchain.pem").read_bytes())[0]
        key = load_pem_private_key((place / "privkey.pem").read_bytes(), None)
    except (OSError, ValueError):
        return False
    return leaf.public_key() == key.public_key()


def owned(path: Path) -> str:
    """Return the mode of a path and who it belongs to."""
    found = path.lstat()
    return f"{found.st_mode & 0o7777:o} {pwd.getpwuid(found.st_uid).pw_name}:{grp.getgrgid(found.st_gid).gr_name}"


def is_open_key(path: Path) -> bool:
    """Tell whether others may read a private key than its owner, or nginx's workers where these must."""
    with suppress(FileNotFoundError):
        if b"PRIVATE KEY" in path.read_bytes():
            is_shared = (
                "live" in path.parts and owned(path).startswith("640 ") and owned(path).endswith(f":{GROUP}")
            )
            return bool(path.stat().st_mode & 0o077) and not is_shared
    return False
