"""A state directory that is full, read-only, unreadable or out of inodes, and a process that may not open files.

The sandbox lives in mounts of its own, where its state directory is a small tmpfs.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from certctl.errors import CATALOGUE, ExitCode
from certctl.sandbox.layout import at
from tests.e2e.real_sandbox import Ran, certctl, open_place
from tests.faults.whole import Enclosed, Watch

pytestmark = pytest.mark.e2e

_SIZE, _INODES = 8_000_000, 1000
_WITHOUT_ROOTS_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")
_STATE_IS_LOST = {"store-unreachable", "state-unwritable"}


@dataclass(frozen=True)
class Host:
    """A sandbox on a small disk."""

    sandbox: Enclosed
    watch: Watch
    state: str

    def mount(self, options: str) -> None:
        subprocess.run([*self.sandbox.prefix, "mount", "-o", f"remount,{options}", self.state], check=True)


@pytest.fixture(scope="module")
def mounts() -> Iterator[tuple[str, ...]]:
    """Hold a mount namespace open; yield what enters it."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    with subprocess.Popen(["unshare", "-m", "--propagation", "private", "sleep", "infinity"]) as holder:
        try:
            enter = ("nsenter", "-t", str(holder.pid), "-m", "--")
            mounted = subprocess.run([*enter, "mount", "-t", "tmpfs", "certctl-test", "/mnt"], check=False)
            if mounted.returncode != 0 or holder.poll() is not None:
                pytest.skip("root may not mount anything here, as in a container without CAP_SYS_ADMIN")
            yield enter
        finally:
            holder.kill()


@pytest.fixture(scope="module")
def host(real_parts: None, mounts: tuple[str, ...]) -> Iterator[Host]:  # noqa: ARG001
    with open_place() as root:
        yield from on_a_small_disk(root, mounts)


def on_a_small_disk(root: Path, mounts: tuple[str, ...]) -> Iterator[Host]:
    up = certctl("sandbox", "up", "--root", str(root), "--json", prefix=mounts)
    assert up.code == 0, up.out + up.err
    sandbox = Enclosed(at(root), up.json["data"], mounts)
    state, kept = root / "var/lib/certctl", root / "kept"
    options = f"size={_SIZE},nr_inodes={_INODES},mode=0711"
    script = (
        f"mv {state} {kept} && mkdir {state} && mount -t tmpfs -o {options} t {state} && cp -a {kept}/. {state}/"
    )
    try:
        subprocess.run([*mounts, "sh", "-ec", script], check=True)
        canary = sandbox.customer("canary.example.com")
        sandbox.must("issue", canary)
        seen = Path(f"/proc/{mounts[2]}/root") / state.relative_to("/")
        yield Host(sandbox, Watch(sandbox, canary, seen), str(state))
    finally:
        certctl("sandbox", "down", "--root", str(root), prefix=mounts)


@contextmanager
def full(host: Host, left: int = 0) -> Iterator[None]:
    """Fill the disk but for some bytes."""
    filler = host.watch.state / "filler"
    try:
        with filler.open("wb") as file:
            free = os.statvfs(host.watch.state)
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - left)
        yield
    finally:
        filler.unlink()


@contextmanager
def without_inodes(host: Host, left: int = 0) -> Iterator[None]:
    """Use up all inodes but some."""
    fillers = [host.watch.state / f"filler{n}" for n in range(os.statvfs(host.watch.state).f_favail - left)]
    try:
        for filler in fillers:
            filler.touch()
        yield
    finally:
        for filler in fillers:
            filler.unlink(missing_ok=True)


@contextmanager
def read_only(host: Host) -> Iterator[None]:
    """Mount the disk read-only."""
    host.mount("ro")
    try:
        yield
    finally:
        host.mount("rw")


@contextmanager
def unreadable(host: Host, name: str = "") -> Iterator[None]:
    """Take all rights from a path of the state."""
    path = host.watch.state / name
    mode = path.stat().st_mode & 0o777
    path.chmod(0)
    try:
        yield
    finally:
        path.chmod(mode)


@contextmanager
def nothing(_host: Host) -> Iterator[None]:
    """Change nothing: the fault lies in how the run is started."""
    yield


Fault = tuple[Callable[[Host], AbstractContextManager[None]], tuple[str, ...]]
NO_STORE: dict[str, Fault] = {
    "full": (full, ()),
    "out of inodes": (without_inodes, ()),
    "read-only": (read_only, ()),
    "unreadable": (unreadable, _WITHOUT_ROOTS_RIGHTS),
    "an unreadable store": (lambda host: unreadable(host, "certctl.db"), _WITHOUT_ROOTS_RIGHTS),
    "a limit on the size of files": (nothing, ("prlimit", "--fsize=4096:4096")),
}
NO_ROOM: dict[str, Fault] = {
    "90 kB free": (lambda host: full(host, 90_000), ()),
    "1 MB free": (lambda host: full(host, 1_000_000), ()),
    "12 inodes free": (lambda host: without_inodes(host, 12), ()),
}
_numbers = count()


@pytest.mark.parametrize("fault", NO_STORE.values(), ids=NO_STORE)
def test_without_its_store_a_run_says_so_and_what_is_live_stays_live(host: Host, fault: Fault) -> None:
    change, before = fault
    orders = host.sandbox.orders()
    with change(host):
        for command in (["issue", host.watch.canary], ["renew", "--force", host.watch.canary], ["status"]):
            ran = host.sandbox.certctl(*command, "--json", before=before)
            assert ran.code in {9, 10}, ran
            assert ran.error["code"] in _STATE_IS_LOST, ran
        plain = host.sandbox.certctl("remove", host.watch.canary, before=before)
        is_plain(plain)
        assert host.watch.served(host.watch.canary) == host.watch.before
    assert host.sandbox.orders() == orders
    host.sandbox.must("issue", host.watch.canary)
    host.watch.all_is_well([host.watch.canary])


@pytest.mark.parametrize("fault", NO_ROOM.values(), ids=NO_ROOM)
def test_without_room_to_keep_it_no_certificate_is_ordered(host: Host, fault: Fault) -> None:
    (name,) = host.watch.customers(f"roomless{next(_numbers)}-", 1)
    change, before = fault
    orders = host.sandbox.orders()
    with change(host):
        ran = host.sandbox.certctl("issue", name, "--json", before=before)
        assert (ran.code, ran.error["quota_used"]) in {(9, False), (10, False)}, ran
        assert ran.error["code"] in _STATE_IS_LOST
        is_plain(host.sandbox.certctl("issue", name, before=before))
        host.watch.nobody_is_harmed()
    assert host.sandbox.orders() == orders
    host.sandbox.must("issue", name)
    host.watch.all_is_well([name])


@pytest.mark.parametrize("files", [6, 10, 12])
def test_with_too_few_descriptors_a_run_fails_cleanly_or_ends_well(host: Host, files: int) -> None:
    before = ("prlimit", f"--nofile={files}:{files}")
    ran = host.sandbox.certctl("renew", "--force", host.watch.canary, "--json", before=before)
    assert ran.code in set(ExitCode) - {ExitCode.FAILED, ExitCode.USAGE}, ran
    assert ran.code == 0 or ran.error["code"] in CATALOGUE
    assert "Traceback" not in ran.err
    host.sandbox.must("issue", host.watch.canary)
    host.watch.before = host.watch.stored()[host.watch.canary]
    host.watch.nobody_is_harmed()


def is_plain(ran: Ran) -> None:
    """Insist on an error in words: what, who acts, what next; no traceback, and nothing on stdout."""
    assert ran.code in {9, 10}, ran
    first, *rest = ran.err.splitlines()[-8:]
    assert any(line.startswith("error[") for line in (first, *rest)), ran.err
    assert any("next" in line for line in rest), ran.err
    assert "Traceback" not in ran.err
    assert not ran.out
