"""A host that has booted: systemd as PID 1, in a network namespace of the closed Internet, on its own image."""

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.host.documents import TRUST
from tests.host.image import Image, overlay_options
from tests.host.internet import RESOLVER, Internet

_PATIENCE = 240.0  # of a machine under load
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "USER": "root",
}


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command on the host did."""

    line: str
    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Return all it printed, under the line itself: what a failed assertion should show."""
        return f"# {self.line}\n{self.out}{self.err}(exit {self.code})"


class Machine:
    """One host: it can be started, stopped, and given commands as root."""

    def __init__(self, image: Image, net: Internet, place: Path) -> None:
        self.net = net
        self._image = image
        self._place = place
        self._upper, self._work, self._root = place / "changes", place / "work", place / "root"
        self._container: subprocess.Popen[bytes] | None = None
        self._leader = 0
        for path in (self._upper, self._work, self._root):
            path.mkdir(parents=True, exist_ok=True)

    def prepare(self, files: Mapping[str, str]) -> None:
        """Write files on its disk while it is off."""
        for path, text in files.items():
            file = self._upper / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")

    def start(self) -> None:
        """Boot; returns when systemd says that all is started."""
        options = overlay_options(self._image, self._upper, self._work)
        boot = [
            "systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--console=pipe",
            "--link-journal=no", "--resolv-conf=off", "--timezone=off",
            f"--network-namespace-path=/run/netns/{self.net.host_namespace}",
            f"--machine=certctl-{os.getpid()}", "-D", str(self._root),
        ]  # fmt: skip
        # The mount lives in a mount namespace of the container's own and is gone with it, however that ends.
        script = f'mount -t overlay overlay -o {shlex.quote(options)} {shlex.quote(str(self._root))} && exec "$@"'
        with (self._place / "console.log").open("ab") as console:
            self._container = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", script, "sh", *boot],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
            )  # fmt: skip
        self.until("the host has a first process", self._find_leader)
        self.until(
            "the host has booted",
            lambda: self.run("systemctl is-system-running --wait").out.strip() in {"running", "degraded"},
        )

    def stop(self) -> None:
        """Shut down in an orderly way."""
        assert self._container
        self.run("systemctl poweroff")
        self._container.wait(_PATIENCE)
        self._leader = 0

    def end(self) -> None:
        """End it in whatever state it is."""
        for pid in filter(None, (self._leader, self._container.pid if self._container else 0)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._container:
            self._container.wait()

    def run(self, line: str, *, timeout: float = 2 * _PATIENCE, given: str = "") -> Ran:
        """Run a line in root's shell."""
        argv = [
            "nsenter",
            "--target",
            str(self._leader),
            "--all",
            "env",
            "-i",
            *(f"{k}={v}" for k, v in _ENVIRONMENT.items()),
        ]
        ended = subprocess.run(
            [*argv, "sh", "-c", f"cd /root; {line}"], input=given, capture_output=True, text=True, timeout=timeout,
            errors="backslashreplace", check=False,
        )  # fmt: skip
        return Ran(line, ended.returncode, ended.stdout, ended.stderr)

    def must(self, line: str, code: int = 0) -> Ran:
        """Run a line that has to end with this code."""
        ran = self.run(line)
        if ran.code != code:
            logged = self.run("journalctl --boot --no-pager --quiet --lines=40 --output=short-monotonic").out
            raise AssertionError(f"{ran.text}\nexpected exit {code}\n{logged}")
        return ran

    def read(self, path: str) -> str:
        """Return the text of a file."""
        return self.path(path).read_text(encoding="utf-8")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file as root."""
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)

    def path(self, path: str) -> Path:
        """Return where a path of the host's is to be found from here."""
        return Path(f"/proc/{self._leader}/root") / path.lstrip("/")

    def journal(self, unit: str) -> str:
        """Return what a unit has logged since the host booted."""
        return self.must(f"journalctl --boot --no-pager --quiet --output=cat --unit={unit}").out

    def main_pid(self, unit: str) -> int:
        """Return the number of a unit's main process, on the host."""
        return int(self.must(f"systemctl show --value --property=MainPID {unit}").out)

    def until(self, what: str, is_so: Callable[[], Any], patience: float = _PATIENCE) -> Any:
        """Wait for something to be so and return what it gave."""
        give_up = time.monotonic() + patience
        while not (found := is_so()):
            assert time.monotonic() < give_up, f"waited in vain until {what}"
            assert self._container is None or self._container.poll() is None, (
                self._place / "console.log"
            ).read_text()[-3000:]
            time.sleep(0.1)
        return found

    def _find_leader(self) -> int:
        assert self._container
        children = Path(f"/proc/{self._container.pid}/task/{self._container.pid}/children").read_text().split()
        inits = [int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == "systemd"]
        self._leader = inits[0] if inits else 0
        return self._leader


@contextmanager
def machine(image: Image, net: Internet, place: Path) -> Iterator[Machine]:
    """Boot a host; it is gone afterwards."""
    host = Machine(image, net, place)
    host.prepare({"etc/resolv.conf": f"nameserver {RESOLVER}\n", TRUST: net.trust.decode()})
    try:
        host.start()
        yield host
    finally:
        host.end()
        shutil.rmtree(place, ignore_errors=True)
