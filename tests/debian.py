"""A host laid out as Debian does, below a directory of its own, for certctl and the real nginx."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from certctl.cli import run
from certctl.cli.framework import Invocation
from certctl.sandbox.layout import free_ports

MAIN = """
pid {root}/run/nginx.pid;
error_log {root}/var/log/error.log notice;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {root}/tmp-b; proxy_temp_path {root}/tmp-p; fastcgi_temp_path {root}/tmp-f;
    uwsgi_temp_path {root}/tmp-u; scgi_temp_path {root}/tmp-s;
    include {root}/etc/nginx/conf.d/*.conf;
    include {root}/etc/nginx/sites-enabled/*;
}}
"""


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str


class Debian:
    """Run certctl on it; nginx is not started, so what it tests stays for its start."""

    def __init__(self, root: Path, capture: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self.root = root
        self._capture = capture
        for name in [name for name in os.environ if name.startswith("CERTCTL_")]:
            patch.delenv(name)
        self.http, self.https = free_ports(2)
        patch.setenv("CERTCTL_NGINX__HTTP_PORT", str(self.http))
        patch.setenv("CERTCTL_NGINX__HTTPS_PORT", str(self.https))
        patch.setenv("CERTCTL_NGINX__LISTEN", '["127.0.0.1"]')
        for name in ("run", "var/log", "etc/nginx/conf.d", "etc/nginx/sites-enabled"):
            (root / name).mkdir(parents=True)
        self.nginx_conf.write_text(MAIN.format(root=root))

    @property
    def base(self) -> Path:
        """Return nginx's base file."""
        return self.root / "etc/nginx/certctl.d/00-certctl-base.conf"

    @property
    def config(self) -> Path:
        """Return certctl's configuration."""
        return self.root / "etc/certctl/config.toml"

    @property
    def nginx_conf(self) -> Path:
        """Return nginx's main file."""
        return self.root / "etc/nginx/nginx.conf"

    def block(self, name: str, *listens: str) -> Path:
        """Put a server block of the operator's among Debian's sites; return its file."""
        path = self.root / "etc/nginx/sites-enabled" / name
        lines = "".join(f"    listen {listen};\n" for listen in listens)
        path.write_text(f"server {{\n{lines}    server_name {name}.example.net;\n    return 204;\n}}\n")
        return path

    def nginx_is_content(self) -> bool:
        """Tell whether nginx would start with what lies there."""
        argv = ["nginx", "-t", "-q", "-c", str(self.nginx_conf), "-e", "stderr"]
        return subprocess.run(argv, capture_output=True, timeout=60, check=False).returncode == 0

    def certctl(self, *arguments: str) -> Said:
        """Run a command in this process."""
        self._capture.readouterr()
        code = run(["--root", str(self.root), *arguments], Invocation())
        said = self._capture.readouterr()
        return Said(code, said.out, said.err)

    def must(self, *arguments: str) -> Said:
        """Run a command that has to work."""
        said = self.certctl(*arguments)
        assert said.code == 0, said
        return said
