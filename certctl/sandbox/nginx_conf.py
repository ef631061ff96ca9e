"""The main file of the sandbox's nginx: like an operator's, with the sandbox's paths and ports."""

from pathlib import Path

from certctl.sandbox.layout import Layout
from certctl.sandbox.users import Users

PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>All systems operational</title>
<style>
  body { font: 1.1rem/1.6 system-ui, sans-serif; max-width: 32rem; margin: 4rem auto; color: #1b2a34 }
  p.up { background: #e4f7ec; border-left: .4rem solid #1f9d57; padding: .8rem 1rem }
</style>
<h1>Status</h1>
<p class="up">All systems operational.</p>
<p>This is the sandbox's status page, served by nginx over HTTPS with a certificate certctl obtained.</p>
</html>
"""

_MODULES = Path("/usr/lib/nginx/modules")
_LUA = ("ndk_http_module.so", "ngx_http_lua_module.so")  # in this order: the second needs the first

_CONF = """\
# Written by "certctl sandbox up". The host's own nginx has no part in this.
{modules}{user}worker_processes 1;
pid {root}/run/nginx.pid;
error_log {root}/log/nginx.error.log notice;
events {{
    worker_connections 512;
}}
http {{
    types {{
        text/html html;
    }}
    default_type application/octet-stream;
    access_log {root}/log/nginx.access.log;
    client_body_temp_path {root}/var/tmp/client_body;
    proxy_temp_path {root}/var/tmp/proxy;
    fastcgi_temp_path {root}/var/tmp/fastcgi;
    uwsgi_temp_path {root}/var/tmp/uwsgi;
    scgi_temp_path {root}/var/tmp/scgi;
    include {root}/etc/nginx/certctl.d/*.conf;
}}
"""


def main_file(layout: Layout, users: Users) -> str:
    """Return the text of nginx.conf."""
    user = f"user {users.workers} {users.group};\n" if users.workers else ""
    return _CONF.format(modules=_modules(), user=user, root=layout.root)


def _modules() -> str:
    """Return the lines that load the Lua module, empty where it is not installed; mode lua needs it."""
    if not all((_MODULES / name).exists() for name in _LUA):
        return ""
    return "".join(f"load_module {_MODULES / name};\n" for name in _LUA)


def argv(layout: Layout) -> list[str]:
    """Return the argv that runs nginx in the foreground; without ``-e`` it opens the host's error log first."""
    error_log = f"{layout.root}/log/nginx.error.log"
    return ["nginx", "-p", str(layout.root), "-e", error_log, "-c", str(layout.nginx_conf), "-g", "daemon off;"]
