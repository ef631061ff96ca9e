"""Root file systems of bare Debians, and what the lines of a page make of them.

A bare root is made by debootstrap once and kept below ``.cache/``. Each line of a page that installs something
runs in a container that has not booted, on this machine's network, and what it changed is kept as a layer
(overlayfs), so that a line two pages share runs once. A line that installs certctl itself is never kept: the code
is what is tested.
"""

import fcntl
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tests.host.documents import ROOT

CACHE = ROOT / ".cache/hosts"
CHECKOUT = "/usr/src/certctl"
BOOKWORM, TRIXIE = "bookworm", "trixie"
# What a provider's image has and a minimal root has not.
_PROVIDED = "systemd,systemd-sysv,dbus,iproute2,ca-certificates,curl,procps,cron"
_OWN_CODE = "--no-deps"
# Files of the checkout that a line reads.
_READ = {"requirements.lock": "requirements.lock", "--group": "pyproject.toml"}
_MINUTE = 60


@dataclass(frozen=True, slots=True)
class Image:
    """A root file system: directories laid over each other, the lowest last."""

    suite: str
    layers: tuple[Path, ...]

    @property
    def lower(self) -> str:
        """Return the layers as overlayfs wants them (``lowerdir=``, the topmost first)."""
        return ":".join(map(str, self.layers))


def bare(suite: str) -> Image:
    """Return a bare Debian; made once."""
    root = CACHE / f"{suite}-{_key(suite, _PROVIDED)}"

    def make(place: Path) -> None:
        _run(["debootstrap", "--variant=minbase", f"--include={_PROVIDED}", suite, str(place), _mirror()])

    return Image(suite, (_once(root, make),))


def installed(suite: str, lines: Sequence[str], work: Path) -> Image:
    """Return a Debian on which these lines have run in a checkout of certctl, in order.

    Args:
        suite: Which Debian.
        lines: Commands for a shell, as a page has them.
        work: A directory for the layers that are not kept.
    """
    image = bare(suite)
    checkout = work / "checkout"
    check_out(checkout)
    for number, line in enumerate(lines):
        image = _after(image, line, checkout, work / f"line-{number}")
    return image


def _after(image: Image, line: str, checkout: Path, own: Path) -> Image:
    def make(layer: Path) -> None:
        run_line(image, line, checkout, layer)

    if _OWN_CODE in line:
        make(own)
        return Image(image.suite, (own, *image.layers))
    read = [(ROOT / name).read_bytes().hex() for word, name in _READ.items() if word in line]
    key = _key(image.suite, image.layers[-1].name, line, *read)
    return Image(image.suite, (_once(CACHE / f"layer-{key}", make), *image.layers))


def run_line(image: Image, line: str, checkout: Path, layer: Path) -> str:
    """Run one line in a container that has not booted; what it changes ends in a layer. Returns what it printed."""
    layer.mkdir(parents=True)
    with mounted(image, layer) as root:
        return _run([*_container(root, checkout), "/bin/sh", "-ec", f"cd {CHECKOUT} && {line}"])


@contextmanager
def mounted(image: Image, upper: Path) -> Iterator[Path]:
    """Mount an image with a layer on top that takes the changes."""
    work, root = upper.with_name(f"{upper.name}.work"), upper.with_name(f"{upper.name}.root")
    for place in (work, root):
        place.mkdir(parents=True, exist_ok=True)
    _run(["mount", "-t", "overlay", "overlay", "-o", overlay_options(image, upper, work), str(root)])
    try:
        yield root
    finally:
        _run(["umount", str(root)])
        root.rmdir()
        shutil.rmtree(work)


def overlay_options(image: Image, upper: Path, work: Path) -> str:
    """Return the options of the mount."""
    return f"lowerdir={image.lower},upperdir={upper},workdir={work}"


def check_out(place: Path) -> None:
    """Copy what git knows of this checkout, as it is in the working tree."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.split(b"\0")
    for name in filter(None, map(os.fsdecode, names)):
        source, copy = ROOT / name, place / name
        if source.exists() or source.is_symlink():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy, follow_symlinks=False)


def _container(root: Path, checkout: Path) -> list[str]:
    """Return the command that starts a container on this machine's network, with its pip settings."""
    binds = [f"--bind-ro={path}" for path in dict.fromkeys(_pip_files()) if path.exists()]
    env = [
        f"--setenv={name}={value}" for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_CERT_"))
    ]
    return [
        "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--as-pid2", "--console=pipe",
        "--resolv-conf=replace-host", "--timezone=off", "-D", str(root), f"--bind={checkout}:{CHECKOUT}",
        *binds, *env, "--setenv=DEBIAN_FRONTEND=noninteractive",
    ]  # fmt: skip


def _pip_files() -> list[Path]:
    """Return the files and directories that this machine's pip is configured by or with."""
    debug = _output(["python3", "-m", "pip", "config", "debug"])
    files = [Path(line.split(", exists: ")[0].strip()) for line in debug.splitlines() if ", exists: True" in line]
    listed = _output(["python3", "-m", "pip", "config", "list"])
    words = [
        word
        for line in listed.splitlines()
        for value in shlex.split(line.split("=", 1)[1])
        for word in value.split()
    ]
    indexes = [Path(word.removeprefix("file://")).parent for word in words if word.startswith("file:///")]
    return [*files, *indexes, *(Path(word) for word in words if word.startswith("/"))]


def _mirror() -> str:
    """Return where this machine's apt gets Debian from."""
    lines = _output(["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages", "Origin: Debian"])
    return next(line for line in lines.splitlines() if "security" not in line)


def _once(place: Path, make: Callable[[Path], None]) -> Path:
    """Make a directory if it is not there; two processes do not make it twice, and a killed one leaves nothing."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            unfinished = place.with_name(f"{place.name}.new")
            shutil.rmtree(unfinished, ignore_errors=True)
            make(unfinished)
            unfinished.rename(place)
    return place


def _key(*parts: str) -> str:
    return sha256("\0".join(parts).encode()).hexdigest()[:12]


def _run(argv: Sequence[str]) -> str:
    ended = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30 * _MINUTE, check=False
    )
    assert ended.returncode == 0, f"{shlex.join(argv)}\n{ended.stdout[-6000:]}{ended.stderr[-3000:]}"
    return ended.stdout


def _output(argv: Sequence[str]) -> str:
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout
