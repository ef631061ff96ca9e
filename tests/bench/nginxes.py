"""nginx in each publish mode over the same certificates, for the benchmarks of handshakes and memory."""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import trustme

from certctl.nginx.base import CERTIFICATE_CACHE, base_files
from certctl.nginx.command import NginxCommand
from certctl.nginx.serverblock import server_block
from certctl.nginx.settings import NginxSettings
from certctl.sandbox import daemons
from certctl.sandbox.layout import free_ports
from certctl.values import Mode, Site
from tests.bench.load import visit, wait_for
from tests.real_nginx import make_site

DEBIANS = "/usr/sbin/nginx"
WORKERS = 2
_MAIN = """
{user}
{modules}
daemon off;
pid {root}/nginx.pid;
error_log {root}/error.log error;
worker_processes {workers};
worker_rlimit_nofile 20000;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {root}/tmp-body; proxy_temp_path {root}/tmp-proxy; fastcgi_temp_path {root}/tmp-f;
    uwsgi_temp_path {root}/tmp-u; scgi_temp_path {root}/tmp-s;
    include {root}/certctl.d/*.conf;
}}
"""
_MODULES = "/usr/lib/nginx/modules"


@dataclass(frozen=True, slots=True)
class Server:
    """One server under measurement."""

    what: str
    port: int
    pid: int


def make_sites(count: int) -> list[Site]:
    """Make certificates of one private CA, leaf and intermediate, ECDSA P-256."""
    ca = trustme.CA().create_child_ca()
    return [make_site(ca, f"status.customer{number}.test", 1) for number in range(count)]


@contextmanager
def nginx(
    root: Path, mode: Mode, sites: Sequence[Site], binary: str = DEBIANS, *, certificate_cache: bool = True
) -> Iterator[Server]:
    """Run one nginx in a mode, with every site in the mirror and whatever files the mode needs."""
    root.mkdir(parents=True)
    settings = _settings(root, mode, binary)
    for site in sites:
        settings.place_of(site).put(site)
    command = NginxCommand(settings)
    for path, text in base_files(settings, command).items():
        if text is not None:
            lines = text.splitlines(keepends=True)
            kept = [line for line in lines if certificate_cache or "ssl_certificate_cache" not in line]
            path.write_text("".join(kept))
    if mode is Mode.BLOCKS:
        blocks = (server_block(settings, site.certificate, command.version) for site in sites)
        (settings.conf_dir / "blocks.conf").write_text("".join(blocks))
    with started(root, settings, binary) as daemon:
        wait_for(lambda: visit(settings.https_port, sites[0].domain.name).ok, 120)
        cached = mode is Mode.SHARED and command.version >= CERTIFICATE_CACHE
        cache = {True: ", ssl_certificate_cache", False: ", without it"}[certificate_cache] if cached else ""
        number = ".".join(map(str, command.version))
        yield Server(f"nginx {number} {mode}{cache}", settings.https_port, daemon.pid)


@contextmanager
def started(root: Path, settings: NginxSettings, binary: str) -> Iterator[daemons.Daemon]:
    """Run the nginx of these settings."""
    lua = settings.mode is Mode.LUA
    modules = "\n".join(f"load_module {_MODULES}/{name}.so;" for name in ("ndk_http_module", "ngx_http_lua_module"))
    text = _MAIN.format(
        user="user root;" if os.geteuid() == 0 else "", modules=modules if lua else "", root=root, workers=WORKERS
    )
    settings.config.write_text(text)
    argv = [binary, "-c", str(settings.config), "-e", str(root / "error.log")]
    daemon = daemons.start("nginx", argv, root / "nginx.log")
    try:
        yield daemon
    finally:
        daemons.stop(daemon)


def _settings(root: Path, mode: Mode, binary: str) -> NginxSettings:
    http, https = free_ports(2)
    for name in ("certctl.d", "challenges", "site"):
        (root / name).mkdir()
    for parent in (root, *root.parents):
        if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & stat.S_IXOTH:
            parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
    (root / "site" / "index.html").write_text("all systems operational\n")
    (root / "nginx.conf").write_text("events { }\nhttp { }\n")
    return NginxSettings(
        binary=binary,
        config=root / "nginx.conf",
        conf_dir=root / "certctl.d",
        live=root / "live",
        sites=root / "sites",
        challenges=root / "challenges",
        site_root=root / "site",
        lock_file=root / "run/nginx.lock",
        http_port=http,
        https_port=https,
        listen=("127.0.0.1",),
        mode=mode,
        socket=root / "serve.sock",
        test_deadline=timedelta(minutes=5),
    )
