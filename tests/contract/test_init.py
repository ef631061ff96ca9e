"""``certctl init``: who the operator is goes into the file, and a default that is somebody else's is said."""

import json
import tomllib
from pathlib import Path

import pytest

from certctl.cli import run
from certctl.cli.base import Invocation
from certctl.cli.config_line import with_value
from certctl.cli.doctor import configuration
from certctl.cli.identity import borrowed
from certctl.cli.wiring import House, read_house
from certctl.config import load
from certctl.values import Level
from tests.debian import Debian

WHO = (
    "--target", "pages.example.net", "--approval-url", "https://api.example.net/approvalendpoint/{domain}",
    "--zone", "example.net", "--email", "you@example.net",
)  # fmt: skip
EXPECTED = {
    ("dns", "target"): "pages.example.net",
    ("approval", "url"): "https://api.example.net/approvalendpoint/{domain}",
    ("wildcard", "zone"): "example.net",
    ("ca", "email"): "you@example.net",
}


@pytest.fixture
def host(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Debian:
    return Debian(tmp_path / "host", capfd, monkeypatch)


def in_force(host: Debian) -> dict[tuple[str, str], str]:
    settings = load(host.config, host.root).model_dump()
    return {(section, key): settings[section][key] for section, key in EXPECTED}


def test_a_bare_host_gets_a_commented_file_that_says_who_the_operator_is(host: Debian) -> None:
    said = host.certctl("init", *WHO)
    assert (said.code, said.err) == (0, "")
    assert in_force(host) == EXPECTED
    text = host.config.read_text()
    assert 'target = "pages.example.net"  # where customers\' CNAME must end\n' in text, (
        "the meaning stays beside it"
    )
    assert '# engine = "certbot"' in text, "what nobody set stays a comment"
    assert '+target = "pages.example.net"' in said.out.partition("Next: ")[0], "the diff comes first"


def test_again_it_changes_nothing(host: Debian) -> None:
    host.must("init", *WHO)
    before = host.config.read_bytes()
    said = host.certctl("init", *WHO)
    assert (said.code, host.config.read_bytes()) == (0, before)
    assert host.certctl("init", *WHO, "--dry-run").out == "Nothing would change.\n"
    assert host.certctl("init", "--dry-run").out == "Nothing would change.\n"


def test_of_a_file_that_is_there_exactly_those_lines_change(host: Debian) -> None:
    host.config.parent.mkdir(parents=True)
    before = "# mine\r\n[dns] # names\ntarget = 'old.example.net' # here\nresolvers = []\n\n[approval]\ndeny = []\n"
    host.config.write_bytes(before.encode())
    said = host.certctl("init", "--target", "New.Example.Net.", "--approval-url", "https://a.example.net/{domain}")
    assert said.code == 0
    after = before.replace("'old.example.net'", '"new.example.net"')
    after = after.replace("deny = []", 'url = "https://a.example.net/{domain}"\ndeny = []')
    assert host.config.read_bytes().decode() == after
    assert "-target = 'old.example.net' # here\n+target = \"new.example.net\" # here\n" in said.out


def test_a_dry_run_shows_the_diff_and_writes_nothing(host: Debian) -> None:
    said = host.certctl("init", *WHO, "--dry-run")
    assert said.code == 0
    assert '+zone = "example.net"' in said.out
    assert not host.config.exists()


def test_all_faults_are_said_at_once_and_nothing_is_written(host: Debian) -> None:
    wrong = {
        "--target": "10.0.0.44",
        "--approval-url": "https://me:s3cret@api.example.net/{domain}",
        "--zone": "not a zone",
        "--email": "you",
    }
    said = host.certctl("init", "--json", *(word for pair in wrong.items() for word in pair))
    error = json.loads(said.out)["error"]
    assert (said.code, error["code"]) == (2, "usage")
    assert [line.partition(":")[0] for line in error["seen"]] == list(wrong)
    assert "s3cret" not in said.out
    assert not host.root.joinpath("etc/certctl").exists()


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.net/{domain}",
        "https://api.example.net/",
        "https://api.example.net/{domain}/{domain}",
        "https://api.example.net/{domain} # x",
        'https://api.example.net/{domain}"\n[nginx]\nreload = ["rm"]\n#',
        "https://api.example.net/{domain}\\u0041",
        "https://{domain}.example.net/",
        "api.example.net/{domain}",
    ],
)
def test_an_approval_url_is_https_with_the_domain_in_its_path(host: Debian, url: str) -> None:
    said = host.certctl("init", "--approval-url", url)
    assert said.code == 2
    assert "--approval-url: must" in said.err
    assert not host.config.exists()


def test_it_writes_the_mode_and_who_the_operator_is_in_one_go(host: Debian) -> None:
    host.must("init", *WHO, "--mode", "blocks")
    assert in_force(host) == EXPECTED
    assert tomllib.loads(host.config.read_text())["nginx"]["mode"] == "blocks"


def test_a_value_that_the_environment_overrides_is_said(host: Debian, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERTCTL_DNS__TARGET", "elsewhere.example.net")
    said = host.certctl("init", *WHO)
    assert said.code == 0
    assert said.err == "warning: CERTCTL_DNS__TARGET in the environment wins over what the file says\n"


def test_a_line_in_force_is_changed_and_not_the_comment_above_it() -> None:
    before = '[dns]\n# target = "a.example.net"\ntarget = "b.example.net"\n'
    assert with_value(before, "dns", "target", "c.example.net") == before.replace("b.example", "c.example")


def test_what_a_value_holds_is_no_pattern_and_no_toml() -> None:
    for value in (r"\1 \g<1>", 'a"b', "tab\tnew\nline", "\u00e4"):
        text = with_value('[approval]\nurl = "x"\n', "approval", "url", value)
        assert tomllib.loads(text)["approval"]["url"] == value


# --- somebody else's defaults


def on_a_host(tmp_path: Path, text: str) -> House:
    """Read a configuration without a root of its own, as on a real host; nothing of the machine is looked at."""
    file = tmp_path / "config.toml"
    file.write_text(text, encoding="utf-8")
    return read_house(Invocation(config=file))


TARGET, URL, ZONE = (
    '[dns]\ntarget = "pages.example.net"\n',
    '[approval]\nurl = "https://api.example.net/{domain}"\n',
    '[wildcard]\nzone = "example.net"\n',
)


def test_who_sets_only_the_target_hears_where_customers_names_go(tmp_path: Path) -> None:
    said, fix = borrowed(on_a_host(tmp_path, TARGET)) or ("", "")
    assert "https://api.hyperping.io/approvalendpoint/{domain} (the names of customers are sent there)" in said
    assert "[dns]" not in said
    assert fix == "certctl init --approval-url URL --zone ZONE"


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("", "--target NAME --approval-url URL --zone ZONE"),
        (TARGET + URL, "--zone ZONE"),
        (TARGET + ZONE, "--approval-url URL"),
        (URL + ZONE, "--target NAME"),
    ],
)
def test_validate_and_doctor_name_each_default_that_is_in_force(
    tmp_path: Path, text: str, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    house = on_a_host(tmp_path, text)
    for options in ([], ["--json"], ["--quiet"]):
        assert run(["config", "validate", "--config", str(house.file), *options], Invocation()) == 0
        said = capsys.readouterr()
        assert said.err.replace("\n", " ").rstrip().endswith(f"next: certctl init {missing}")
    *_, last = configuration(house)
    assert (last.level, last.fix) == (Level.WARNING, f"certctl init {missing}")


@pytest.mark.parametrize(
    "text",
    [
        TARGET + URL + ZONE,
        '[dns]\ntarget = "status.hyperping.io"\n[wildcard]\nzone = "hyperping.io"\n' + URL,
    ],
)
def test_what_the_operator_chose_is_no_default_even_if_it_is_the_same(tmp_path: Path, text: str) -> None:
    house = on_a_host(tmp_path, text)
    assert borrowed(house) is None
    assert [finding.level for finding in configuration(house)] == [Level.OK]


def test_the_environment_chooses_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERTCTL_DNS__TARGET", "pages.example.net")
    assert borrowed(on_a_host(tmp_path, URL + ZONE)) is None


def test_a_sandbox_is_nobodys_host(host: Debian) -> None:
    assert host.certctl("config", "validate").err == ""
    assert host.certctl("init").err == ""
