"""One file, the environment above it, and every fault at once."""

import os
from pathlib import Path
from typing import get_args

import pytest

from certctl.app.config_file import commented
from certctl.config import NginxSection, load
from certctl.errors import ConfigInvalid, ExitCode
from certctl.values import Mode


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("CERTCTL_"):
            monkeypatch.delenv(name)


def write(directory: Path, text: str) -> Path:
    file = directory / "config.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_without_a_file_the_defaults_are_in_force(tmp_path: Path) -> None:
    settings = load(None, tmp_path)
    assert settings.dns.target == "status.hyperping.io"
    assert settings.paths.root == str(tmp_path)


def test_a_file_that_was_named_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load(tmp_path / "absent.toml", None)
    assert (caught.value.slug, caught.value.exit_code) == ("config-unreadable", ExitCode.CONFIG)


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, '[dns]\ntarget = "one.example.com"\nallow_private_names = true\n')
    monkeypatch.setenv("CERTCTL_DNS__TARGET", "Two.Example.com.")
    settings = load(file, None)
    assert settings.dns.target == "two.example.com"
    assert settings.dns.allow_private_names


def test_every_fault_is_reported_at_once_with_the_key_that_was_meant(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
        [nginx]
        moed = "blocks"
        http_port = "eighty"
        upstream = "http://app;}"
        [dsn]
        [approval]
        url = "http://elsewhere.example/{domain}"
        [ca]
        directory = "https://ca.example/dir"
        key_type = "rot13"
        """,
    )
    with pytest.raises(ConfigInvalid) as caught:
        load(file, None)
    seen = "\n".join(caught.value.seen)
    assert len(caught.value.seen) == 6
    assert "nginx.moed: unknown key; did you mean 'mode'?" in seen
    assert "dsn: unknown key; did you mean 'dns'?" in seen
    for key in ("nginx.http_port", "nginx.upstream", "approval.url", "ca.key_type"):
        assert key in seen


def test_a_secret_header_is_not_repeated_in_the_complaint(tmp_path: Path) -> None:
    file = write(tmp_path, '[approval]\nheaders = { Authorization = ["Bearer s3cret"] }\n')
    with pytest.raises(ConfigInvalid) as caught:
        load(file, None)
    assert "s3cret" not in "\n".join((*caught.value.seen, caught.value.message))


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00", b"[dns", b"dns = 1", b"[dns]\ntarget = []", b"[dns]\ntarget = 1e400"],
    ids=["not utf-8", "torn", "a number for a table", "a list for a text", "infinity"],
)
def test_absurd_files_are_a_clear_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigInvalid) as caught:
        load(file, None)
    assert caught.value.exit_code is ExitCode.CONFIG


def test_a_directory_a_device_and_a_huge_file_are_refused_unread(tmp_path: Path) -> None:
    huge = tmp_path / "huge.toml"
    with huge.open("wb") as file:
        file.truncate(10_000_000)
    for path in (tmp_path, Path("/dev/zero"), huge):
        with pytest.raises(ConfigInvalid):
            load(path, None)


def test_a_file_everybody_may_write_is_not_trusted(tmp_path: Path) -> None:
    file = write(tmp_path, "")
    file.chmod(0o666)
    with pytest.raises(ConfigInvalid, match="everybody may write"):
        load(file, None)


def test_the_file_that_init_writes_reads_back_as_the_settings_it_shows(tmp_path: Path) -> None:
    settings = load(write(tmp_path, '[nginx]\nlisten = ["127.0.0.1"]\n[approval]\nheaders = { A = "b" }\n'), None)
    assert load(write(tmp_path, commented(settings)), None) == settings


def test_every_key_that_init_writes_is_valid_when_uncommented(tmp_path: Path) -> None:
    text = commented(load(None, tmp_path)).replace("# ", "", 1)
    lines = [line.removeprefix("# ") for line in text.splitlines()[1:]]
    load(write(tmp_path, "\n".join(lines)), None)


def test_the_configuration_takes_every_mode_there_is() -> None:
    assert get_args(NginxSection.model_fields["mode"].annotation) == tuple(map(str, Mode))


@pytest.mark.parametrize("left", ["", "\n \n"])
def test_an_empty_file_is_damage_and_not_a_wish_for_all_the_defaults(tmp_path: Path, left: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(left)
    with pytest.raises(ConfigInvalid) as caught:
        load(file, tmp_path)
    assert (caught.value.slug, caught.value.next[:2]) == (
        "config-invalid",
        (f"rm {file}", f"certctl init --config {file}"),
    )
    file.write_text("# the defaults\n")
    assert load(file, tmp_path).nginx.mode == "blocks"
