"""What is written for nginx, and how nginx's own words are read; no nginx is run."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.domain import Domain
from certctl.errors import ConfigInvalid, WebServerFailed
from certctl.io.process import Finished
from certctl.nginx import mainconf, serverblock
from certctl.nginx.base import base_file
from certctl.nginx.command import judge, lines_with_name
from certctl.nginx.mainconf import ConfigLine
from certctl.nginx.serverblock import is_edited, is_ours, load_templates, owner_of, sealed, server_block
from certctl.nginx.settings import NginxSettings
from certctl.values import Certificate

SETTINGS = NginxSettings(
    config=Path("/etc/nginx/nginx.conf.that-is-not-there"),
    conf_dir=Path("/etc/nginx/certctl.d"),
    live=Path("/var/lib/certctl/live"),
    sites=Path("/var/lib/certctl-sites"),
    challenges=Path("/var/lib/certctl/challenges"),
    site_root=Path("/var/www/statuspage"),
    lock_file=Path("/run/certctl/nginx.lock"),
)


def certificate(*names: str) -> Certificate:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Certificate(Domain(names[0]), names, "01", "CA", now, now, "ecdsa-p256", "ab" * 32, 1)


def block(settings: NginxSettings = SETTINGS, version: tuple[int, int, int] = (1, 22, 1), *names: str) -> str:
    return server_block(settings, certificate(*(names or ("status.example.com",))), version)


def test_http2_is_said_the_way_each_version_wants_it() -> None:
    assert "listen *:443 ssl http2;" in block(version=(1, 25, 0))
    assert "http2 on;" not in block(version=(1, 25, 0))
    assert "listen *:443 ssl;" in block(version=(1, 25, 1))
    assert "http2 on;" in block(version=(1, 25, 1))


def test_the_redirect_names_the_port_only_when_it_is_not_443() -> None:
    assert "return 301 https://$host$request_uri;" in block()
    assert "return 301 https://$host:8443$request_uri;" in block(replace(SETTINGS, https_port=8443))


def test_a_template_that_was_loaded_stays_in_use_when_an_upgrade_brings_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = block()
    serverblock._environment.cache_clear()
    load_templates()
    monkeypatch.setattr("jinja2.PackageLoader.get_source", lambda *_: pytest.fail("it was read anew"))
    monkeypatch.setattr("jinja2.loaders.os.path.getmtime", lambda _: 0.0)
    assert block() == before


def test_a_wildcard_block_has_the_zone_and_all_below_it() -> None:
    text = block(SETTINGS, (1, 22, 1), "*.example.com", "example.com")
    assert text.count("server_name *.example.com example.com;") == 2
    assert "/certctl-sites/_wildcard.example.com/current/fullchain.pem;" in text


def test_an_upstream_gets_the_visitors_address_and_websockets() -> None:
    text = block(replace(SETTINGS, upstream="http://127.0.0.1:3000"))
    assert "proxy_pass http://127.0.0.1:3000;" in text
    assert "proxy_set_header Upgrade $http_upgrade;" in text
    assert "root /var/www/statuspage" not in text
    assert "proxy_pass http://unix:/run/app.sock:;" in block(replace(SETTINGS, upstream="unix:/run/app.sock"))


@pytest.mark.parametrize(
    "hostile",
    [
        replace(SETTINGS, upstream="http://a;}evil{"),
        replace(SETTINGS, upstream="data:text"),
        replace(SETTINGS, site_root=Path("/var/www/a b")),
        replace(SETTINGS, site_root=Path("/var/www/$host")),
        replace(SETTINGS, challenges=Path('/var/"x')),
        replace(SETTINGS, sites=Path("/var/lib/x;\nssl_engine evil")),
        replace(SETTINGS, listen=("*;",)),
        replace(SETTINGS, listen=("unix:/x",)),
    ],
)
def test_a_value_that_is_more_than_a_word_is_refused(hostile: NginxSettings) -> None:
    with pytest.raises(ConfigInvalid):
        block(hostile)


@given(st.text(max_size=40))
def test_whatever_stands_for_a_name_renders_as_one_word_or_not_at_all(name: str) -> None:
    try:
        text = server_block(SETTINGS, certificate(name), (1, 22, 1))
    except (ConfigInvalid, WebServerFailed):
        return
    assert text.count(f"    server_name {name};\n") == 2
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-*")


def test_an_operators_template_goes_through_the_same_check(tmp_path: Path) -> None:
    template = tmp_path / "mine.j2"
    template.write_text("server { root {{ site_root }}; {% include 'challenge.conf.j2' %} }\n")
    settings = replace(SETTINGS, template=template)
    assert "root /var/www/statuspage;" in block(settings)
    assert not is_edited(block(settings))
    with pytest.raises(ConfigInvalid):
        block(replace(settings, site_root=Path("/x;y")))


@pytest.mark.parametrize("text", ["{{ no_such_value }}", "{% if %}", "{{ names }}", "\0"])
def test_a_wrong_template_is_the_configurations_fault(tmp_path: Path, text: str) -> None:
    template = tmp_path / "mine.j2"
    template.write_text(text)
    with pytest.raises(ConfigInvalid):
        block(replace(SETTINGS, template=template))
    with pytest.raises(ConfigInvalid):
        block(replace(SETTINGS, template=tmp_path / "absent.j2"))


def test_an_edit_by_hand_shows_and_a_foreign_file_is_not_ours() -> None:
    text = sealed("a.example.com", "server { }\n")
    assert is_ours(text)
    assert not is_edited(text)
    assert owner_of(text) == "a.example.com"
    assert is_edited(text + "# mine\n")
    assert is_edited(text.split("\n")[0])
    assert is_ours("")
    assert is_ours("\0\0\0")
    assert not is_ours("server { }\n")
    assert is_edited(sealed("", "") + "\udcff")


def test_the_base_file_leaves_the_hash_sizes_to_an_operator_who_sets_them(tmp_path: Path) -> None:
    config = tmp_path / "nginx.conf"
    config.write_text("http {\n  # server_names_hash_bucket_size 64;\n}\n")
    assert "server_names_hash_bucket_size 512;" in base_file(replace(SETTINGS, config=config), (1, 22, 1))
    config.write_text("http { server_names_hash_bucket_size 128; }\n")
    assert "server_names_hash" not in base_file(replace(SETTINGS, config=config), (1, 22, 1)).replace("# ", "")


def test_no_domain_can_have_the_base_files_name() -> None:
    assert SETTINGS.block_path(Domain("00-certctl-base.com")) != SETTINGS.base_path
    assert SETTINGS.block_path(Domain("00-certctl-base.conf")).name == "00-certctl-base.conf.conf"


def test_the_pid_file_and_the_log_come_from_the_main_file_or_from_the_build(tmp_path: Path) -> None:
    config = tmp_path / "nginx.conf"
    build = "configure arguments: --prefix=/opt/ng --pid-path=/run/built.pid --error-log-path=logs/e.log"
    config.write_text("# pid /run/comment.pid;\nevents { pid /run/nested.pid; }\n")
    assert mainconf.pid_file(config, build) == Path("/run/built.pid")
    assert mainconf.error_log(config, build) == Path("/opt/ng/logs/e.log")
    config.write_text("pid '/run/given.pid'; error_log syslog:server=unix:/x; error_log /var/log/e.log warn;")
    assert mainconf.pid_file(config, build) == Path("/run/given.pid")
    assert mainconf.error_log(config, build) == Path("/var/log/e.log")
    config.write_text("pid run/relative.pid; error_log stderr;")
    assert mainconf.pid_file(config, build) == Path("/opt/ng/run/relative.pid")
    assert mainconf.error_log(config, build) is None


@pytest.mark.parametrize(
    ("dump", "expected"),
    [
        ("# configuration file /etc/nginx/certctl.d/00-certctl-base.conf:\n", True),
        ("http { include /etc/nginx/certctl.d/*.conf; }", True),
        ("http {\n  include certctl.d/*.conf;\n}", True),
        ('http { include "/etc/nginx/certctl.d/*"; }', True),
        ("http {\n  # include /etc/nginx/certctl.d/*.conf;\n}", False),
        ("http { include /etc/nginx/conf.d/*.conf; }", False),
        ("# configuration file /etc/nginx/certctl.d.old/x.conf:\n", False),
    ],
)
def test_it_is_seen_whether_nginx_includes_our_directory(dump: str, expected: bool) -> None:  # noqa: FBT001
    found = mainconf.includes(dump, Path("/etc/nginx/nginx.conf"), Path("/etc/nginx/certctl.d"))
    assert found is expected


def test_nginxs_verdict_is_read_from_both_forms_of_its_lines() -> None:
    verdict = judge(
        Finished(
            1, 'nginx: [emerg] unknown directive "x" in /etc/nginx/a.conf:3\nnginx: configuration file failed\n'
        )
    )
    assert (verdict.ok, str(verdict.where)) == (False, "/etc/nginx/a.conf:3")
    assert not verdict.is_environment
    timed = '2026/11/23 12:48:42 [emerg] 59#59: open() "/run/nginx.pid" failed (30: Read-only file system)\n'
    assert judge(Finished(1, timed)).is_environment
    bind = "nginx: [emerg] bind() to 0.0.0.0:81 failed (13: Permission denied)\n"
    assert judge(Finished(1, bind)).is_environment
    warned = '2026/11/23 12:48:42 [warn] 59#59: conflicting server name "a.test" on 0.0.0.0:443, ignored\n'
    assert judge(Finished(0, warned)).conflicts == {"a.test"}
    assert judge(Finished(None, "")).timed_out
    assert judge(Finished(139, "")).fault == "nginx gave no reason"


def test_a_name_is_found_in_nginxs_dump_with_file_and_line() -> None:
    dump = (
        "# configuration file /etc/nginx/nginx.conf:\nhttp {\n}\n\n"
        "# configuration file /etc/nginx/b.conf:\n# server_name a.test;\n"
        "server { server_name x.test; }\nserver { server_name b.test A.test; }\n"
    )
    assert lines_with_name(dump, "a.test") == [ConfigLine("/etc/nginx/b.conf", 3)]
