"""``[nginx] listen`` changes under a real nginx: what a reload cannot do, a restart does, and takes back."""

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from certctl.domain import Domain
from certctl.io.clock import SystemClock
from certctl.store.sqlite import SqliteStore
from certctl.values import Issued, State
from tests.real_nginx import environment, free_ports, make_site, need, wait_for

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
NAME = "status.example.com"

# What 'systemctl restart' does: it stops nginx, starts it apart from whoever asked, and says whether it started.
_SYSTEMCTL = """#!/bin/sh
echo "$*" >> {root}/restarts
pid=$(cat {root}/nginx.pid)
kill -TERM "$pid"
while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
setsid --wait {nginx} -c {root}/etc/nginx/nginx.conf -e {root}/error.log
"""


@dataclass
class Host:
    """A host below a directory, whose nginx runs in the background as under systemd."""

    root: Path
    http: int
    https: int

    @property
    def argv(self) -> list[str]:
        return [need("nginx"), "-c", f"{self.root}/etc/nginx/nginx.conf", "-e", f"{self.root}/error.log"]

    @property
    def restarts(self) -> list[str]:
        path = self.root / "restarts"
        return path.read_text().splitlines() if path.exists() else []

    def lay_out(self) -> None:
        for name in ("etc/nginx/certctl.d", "etc/certctl", "run/systemd/system", "var/lib/certctl"):
            (self.root / name).mkdir(parents=True)
        temporary = " ".join(
            f"{kind}_temp_path {self.root}/t-{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self.root / "etc/nginx/nginx.conf").write_text(
            f"user root;\npid {self.root}/nginx.pid;\nerror_log {self.root}/error.log notice;\nevents {{}}\n"
            f"http {{ access_log off; {temporary} include {self.root}/etc/nginx/certctl.d/*.conf; }}\n"
        )
        program = self.root / "systemctl"
        program.write_text(_SYSTEMCTL.format(root=self.root, nginx=need("nginx")))
        program.chmod(0o755)
        store = SqliteStore(self.root / "var/lib/certctl/certctl.db", SystemClock())
        site = make_site(trustme.CA(), NAME, 1)
        store.keep(Issued(site.certificate, site.pem))
        store.set_state(Domain(NAME), State.ACTIVE)
        store.close()

    def listen(self, *addresses: str) -> None:
        (self.root / "etc/certctl/config.toml").write_text(
            f"[nginx]\nhttp_port = {self.http}\nhttps_port = {self.https}\nlisten = {list(addresses)}\n"
        )

    def certctl(self, *arguments: str) -> tuple[int, str]:
        """Run certctl where systemctl is the one above."""
        script = 'mount --make-rprivate / && mount --bind "$1" "$2" && shift 2 && exec "$@"'
        systemctl = str(Path(need("systemctl")).resolve())
        there = ["unshare", "--mount", "sh", "-c", script, "sh", f"{self.root}/systemctl", systemctl]
        ended = subprocess.run(
            [*there, sys.executable, "-m", "certctl", "--root", str(self.root), *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=environment(),
        )
        return ended.returncode, ended.stdout + ended.stderr

    def answers(self, address: str) -> bool:
        """Tell whether the customer's certificate is served at an address."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with (
                socket.create_connection((address, self.https), timeout=5) as plain,
                context.wrap_socket(plain, server_hostname=NAME) as served,
            ):
                return served.getpeercert(binary_form=True) is not None
        except OSError:
            return False


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    here = Host(tmp_path, *free_ports(2))
    here.lay_out()
    here.listen("127.0.0.1")
    subprocess.run(here.argv, check=True, stdin=subprocess.DEVNULL)
    wait_for((tmp_path / "nginx.pid").exists)
    for words in (("init",), ("reconcile",)):
        code, said = here.certctl(*words)
        assert code == 0, said
    assert here.answers("127.0.0.1")
    yield here
    pid = int((tmp_path / "nginx.pid").read_text())
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not Path(f"/proc/{pid}").exists())


@AS_ROOT
def test_a_port_that_nginx_has_open_elsewhere_takes_the_command_that_is_named(host: Host) -> None:
    host.listen("*")
    code, said = host.certctl("init")
    assert (code, "error[nginx-reload-failed]" in said, "certctl reconcile --restart" in said) == (7, True, True)
    assert (host.answers("127.0.0.1"), host.answers("127.0.0.2")) == (True, False)
    code, said = host.certctl("reconcile", "--restart")
    assert code == 0, said
    assert (host.answers("127.0.0.1"), host.answers("127.0.0.2")) == (True, True)
    assert set(host.restarts) == {"restart nginx.service"}
    assert "Nothing differs" in host.certctl("reconcile", "--dry-run")[1]


@AS_ROOT
def test_an_nginx_that_listens_elsewhere_is_not_said_to_be_down(host: Host) -> None:
    host.listen("127.0.0.2")
    code, said = host.certctl("doctor")
    assert (code, "nginx runs, and does not listen where [nginx] listen says" in said) == (1, True), said
    assert ("fix: certctl reconcile --restart" in said, "start nginx" in said) == (True, False)
    assert host.certctl("reconcile", "--restart")[0] == 0
    assert "does not listen" not in host.certctl("doctor")[1]
    assert host.answers("127.0.0.2")


@AS_ROOT
def test_and_back_again(host: Host) -> None:
    host.listen("*")
    code, said = host.certctl("reconcile", "--restart")
    assert code == 0, said
    host.listen("127.0.0.1")
    code, said = host.certctl("reconcile", "--restart")
    assert code == 0, said
    assert (host.answers("127.0.0.1"), host.answers("127.0.0.2")) == (True, False)


@AS_ROOT
def test_a_restart_that_nginx_does_not_survive_is_taken_back(host: Host) -> None:
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.3", host.https))
        somebody.listen()
        host.listen("*")
        code, said = host.certctl("reconcile", "--restart")
        assert (code, "error[nginx-reload-failed]" in said) == (7, True)
        assert host.answers("127.0.0.1")
    assert len(host.restarts) == 2


@AS_ROOT
def test_where_no_systemd_runs_the_steps_are_said(host: Host) -> None:
    """And they are those that work: with nginx down, tested files stay until it starts."""
    shutil.rmtree(host.root / "run/systemd")
    host.listen("*")
    code, said = host.certctl("reconcile", "--restart")
    steps = ["stop nginx", "certctl init", "certctl reconcile", "start nginx"]
    words = [line.strip().removeprefix("next").strip() for line in said.splitlines()]
    assert (code, host.restarts) == (7, [])
    assert [word for word in words if word in steps] == steps
    os.kill(pid := int((host.root / "nginx.pid").read_text()), signal.SIGTERM)
    wait_for(lambda: not Path(f"/proc/{pid}").exists())
    assert host.certctl("init")[0] == 0
    assert "nginx-not-running" in host.certctl("reconcile")[1]
    subprocess.run(host.argv, check=True, stdin=subprocess.DEVNULL)
    wait_for(lambda: host.answers("127.0.0.2"))
