"""A host whose nginx is not Debian's: a tree laid over this machine's /usr/local in a mount namespace."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.contract.test_units import needed
from tests.meta.source import ROOT
from tests.real_nginx import free_ports

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
OPENRESTY = "/usr/local/openresty/nginx"
SELF_BUILT = "/usr/local/nginx"
PYTHON = "/usr/local/lib/tested/venv/bin/python"

# Nothing of this machine changes: /usr/local gets a layer of its own, and Debian's nginx is hidden. certctl is
# there too: no unit is written for one in a directory for temporary files, where this checkout may lie.
_IN_A_NAMESPACE = """
set -e
here=$1; shift
mount --make-rprivate /
layer=$(mktemp -d -p "$here")
mkdir "$layer/upper" "$layer/work"
mount -t overlay overlay -o lowerdir=/usr/local,upperdir="$layer/upper",workdir="$layer/work" /usr/local
cp -a "$here/tree/." /usr/local/
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system
mount --bind /dev/null "$HIDDEN"
mkdir -p /usr/local/lib/tested/venv /usr/local/lib/tested/checkout
mount --bind "$VENV" /usr/local/lib/tested/venv
mount --bind "$CHECKOUT" /usr/local/lib/tested/checkout
cd /usr/local/lib/tested/checkout
exec "$@"
"""


@dataclass
class Host:
    """A machine with such an nginx; what runs in it sees no other."""

    root: Path
    home: str

    @property
    def tree(self) -> Path:
        return self.root / "tree" / self.home.removeprefix("/usr/local/")

    @property
    def config(self) -> Path:
        return self.root / "tree/etc/certctl.toml"

    def lay_out(self) -> None:
        for name in ("sbin", "conf", "logs"):
            (self.tree / name).mkdir(parents=True)
        program = self.tree / "sbin/nginx"
        program.write_bytes(Path(needed("nginx")).read_bytes())
        program.chmod(0o755)
        [port] = free_ports(1)
        bodies = [f"{kind}_temp_path {kind}_temp;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")]
        (self.tree / "conf/nginx.conf").write_text(
            f"pid logs/nginx.pid;\nerror_log logs/error.log;\nevents {{}}\n"
            f"http {{ access_log off; {' '.join(bodies)} server {{ listen 127.0.0.1:{port}; }}\n"
            f"include {self.home}/conf/certctl.d/*.conf; }}\n"
        )
        self.config.parent.mkdir()
        self.config.write_text('[nginx]\nmode = "blocks"\n')

    def argv(self, *command: str) -> list[str]:
        return ["unshare", "--mount", "sh", "-c", _IN_A_NAMESPACE, "sh", str(self.root), *command]

    def certctl(self, *arguments: str, first: str = "") -> str:
        """Run certctl there, perhaps after something else; return what it said."""
        words = " ".join([PYTHON, "-m", "certctl", "--config", "/usr/local/etc/certctl.toml", *arguments])
        ended = subprocess.run(
            self.argv("sh", "-c", f"{first}\n{words}"),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "LANG": "C.UTF-8",
                "HIDDEN": needed("nginx"),
                "VENV": sys.prefix,
                "CHECKOUT": str(ROOT),
            },
        )
        return f"{ended.returncode}\n{ended.stdout}{ended.stderr}"


@pytest.fixture(params=[OPENRESTY, SELF_BUILT], ids=["openresty", "self-built"])
def host(tmp_path: Path, request: pytest.FixtureRequest) -> Host:
    here = Host(tmp_path, request.param)
    here.lay_out()
    return here


@AS_ROOT
def test_an_nginx_in_its_own_tree_is_found_and_written_down(host: Host) -> None:
    said = host.certctl("init", "--dry-run")
    for line in (
        f'+binary = "{host.home}/sbin/nginx"',
        f'+config = "{host.home}/conf/nginx.conf"',
        f'+conf_dir = "{host.home}/conf/certctl.d"',
        f"+++ {host.home}/conf/certctl.d/00-certctl-base.conf",
    ):
        assert line in said, said


@AS_ROOT
def test_units_fit_an_nginx_in_its_own_tree(host: Host) -> None:
    said = host.certctl("timer", "install", "--dry-run")
    assert said.startswith("0\n"), said
    service = "openresty.service" if "openresty" in host.home else "nginx.service"
    assert f" {service}" in next(line for line in said.splitlines() if line.startswith("+After="))
    writable = " ".join(line for line in said.splitlines() if line.startswith("+ReadWritePaths="))
    for place in (f"-{host.home}/conf/certctl.d", f"-{host.home}/logs", f"-{host.home}/proxy_temp"):
        assert place in writable
    assert f"-{host.home} " not in f"{writable} "


@AS_ROOT
def test_what_to_type_names_the_unit_of_the_nginx_that_is_there(host: Host) -> None:
    host.config.write_text('[nginx]\nmode = "shared"\n')
    said = host.certctl("init", "--dry-run")
    assert "error[keys-out-of-reach]" in said, said
    assert f"systemctl reload {'openresty' if 'openresty' in host.home else 'nginx'}\n" in said


@AS_ROOT
def test_what_the_configuration_says_wins_over_what_is_found(host: Host) -> None:
    host.config.write_text('[nginx]\nconf_dir = "/srv/certctl.d"\n')
    said = host.certctl("config", "show", "--json")
    assert '"conf_dir": "/srv/certctl.d"' in said
    host.config.write_text('[nginx]\nbinary = "nginx"\n')
    assert host.home not in host.certctl("config", "show", "--json")


@AS_ROOT
def test_an_nginx_anywhere_is_found_while_it_runs(tmp_path: Path) -> None:
    here = Host(tmp_path, "/usr/local/opt/ngx")
    here.lay_out()
    home = here.home
    assert home not in here.certctl("config", "show", "--json")
    start = f"{home}/sbin/nginx -p {home}/ -c {home}/conf/nginx.conf -e stderr || exit 70"
    stop = f"trap 'kill $(cat {home}/logs/nginx.pid)' EXIT"
    said = here.certctl("config", "show", "--json", first=f"{start}\n{stop}")
    assert f'"binary": "{home}/sbin/nginx"' in said, said
    assert f'"config": "{home}/conf/nginx.conf"' in said


@AS_ROOT
def test_a_process_of_somebody_elses_with_the_title_of_a_master_is_none(tmp_path: Path) -> None:
    """What is found there, root would run."""
    here = Host(tmp_path, "/usr/local/opt/planted")
    here.lay_out()
    (here.tree / "sbin/nginx").write_bytes(Path(needed("sleep")).read_bytes())
    title = f"exec -a 'nginx: master process {here.home}/sbin/nginx' {here.home}/sbin/nginx 60"
    for user, found in ((65534, False), (0, True)):
        start = f"""setpriv --reuid={user} --clear-groups bash -c "{title}" &
            trap 'kill '$! EXIT
            until grep -qa '^nginx: master' /proc/$!/cmdline; do :; done"""
        said = here.certctl("config", "show", "--json", first=start)
        assert (f'"binary": "{here.home}/sbin/nginx"' in said) is found, said
