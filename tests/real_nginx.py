"""A private nginx in a directory of its own, with certificates of a private CA; for tests only."""

import os
import pickle
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import trustme

from certctl.domain import Domain
from certctl.nginx.handshake import look
from certctl.nginx.server import Nginx
from certctl.nginx.settings import NginxSettings
from certctl.values import Certificate, Mode, Pem, Site

_MODULES = Path("/usr/lib/nginx/modules")
_MAIN = """
{modules}
{user}
daemon off;
pid {root}/nginx.pid;
error_log {root}/error.log notice;
worker_processes {workers};
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {root}/tmp-body; proxy_temp_path {root}/tmp-proxy; fastcgi_temp_path {root}/tmp-f;
    uwsgi_temp_path {root}/tmp-u; scgi_temp_path {root}/tmp-s;
    limit_req_zone $binary_remote_addr zone=theirs:1m rate=5r/s;
    {extra}
    include {root}/foreign/*.conf;
    include {root}/certctl.d/*.conf;
}}
"""


@dataclass
class RealNginx:
    """One nginx, the settings of a facade on it, and ways to break it."""

    root: Path
    settings: NginxSettings
    ca: trustme.CA = field(default_factory=trustme.CA)
    child: "subprocess.Popen[bytes] | None" = None
    made: dict[tuple[str, int], Site] = field(default_factory=dict)

    @property
    def web(self) -> Nginx:
        return Nginx(self.settings)

    def start(self, *under: str) -> None:
        """Start it, perhaps under another program such as strace."""
        self.child = subprocess.Popen(
            [*under, "/usr/sbin/nginx", "-c", str(self.settings.config), "-e", str(self.root / "error.log")],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(lambda: Nginx(self.settings)._master.pid() is not None)
        if (self.root / "certctl.d" / "00-certctl-base.conf").exists():
            wait_for(lambda: "no connection" not in look(self.settings, "up.test").text)

    def stop(self) -> None:
        if self.child is None:
            return
        with self.child as child:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(timeout=5)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
        self.child = None

    def site(self, name: str, version: int = 1) -> Site:
        """Make a certificate once; asked again, it is the same one."""
        key = (name, version)
        if key not in self.made:
            self.made[key] = make_site(self.ca, name, version)
        return self.made[key]

    def look(self, name: str) -> str | None:
        return look(self.settings, name).fingerprint

    def tests_run(self) -> int:
        log = self.root / "calls.log"
        return sum(1 for line in log.read_text().splitlines() if line.startswith("-t")) if log.exists() else 0

    def reloads(self) -> int:
        return (self.root / "error.log").read_text(errors="replace").count(", reconfiguring")

    def cold_start_works(self) -> bool:
        """Parse everything as a booting nginx would."""
        argv = ["/usr/sbin/nginx", "-t", "-q", "-c", str(self.settings.config), "-e", "stderr"]
        return subprocess.run(argv, check=False, capture_output=True).returncode == 0

    def refuse_reloads(self) -> None:
        """Change the key of a shared memory zone: ``nginx -t`` passes, the master refuses (measured)."""
        config = self.settings.config
        config.write_text(config.read_text().replace("$binary_remote_addr", "$server_name"))

    def foreign(self, text: str) -> Path:
        path = self.root / "foreign" / "theirs.conf"
        path.write_text(text)
        return path

    def snapshot(self) -> dict[str, object]:
        """Return every file of ours with its content and mode; the lock's and the clock's are left out."""
        files: dict[str, object] = {}
        for place in (self.settings.conf_dir, self.settings.live, self.settings.sites):
            for path in sorted(place.rglob("*")):
                if path.name == ".last-reload":
                    continue
                mode = oct(path.lstat().st_mode)
                if path.is_symlink():
                    files[str(path)] = (mode, str(path.readlink()))
                else:
                    files[str(path)] = (mode, path.read_bytes() if path.is_file() else None)
        return files

    def save_for_script(self, *sites: Site) -> list[str]:
        """Return the command that publishes these sites in a process of its own."""
        path = self.root / "plan.pickle"
        path.write_bytes(pickle.dumps((self.settings, sites)))
        return [sys.executable, "-B", str(Path(__file__)), str(path)]


@contextmanager
def real_nginx(  # noqa: PLR0913 - a test says what it needs
    root: Path,
    *,
    extra: str = "",
    base: bool = True,
    start: bool = True,
    mode: Mode = Mode.BLOCKS,
    workers: int = 1,
    user: str = "root",
) -> Iterator[RealNginx]:
    """Run a private nginx; ``extra`` goes into its http block, ``user`` counts for root only."""
    http, https = free_ports(2)
    for name in ("foreign", "certctl.d", "challenges", "site"):
        (root / name).mkdir()
    for parent in (root, *root.parents):  # workers of another user must get through, as on a host
        if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & stat.S_IXOTH:
            parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
    (root / "site" / "index.html").write_text("all systems operational\n")
    user_line = f"user {user};" if os.geteuid() == 0 else ""
    loaded = [_MODULES / name for name in ("ndk_http_module.so", "ngx_http_lua_module.so")]
    modules = "\n".join(f"load_module {path};" for path in loaded if mode is Mode.LUA)
    text = _MAIN.format(modules=modules, user=user_line, workers=workers, root=root, extra=extra)
    (root / "nginx.conf").write_text(text)
    (root / "error.log").touch()
    binary = root / "counting-nginx"
    binary.write_text(f'#!/bin/sh\necho "$@" >> {root}/calls.log\nexec /usr/sbin/nginx "$@"\n')
    binary.chmod(0o755)
    settings = NginxSettings(
        binary=str(binary),
        config=root / "nginx.conf",
        conf_dir=root / "certctl.d",
        live=root / "live",
        sites=root / "sites",
        challenges=root / "challenges",
        site_root=root / "site",
        lock_file=root / "run" / "nginx.lock",
        http_port=http,
        https_port=https,
        listen=("127.0.0.1",),
        mode=mode,
        socket=root / "run" / "serve.sock",
        lock_wait=timedelta(seconds=60),
        test_deadline=timedelta(seconds=60),
        confirm_deadline=timedelta(seconds=10),
    )
    host = RealNginx(root, settings)
    if base:
        host.web.install_base()
        (root / "calls.log").unlink()
    try:
        if start:
            host.start()
        yield host
    finally:
        host.stop()


def make_site(ca: trustme.CA, name: str, version: int) -> Site:
    names = (name, name.removeprefix("*.")) if name.startswith("*.") else (name,)
    leaf = ca.issue_cert(*names)
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems).decode()
    der = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())
    now = datetime.now(UTC)
    certificate = Certificate(
        domain=Domain(name),
        names=names,
        serial="01",
        issuer="trustme",
        not_before=now,
        not_after=now + timedelta(days=90),
        key_type="ecdsa-p256",
        fingerprint=sha256(der).hexdigest(),
        version=version,
    )
    return Site(certificate, Pem(chain, leaf.private_key_pem.bytes().decode()))


def put_live(host: RealNginx, *sites: Site) -> None:
    """Take sites live the whole way."""
    with host.web.change(sites) as change:
        change.publish()
        change.reload()
        for site in sites:
            change.confirm(site.domain)


@contextmanager
def canary(host: RealNginx, site: Site) -> Iterator[list[str]]:
    """Shake hands with a live site all the time; yield what went wrong."""
    failures: list[str] = []
    stop = threading.Event()

    def probe() -> None:
        while not stop.wait(0.01):
            seen = look(host.settings, site.domain.name)
            if seen.fingerprint != site.certificate.fingerprint:
                failures.append(seen.text)

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield failures
    finally:
        stop.set()
        thread.join()


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def environment() -> dict[str, str]:
    """Return what a script of ours runs in."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}


def need(program: str) -> str:
    found = shutil.which(program)
    assert found, f"{program} is not installed"
    return found


def _main(plan_file: str) -> None:
    """Publish, reload and confirm what ``save_for_script`` wrote down; a process that tests may kill."""
    settings, sites = pickle.loads(Path(plan_file).read_bytes())
    with Nginx(settings).change(sites) as change:
        change.publish()
        change.reload()
        for site in sites:
            change.confirm(site.domain)


if __name__ == "__main__":
    _main(sys.argv[1])
