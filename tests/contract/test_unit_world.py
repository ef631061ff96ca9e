"""nginx's own test on a disk that is read-only but for what the unit says: as it is inside of a service."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from certctl.cli import run
from certctl.cli.framework import Invocation
from certctl.timer.assign import assignments
from tests.contract.test_units import needed

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
UNIT = "etc/systemd/system/certctl-renew.service"

# systemd.exec(5): with ProtectSystem=strict each of ReadWritePaths= is a mount of its own in a read-only tree.
_AS_IN_THE_SERVICE = """
set -e
root=$1
mount --make-rprivate /
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
for place in $PLACES; do
    place=${place#-}
    [ -e "$place" ] || continue
    mount --bind "$place" "$place"
    mount -o remount,bind,rw "$place"
done
echo mounted
read -r go
shift
exec "$@"
"""


@dataclass
class Tree:
    """An nginx in a tree of its own, as OpenResty's and a self-built one; the program is this host's."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / "usr/local/openresty/nginx"

    @property
    def pid_file(self) -> Path:
        return self.home / "logs/nginx.pid"

    def lay_out(self) -> None:
        for name in ("sbin", "conf", "logs"):
            (self.home / name).mkdir(parents=True)
        (self.home / "sbin/nginx").symlink_to(needed("nginx"))
        bodies = [f"{kind}_temp_path {kind}_temp;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")]
        (self.home / "conf/nginx.conf").write_text(
            "pid logs/nginx.pid;\nerror_log logs/error.log;\nevents {}\n"
            f"http {{ access_log logs/access.log; {' '.join(bodies)} }}\n"
        )
        (self.root / "run/systemd/system").mkdir(parents=True)
        config = self.root / "etc/certctl/config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(
            f'[nginx]\nbinary = "{self.home}/sbin/nginx"\nconfig = "/usr/local/openresty/nginx/conf/nginx.conf"\n'
        )

    def writable(self) -> list[str]:
        assert run(["--root", str(self.root), "timer", "install"], Invocation()) == 0
        return " ".join(assignments((self.root / UNIT).read_text())["ReadWritePaths"]).split()

    def tested_in_the_service(self, writable: Sequence[str], meanwhile: str = "") -> str:
        """Run nginx's test; return what it said, empty when it passed. Something may happen once it has started."""
        argv = [
            f"{self.home}/sbin/nginx",
            "-t",
            "-q",
            "-p",
            f"{self.home}/",
            "-c",
            "conf/nginx.conf",
            "-e",
            "stderr",
        ]
        with subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", _AS_IN_THE_SERVICE, "sh", str(self.root), *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PLACES": " ".join(writable)},
        ) as child:
            assert child.stdout
            assert child.stdout.readline() == "mounted\n"
            if meanwhile:
                self.pid_file.unlink()
                self.pid_file.write_text(meanwhile)
            said, _ = child.communicate("go\n", timeout=60)
            return said if child.returncode else ""


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    here = Tree(tmp_path)
    here.lay_out()
    return here


@AS_ROOT
def test_nginx_tests_itself_on_the_disk_that_the_service_sees(tree: Tree) -> None:
    assert tree.tested_in_the_service(tree.writable()) == ""


@AS_ROOT
def test_nginx_could_not_without_the_places_of_its_own_configuration(tree: Tree) -> None:
    debians = [place for place in tree.writable() if "/openresty/" not in place]
    assert "Read-only file system" in tree.tested_in_the_service(debians)


@AS_ROOT
def test_a_daemon_that_runs_on_can_test_an_nginx_that_was_restarted_meanwhile(tree: Tree) -> None:
    """A new master makes a new pid file; with the old one alone mounted, nginx's test fails from then on."""
    writable = tree.writable()
    tree.pid_file.write_text("1\n")
    assert tree.tested_in_the_service(writable, meanwhile="2\n") == ""
    alone = [place for place in writable if not place.endswith("/logs")]
    logs = [f"-{tree.home}/logs/{name}" for name in ("nginx.pid", "error.log", "access.log")]
    assert "nginx.pid" in tree.tested_in_the_service([*alone, *logs], meanwhile="3\n")
