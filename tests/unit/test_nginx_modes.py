"""The small parts of the publish modes: a line of TOML, a line of nginx, who is missing; no nginx is run."""

import grp
import os
import pwd
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from certctl.app.toml_edit import with_value
from certctl.errors import ConfigInvalid
from certctl.io import accounts
from certctl.io.files import hand_over, rewrite
from certctl.io.fsuid import Owner
from certctl.nginx import doctor, mainconf, mirror
from certctl.nginx.base import base_file
from certctl.values import Level, Mode, Pem, Site
from tests.real_nginx import make_site
from tests.unit.test_nginx_text import SETTINGS, certificate

VERSION = (1, 22, 1)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('[nginx]\nmode = "blocks"  # how\n', '[nginx]\nmode = "lua"  # how\n'),
        ("[nginx]\n  mode='shared'\n", '[nginx]\n  mode = "lua"\n'),
        ('[nginx]\n# mode = "blocks"  # how\nroot = "/x"\n', '[nginx]\nmode = "lua"  # how\nroot = "/x"\n'),
        ('[nginx] # ours\nroot = "/x"\n[ca]\n', '[nginx] # ours\nmode = "lua"\nroot = "/x"\n[ca]\n'),
        ('[ca]\nemail = "a@b"', '[ca]\nemail = "a@b"\n\n[nginx]\nmode = "lua"\n'),
        (
            '[approve]\nmode = "x"\n[nginx]\r\nmode = "blocks"\r\n',
            '[approve]\nmode = "x"\n[nginx]\r\nmode = "lua"\r\n',
        ),
        ("[nginx]", '[nginx]\nmode = "lua"\n'),
        ("", '\n[nginx]\nmode = "lua"\n'),
    ],
)
def test_one_value_changes_and_every_other_byte_stays(before: str, after: str) -> None:
    assert with_value(before, "nginx", "mode", "lua") == after
    assert tomllib.loads(after)["nginx"]["mode"] == "lua"


@pytest.mark.parametrize(
    "text", ['nginx.mode = "blocks"\n', 'nginx = { mode = "blocks" }\n', '["nginx"]\nmode = "x"\n']
)
def test_what_is_not_a_line_of_its_own_is_left_to_the_operator(text: str) -> None:
    with pytest.raises(ConfigInvalid, match="not written as one line"):
        with_value(text, "nginx", "mode", "lua")


@given(
    st.lists(
        st.sampled_from(
            ["[nginx]\n", "[ca]\n", 'mode = "blocks"\n', '# mode = "x"\n', "a = 1\n", "\n", "#[nginx]\n"]
        )
    )
)
def test_whatever_the_file_the_result_says_the_mode_and_else_the_same_or_there_is_none(lines: list[str]) -> None:
    text = "".join(lines)
    try:
        wanted = tomllib.loads(text)
        changed = with_value(text, "nginx", "mode", "lua")
    except (tomllib.TOMLDecodeError, ConfigInvalid):
        return
    wanted.setdefault("nginx", {})["mode"] = "lua"
    assert tomllib.loads(changed) == wanted


def test_a_rewritten_file_keeps_its_mode_and_a_new_one_gets_the_one_asked_for(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("x")
    old.chmod(0o604)
    for path in (old, new):
        rewrite(path, "y", 0o640)
    assert [path.stat().st_mode & 0o777 for path in (old, new)] == [0o604, 0o640]
    assert old.read_text() == new.read_text() == "y"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("error_log /var/log/a.log warn;\nhttp { server { error_log /c.log; } }\n", ["/var/log/a.log", "warn"]),
        ("error_log /a.log;\nhttp {\n  error_log /b.log info;\n error_log /c.log;\n}\n", ["/b.log", "info"]),
        ("http { }\n", ["/built.log"]),
    ],
)
def test_requests_go_on_logging_where_the_operator_said(tmp_path: Path, text: str, expected: list[str]) -> None:
    config = tmp_path / "nginx.conf"
    config.write_text(text)
    assert mainconf.own_error_log(config, "--error-log-path=/built.log") == expected
    settings = replace(SETTINGS, config=config, mode=Mode.SHARED)
    assert f"        error_log {' '.join(expected)};\n" in base_file(
        settings, VERSION, "--error-log-path=/built.log"
    )


def test_a_log_that_is_more_than_plain_words_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "nginx.conf"
    config.write_text("error_log '/var/log/a b.log';\n")
    with pytest.raises(ConfigInvalid):
        base_file(replace(SETTINGS, config=config, mode=Mode.LUA), VERSION)


def test_an_eighth_of_a_workers_connections_may_wait_for_the_daemon(tmp_path: Path) -> None:
    config = tmp_path / "nginx.conf"
    for text, patient in (("events { worker_connections 768; }", 96), ("events { }", 64)):
        config.write_text(text)
        base = base_file(replace(SETTINGS, config=config, mode=Mode.LUA), VERSION)
        assert f'"/run/certctl/serve.sock", 10000, {patient})' in base


def test_each_mode_has_the_catch_all_it_needs_and_no_other() -> None:
    texts = {mode: base_file(replace(SETTINGS, mode=mode), VERSION) for mode in Mode}
    assert ["ssl_reject_handshake on;" in text for text in texts.values()] == [True, False, False]
    assert ["ssl_certificate_by_lua_block" in text for text in texts.values()] == [False, False, True]
    assert ["miss.sock" in text for text in texts.values()] == [False, True, False]
    assert ["live/$certctl_host/current" in text for text in texts.values()] == [False, True, True]
    for once in ("lua_package_path", "init_by_lua", "init_worker_by_lua"):
        assert once not in texts[Mode.LUA], "http blocks may have it once, and that is the operator's"


def test_a_socket_with_a_path_too_long_for_one_does_not_stop_nginx() -> None:
    for length, is_named in ((107, True), (108, False)):
        socket = Path("/" + "s" * (length - len("/") - len("/serve.sock")) + "/serve.sock")
        for mode in Mode:
            text = base_file(replace(SETTINGS, mode=mode, socket=socket), VERSION)
            assert (f"proxy_pass http://unix:{socket};" in text) is is_named
            assert ("syslog:server=unix:" in text) is (is_named and mode is Mode.SHARED)


def test_parsed_certificates_are_kept_where_nginx_can() -> None:
    settings = replace(SETTINGS, mode=Mode.SHARED)
    line = "ssl_certificate_cache max=20000 inactive=1h valid=1s;"
    assert line in base_file(settings, (1, 27, 4))
    assert line not in base_file(settings, (1, 27, 3))
    assert line not in base_file(replace(settings, mode=Mode.LUA), (1, 27, 4))
    assert "http2 on;" in base_file(settings, (1, 27, 4))


def test_a_wildcard_has_a_block_everywhere_and_others_where_the_operator_says() -> None:
    pem = Pem("", "")
    wild, plain = Site(certificate("*.a.test"), pem), Site(certificate("b.test"), pem)
    for mode in Mode:
        settings = replace(SETTINGS, mode=mode)
        assert settings.has_block(wild)
        assert settings.has_block(plain) is (mode is Mode.BLOCKS)
        assert settings.has_block(replace(plain, mode=Mode.BLOCKS))


@pytest.mark.parametrize(
    ("blocks", "seconds", "level"),
    [(1000, None, Level.OK), (1000, 4.9, Level.OK), (1001, 1.6, Level.WARNING), (600, 5.1, Level.WARNING)],
)
def test_the_doctor_names_another_mode_when_reloads_grow_dear(
    tmp_path: Path, blocks: int, seconds: float | None, level: Level
) -> None:
    if seconds is not None:
        (tmp_path / ".last-reload").write_text(f"{seconds}\n")
    (finding,) = doctor.size(replace(SETTINGS, live=tmp_path), blocks)
    assert finding.level is level
    assert ("certctl init --mode shared" in finding.fix) is (level is Level.WARNING)
    assert (f"took {seconds:.2f} s" in finding.text) if seconds else ("took" not in finding.text)


def test_the_mirror_is_closed_and_opened_with_everything_in_it_and_links_are_not_followed(tmp_path: Path) -> None:
    live, outside = tmp_path / "live", tmp_path / "outside"
    version = live / "a.test" / "1"
    version.mkdir(parents=True)
    outside.mkdir(mode=0o755)
    for place in (version, outside):
        for name in ("privkey.pem", "fullchain.pem"):
            (place / name).write_text("x")
            (place / name).chmod(0o600)
    (live / "a.test" / "current").symlink_to("1")
    (live / "b.test").symlink_to(outside)
    for rights, expected in ((mirror.FOR_WORKERS, [0o750, 0o640, 0o644]), (mirror.CLOSED, [0o700, 0o600, 0o644])):
        mirror.set_rights(live, rights)
        found = [version, version / "privkey.pem", version / "fullchain.pem"]
        assert [path.stat().st_mode & 0o7777 for path in found] == expected
        assert mirror.rights_of(live) == rights
    assert (outside / "fullchain.pem").stat().st_mode & 0o7777 == 0o600
    assert mirror.rights_of(tmp_path / "absent") is None


def test_nothing_is_written_or_swept_up_behind_a_link_in_a_domains_place(tmp_path: Path) -> None:
    """The daemon's user may put one there, and root's commands work in the mirror as well."""
    live, outside = tmp_path / "live", tmp_path / "outside"
    site = make_site(trustme.CA(), "a.test", 7)
    for name in (".ssh", "1", "2", "3"):
        (outside / name).mkdir(parents=True)
    (outside / "current").symlink_to("7")
    live.mkdir()
    home = live / "a.test"
    home.symlink_to(outside)
    mirror.prune(live, site.certificate)
    slot = mirror.slot(live, site, mirror.FOR_WORKERS)
    mirror.stage(slot, site, mirror.FOR_WORKERS)
    assert slot == mirror.Slot(home / "7", home)
    assert home.is_dir()
    assert not home.is_symlink()
    shutil.rmtree(home)
    home.symlink_to(outside)
    assert mirror.target(live, site.domain) is None
    mirror.remove(live, site.domain)
    assert {path.name for path in outside.iterdir()} == {".ssh", "1", "2", "3", "current"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_is_handed_over_is_given_with_all_below_it_and_nothing_elsewhere(tmp_path: Path) -> None:
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    (tree / "below").mkdir(parents=True)
    (tree / "below" / "file").touch()
    outside.touch()
    (tree / "link").symlink_to(outside)
    hand_over(tree, 5, 60)
    paths = (tree, tree / "below", tree / "below" / "file", tree / "link")
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in paths} == {(5, 60)}
    assert outside.stat().st_uid == 0


def test_accounts_are_found_by_name_and_what_is_missing_is_made_with_system_tools() -> None:
    user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    assert accounts.find(user, group) == Owner(os.geteuid(), os.getegid())
    assert accounts.find("nobody-of-that-name", group) is None
    assert accounts.missing(user, group) == []
    commands = accounts.missing("nobody-of-that-name", "no-such-group")
    assert commands[0] == ["groupadd", "--system", "no-such-group"]
    assert commands[1][:4] == ["useradd", "--system", "--gid", "no-such-group"]
    assert commands[1][-1] == "nobody-of-that-name"
    assert os.getegid() in accounts.groups_of(user)
    assert accounts.groups_of("nobody-of-that-name") == frozenset()
