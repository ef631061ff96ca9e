"""What the fault tests of the whole product share: a run that dies on cue, and what must hold after any run."""

import os
import re
import signal
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from certctl.sandbox import fixtures, zone_file
from certctl.sandbox.approval_server import Approvals
from tests.e2e.real_sandbox import Ran, Sandbox, certctl

KILLED = -signal.SIGKILL
_SEARCHED = ("etc", "var", "run", "log")


def command(sandbox: Sandbox, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return argv and environment of a certctl in a sandbox."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CERTCTL_")}
    return [sys.executable, "-m", "certctl", *arguments], clean | {"CERTCTL_CONFIG": sandbox.addresses["config"]}


def start(sandbox: Sandbox, *arguments: str, prefix: Sequence[str] = ()) -> "subprocess.Popen[str]":
    """Start certctl and return at once."""
    argv, env = command(sandbox, *arguments)
    return subprocess.Popen(
        [*prefix, *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        start_new_session=True,
    )


def ended(run: "subprocess.Popen[str]", seconds: float = 400) -> Ran:
    """Wait for a run that was started."""
    try:
        out, err = run.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        raise
    return Ran(run.returncode, out, err)


@dataclass(frozen=True)
class Point:
    """A system call of certctl: the n-th of its kind in one thread, or the n-th about one path below the root."""

    call: str
    number: int = 1
    path: str = ""

    def prefix(self, root: Path, name: str = "", sent: signal.Signals = signal.SIGKILL) -> list[str]:
        """Return what to put before a command so that a signal meets it here (strace(1), ``inject``)."""
        inject = f"inject={self.call}:signal={sent.name}:when={self.number}"
        only = ["-P", str(root / self.path.format(name=name))] if self.path else []
        return ["strace", "-f", "--quiet=all", "-o", "/dev/null", "-e", f"trace={self.call}", *only, "-e", inject]


def slowed(call: str, path: Path, seconds: float) -> list[str]:
    """Return the prefix that makes a run wait before its first call about a path (strace(1), ``delay_enter``)."""
    inject = f"inject={call}:delay_enter={int(seconds * 1_000_000)}:when=1"
    return ["strace", "-f", "--quiet=all", "-o", "/dev/null", "-e", f"trace={call}", "-P", str(path), "-e", inject]


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Poll with a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@dataclass(frozen=True, slots=True)
class Enclosed(Sandbox):
    """A sandbox whose every command needs something before it, such as a way into its mounts."""

    prefix: tuple[str, ...] = ()

    def certctl(self, *arguments: str, stdin: str = "", before: tuple[str, ...] = ()) -> Ran:
        """Run certctl in it; ``before`` limits this one run."""
        env = {"CERTCTL_CONFIG": str(self.addresses["config"])}
        return certctl(*arguments, env=env, stdin=stdin, prefix=(*self.prefix, *before))


@dataclass
class Watch:
    """Looks at a sandbox before and after a fault: nobody else may be worse off, nothing may lie about.

    Attributes:
        canary: A live customer who must never notice anything.
        seen: Where a test sees the state directory when it is mounted for the sandbox alone.
    """

    sandbox: Sandbox
    canary: str
    seen: Path | None = None
    before: str = field(init=False)

    def __post_init__(self) -> None:
        self.before = self.served(self.canary)

    @property
    def root(self) -> Path:
        return self.sandbox.layout.root

    @property
    def state(self) -> Path:
        return self.seen or self.root / "var/lib/certctl"

    @property
    def challenges(self) -> Path:
        return self.state / "challenges"

    @property
    def log(self) -> str:
        return (self.sandbox.layout.logs / "pebble.log").read_text(encoding="utf-8", errors="replace")

    @property
    def issued(self) -> int:
        """Count the certificates Pebble has made."""
        return len(re.findall(r"Issued certificate serial", self.log))

    def customers(self, stem: str, count: int) -> list[str]:
        """Make names customers': in one go, because a command for each would take longer than the test."""
        names = [f"{stem}{number}.example.com" for number in range(count)]
        layout = self.sandbox.layout
        records = [zone_file.Record(name, "CNAME", f"{fixtures.TARGET}.") for name in names]
        fixtures.change_dns(layout, lambda before: reduce(zone_file.add, records, before))
        fixtures.change_approvals(layout, lambda before: reduce(Approvals.approve, names, before))
        return names

    def served(self, name: str) -> str:
        """Return the fingerprint nginx shows for a name."""
        return self.sandbox.served_leaf(name).fingerprint(SHA256()).hex()

    def stored(self) -> dict[str, str]:
        """Return the fingerprints the store has."""
        results = self.sandbox.must("status", "--all", "--json").json["results"]
        return {r["domain"]: r["certificate"]["fingerprint_sha256"] for r in results if r["certificate"]}

    def is_served(self, name: str) -> bool:
        """Tell whether nginx shows a name's own certificate."""
        try:
            leaf = self.sandbox.served_leaf(name)
        except ssl.SSLError:
            return False
        own = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return name in own.get_values_for_type(x509.DNSName)

    def nobody_is_harmed(self, when: str = "") -> None:
        """Insist that nginx's test passes, that keys are private, and that the canary is served as before."""
        prefix = self.sandbox.prefix if isinstance(self.sandbox, Enclosed) else ()
        argv = [
            *prefix,
            "nginx",
            "-t",
            "-p",
            str(self.root),
            "-e",
            "stderr",
            "-c",
            str(self.sandbox.layout.nginx_conf),
        ]
        test = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert test.returncode == 0, f"{when}: nginx could not start now: {test.stderr}"
        assert self.served(self.canary) == self.before, f"{when}: the canary's certificate changed"
        assert not self.open_keys(), when

    def open_keys(self) -> list[str]:
        """Return files with a private key that others than their owner could read."""
        return [str(path) for path in self.files() if is_open_key(path)]

    def files(self) -> list[Path]:
        trees = [self.root / name for name in _SEARCHED]
        return [path for tree in trees for path in tree.rglob("*") if path.is_file() and not path.is_symlink()]

    def leftovers(self) -> list[str]:
        """Return tokens, temporary files, journals and working directories that nobody needs any more."""
        tokens = list(self.challenges.iterdir())
        files = [p for p in self.sandbox.layout.conf_dir.iterdir() if p.name.startswith(".")]
        mirror = [
            p
            for at in ("certctl/live", "certctl-sites")
            for p in (self.root / "var/lib" / at).rglob(".*")
            if p.name != ".last-reload"
        ]
        work = [p for p in (self.state / "acme/work").glob("*") if p.is_dir()]
        return [str(path) for path in (*tokens, *files, *mirror, *work)]

    def all_is_well(self, names: Collection[str], when: str = "") -> None:
        """Insist that each name is served with the certificate in the store, and that nothing lies about."""
        self.nobody_is_harmed(when)
        stored = self.stored()
        for name in names:
            assert self.served(name) == stored[name], f"{when}: {name}"
        assert not (left := self.leftovers()), f"{when}: {left}"


def is_open_key(path: Path) -> bool:
    """Tell whether a file holds a private key and is not 0600."""
    try:
        mode, content = stat.S_IMODE(path.stat().st_mode), path.read_bytes()
    except FileNotFoundError:
        return False
    return b"PRIVATE KEY" in content and mode != 0o600
