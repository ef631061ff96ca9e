"""A host whose nginx is laid out as OpenResty's: a tree of its own, its own unit, workers of nobody.

The program is Debian's, moved: what is tried is where certctl looks for things and what its units may write to.
"""

import re
from collections.abc import Callable
from pathlib import Path

from tests.host.documents import FIRST_VISITOR, section
from tests.host.hosts import booted
from tests.host.image import BOOKWORM, Image
from tests.host.machine import Machine
from tests.host.test_tutorials import (
    CUSTOMER,
    application,
    renewed_by_the_unit,
    stopped_and_started,
    visit_by_http,
    visit_by_https,
)
from tests.host.walk import Walk, problems

TREE = "/usr/local/openresty/nginx"
MAIN = f"""\
load_module /usr/lib/nginx/modules/ndk_http_module.so;
load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
pid {TREE}/logs/nginx.pid;
error_log {TREE}/logs/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log {TREE}/logs/access.log;
    client_body_temp_path {TREE}/client_body_temp;
    proxy_temp_path {TREE}/proxy_temp;
    fastcgi_temp_path {TREE}/fastcgi_temp;
    uwsgi_temp_path {TREE}/uwsgi_temp;
    scgi_temp_path {TREE}/scgi_temp;
}}
"""
UNIT = f"""\
[Unit]
After=network-online.target
[Service]
Type=forking
PIDFile={TREE}/logs/nginx.pid
ExecStart={TREE}/sbin/nginx -c {TREE}/conf/nginx.conf
ExecReload=/bin/kill -s HUP $MAINPID
KillMode=mixed
[Install]
WantedBy=multi-user.target
"""


def lay_out(host: Machine) -> None:
    """Make Debian's nginx an OpenResty: nothing of it is left where Debian has it."""
    host.must("systemctl disable --now nginx")
    host.must(f"mkdir -p {TREE}/sbin {TREE}/conf {TREE}/logs")
    host.must(f"mv /usr/sbin/nginx {TREE}/sbin/nginx && rm -r /etc/nginx")
    host.must("rm -f /lib/systemd/system/nginx.service /etc/init.d/nginx")
    host.write(f"{TREE}/conf/nginx.conf", MAIN)
    host.write("/etc/systemd/system/openresty.service", UNIT)
    host.must("systemctl daemon-reload && systemctl enable --now openresty")


def test_a_host_with_openresty_in_place_of_nginx(by_first_visitor: Callable[[str], Image], tmp_path: Path) -> None:
    with booted(by_first_visitor(BOOKWORM), tmp_path) as host:
        lay_out(host)
        application(host)
        host.net.approve(CUSTOMER, "first.visited.com", "second.visited.com")
        walk = Walk(host)
        say_who_we_are(host, walk)
        one_server_block_for_everyone(host, walk)
        walk.follow(section(FIRST_VISITOR, "4. The daemon"))
        assert problems(host) == []
        visit_by_http(host, "first.visited.com")
        visit_by_https(host, "second.visited.com", "lua")
        host.must(f"certctl issue {CUSTOMER}")
        renewed_by_the_unit(host)
        stopped_and_started(host)


def say_who_we_are(host: Machine, walk: Walk) -> None:
    """Do the second section; certctl first says which line is missing in which file, and writes nothing."""
    blocks = section(FIRST_VISITOR, "2. Say who you are")
    said = host.must(blocks[0].commands[0], 7)
    assert f"{TREE}/conf/nginx.conf" in said.err, said.text
    line = re.search(r"include \S+;", said.err)
    assert line, said.text
    assert host.run("ls /etc/certctl").code != 0
    text = host.read(f"{TREE}/conf/nginx.conf")
    host.write(f"{TREE}/conf/nginx.conf", text.replace("http {\n", f"http {{\n    {line[0]}\n"))
    walk.follow(blocks)


def one_server_block_for_everyone(host: Machine, walk: Walk) -> None:
    """Do the third section: the workers get the group by a line of their own, as there is none to replace."""
    said = walk.type("certctl init --mode lua", 10)
    assert f"{TREE}/conf/nginx.conf" in said.err, said.text
    assert "openresty" in said.err, said.text
    text = host.read(f"{TREE}/conf/nginx.conf")
    host.write(f"{TREE}/conf/nginx.conf", f"user nobody certctl;\n{text}")
    host.must("systemctl reload openresty")
    walk.type("certctl init --mode lua")
