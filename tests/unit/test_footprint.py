"""What nginx's test writes to, read from its own words: ``nginx -T`` and ``nginx -V``."""

from pathlib import Path

import pytest

from certctl.nginx.footprint import footprint
from certctl.nginx.service import name_of, unit_of

DEBIAN = (
    "nginx version: nginx/1.22.1\nconfigure arguments: --prefix=/usr/share/nginx --conf-path=/etc/nginx/nginx.conf "
    "--http-log-path=/var/log/nginx/access.log --error-log-path=stderr --pid-path=/run/nginx.pid "
    "--http-client-body-temp-path=/var/lib/nginx/body --http-fastcgi-temp-path=/var/lib/nginx/fastcgi "
    "--http-proxy-temp-path=/var/lib/nginx/proxy --http-scgi-temp-path=/var/lib/nginx/scgi "
    "--http-uwsgi-temp-path=/var/lib/nginx/uwsgi\n"
)
OPENRESTY = (
    "nginx version: openresty/1.27.1.2\nconfigure arguments: --prefix=/usr/local/openresty/nginx --with-pcre-jit\n"
)
SAID = "nginx: the configuration file /etc/nginx/nginx.conf syntax is ok\n"
MAIN = "# configuration file /etc/nginx/nginx.conf:\n"


def writes(dump: str, build: str = DEBIAN) -> list[str]:
    return [str(path) for path in footprint(dump, build).writes]


def test_debians_nginx_writes_where_the_sample_unit_says() -> None:
    dump = f"{SAID}{MAIN}user www-data;\npid /run/nginx.pid;\nhttp {{ access_log /var/log/nginx/access.log; }}\n"
    assert writes(dump) == ["/run", "/var/lib/nginx", "/var/log/nginx"]


def test_an_nginx_of_its_own_prefix_writes_below_it_but_not_to_its_program_or_configuration() -> None:
    places = ("client_body_temp", "fastcgi_temp", "logs", "proxy_temp", "scgi_temp", "uwsgi_temp")
    assert writes(f"{SAID}{MAIN}events {{}}\n", OPENRESTY) == [f"/usr/local/openresty/nginx/{p}" for p in places]


def test_what_an_included_file_logs_to_counts() -> None:
    dump = f"{MAIN}include more/*;\n# configuration file /etc/nginx/more/a:\naccess_log /srv/logs/a.log main;\n"
    assert "/srv/logs" in writes(dump)


def test_a_cache_is_made_in_its_own_place() -> None:
    dump = f"{MAIN}http {{ proxy_cache_path /var/cache/nginx/pages levels=1:2; fastcgi_cache_path /srv/cache x; }}"
    assert {"/var/cache/nginx", "/srv/cache"} <= set(writes(dump))


@pytest.mark.parametrize(
    "log",
    ["off", "stderr", "syslog:server=unix:/dev/log", "memory:32m", "/l/$host.log", "/dev/stdout"],
)
def test_what_is_no_file_or_none_that_a_test_opens_needs_no_place(log: str) -> None:
    assert writes(f"{MAIN}http {{ access_log {log}; }}") == writes(f"{MAIN}http {{}}")


def test_a_directory_of_a_link_in_var_is_named_where_it_is() -> None:
    assert "/run" in writes(f"{MAIN}pid /var/run/nginx.pid;\n")


def test_a_certificate_of_the_operators_has_to_be_seen() -> None:
    dump = (
        f"{MAIN}http {{ server {{ ssl_certificate /home/me/c.pem; ssl_protocols TLSv1.3; root /home/me/www; }} }}"
    )
    assert footprint(dump, DEBIAN).reads == (Path("/etc/nginx/nginx.conf"), Path("/home/me/c.pem"))


@pytest.mark.parametrize(
    ("binary", "unit"),
    [("nginx", "nginx.service"), ("/usr/local/openresty/nginx/sbin/nginx", "openresty.service")],
)
def test_an_nginx_that_does_not_run_has_the_unit_of_custom(binary: str, unit: str) -> None:
    assert (unit_of(None, binary), f"{name_of(None, binary)}.service") == (unit, unit)
