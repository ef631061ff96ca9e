"""``certctl init``: who the operator is goes into the file, and a default that is somebody else's is said."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from certctl.app.context import Context
from certctl.app.health import configuration
from certctl.app.identity import foreign_defaults
from certctl.app.toml_edit import with_value
from certctl.cli import run
from certctl.cli.framework import Invocation
from certctl.cli.opening import read_context
from certctl.config import load
from certctl.nginx import foresee
from certctl.values import Level
from tests.debian import Debian
from tests.unit.test_nginx_text import SETTINGS

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


def on_a_host(tmp_path: Path, text: str) -> Context:
    """Read a configuration without a root of its own, as on a real host; nothing of the machine is looked at."""
    file = tmp_path / "config.toml"
    file.write_text(text, encoding="utf-8")
    return read_context(Invocation(config=file))


TARGET, URL, ZONE = (
    '[dns]\ntarget = "pages.example.net"\n',
    '[approval]\nurl = "https://api.example.net/{domain}"\n',
    '[wildcard]\nzone = "example.net"\n',
)


def test_who_sets_only_the_target_hears_where_customers_names_go(tmp_path: Path) -> None:
    said, fix = foreign_defaults(on_a_host(tmp_path, TARGET)) or ("", "")
    assert "https://api.hyperping.io/approvalendpoint/{domain} (the names of customers are sent there)" in said
    assert "[dns]" not in said
    assert fix == "certctl init --approval-url URL --zone ZONE"


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("# nothing of mine\n", "--target NAME --approval-url URL --zone ZONE"),
        (TARGET + URL, "--zone ZONE"),
        (TARGET + ZONE, "--approval-url URL"),
        (URL + ZONE, "--target NAME"),
    ],
)
def test_validate_and_doctor_name_each_default_that_is_in_force(
    tmp_path: Path, text: str, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    context = on_a_host(tmp_path, text)
    for options in ([], ["--json"], ["--quiet"]):
        assert run(["config", "validate", "--config", str(context.file), *options], Invocation()) == 0
        said = capsys.readouterr()
        assert said.err.replace("\n", " ").rstrip().endswith(f"next: certctl init {missing}")
    *_, last = configuration(context)
    assert (last.level, last.fix) == (Level.WARNING, f"certctl init {missing}")


@pytest.mark.parametrize(
    "text",
    [
        TARGET + URL + ZONE,
        '[dns]\ntarget = "status.hyperping.io"\n[wildcard]\nzone = "hyperping.io"\n' + URL,
    ],
)
def test_what_the_operator_chose_is_no_default_even_if_it_is_the_same(tmp_path: Path, text: str) -> None:
    context = on_a_host(tmp_path, text)
    assert foreign_defaults(context) is None
    assert [finding.level for finding in configuration(context)] == [Level.OK]


def test_the_environment_chooses_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERTCTL_DNS__TARGET", "pages.example.net")
    assert foreign_defaults(on_a_host(tmp_path, URL + ZONE)) is None


def test_a_sandbox_is_nobodys_host(host: Debian) -> None:
    assert host.certctl("config", "validate").err == ""
    assert host.certctl("init").err == ""


# --- what nginx reads, and what it refuses


def without_conf_d(host: Debian) -> int:
    """Take the include of conf.d out of nginx.conf; return the line on which the http block begins."""
    lines = [line for line in host.nginx_conf.read_text().splitlines() if "conf.d" not in line]
    host.nginx_conf.write_text("\n".join(lines) + "\n")
    return lines.index("http {") + 1


@pytest.mark.parametrize("has_directory", [True, False])
@pytest.mark.parametrize("options", [[], ["--mode", "blocks"], ["--dry-run"], [*WHO]])
def test_where_nginx_reads_nothing_of_ours_init_names_the_line_and_its_place(
    host: Debian,
    options: list[str],
    has_directory: bool,  # noqa: FBT001
) -> None:
    line = without_conf_d(host)
    if not has_directory:
        (host.root / "etc/nginx/conf.d").rmdir()
    said = host.certctl("init", "--json", *options)
    error = json.loads(said.out)["error"]
    assert (said.code, error["code"], said.err) == (7, "nginx-not-included", "")
    wanted = f"include {host.root}/etc/nginx/certctl.d/*.conf;"
    assert error["expected"] == [f"{wanted} in the http block of {host.nginx_conf}:{line}"]
    assert error["next"][0].startswith(
        f"add the line '{wanted}' to the http block, after {host.nginx_conf}:{line};"
    )
    assert not host.base.exists()
    assert not host.config.exists()


def test_the_line_it_names_is_the_line_it_needs(host: Debian) -> None:
    line = without_conf_d(host)
    error = json.loads(host.certctl("init", "--json").out)["error"]
    lines = host.nginx_conf.read_text().splitlines()
    lines.insert(line, error["next"][0].split("'")[1])
    host.nginx_conf.write_text("\n".join(lines))
    host.must("init")
    assert host.base.exists()
    assert host.nginx_is_content()


def test_a_relative_include_is_seen(host: Debian) -> None:
    text = host.nginx_conf.read_text()
    host.nginx_conf.write_text(text.replace("http {", "http {\n    include certctl.d/*.conf;"))
    host.must("init")
    assert not (host.root / "etc/nginx/conf.d/certctl.conf").exists()


def test_the_clash_of_default_servers_is_foreseen_with_its_line_before_anything_is_written(host: Debian) -> None:
    theirs = host.block("default", f"127.0.0.1:{host.http} default_server", "127.0.0.1:9")
    said = host.certctl("init", "--json")
    error = json.loads(said.out)["error"]
    assert (said.code, error["code"]) == (7, "nginx-conflict")
    assert error["seen"] == [f"{theirs}:2: listen 127.0.0.1:{host.http} default_server;"]
    assert error["next"][0] == f"take default_server out of {theirs}:2, or remove that file"
    assert not host.base.exists()
    host.block("default", f"127.0.0.1:{host.http}")
    host.must("init")
    assert host.nginx_is_content()


def test_and_after_it_is_there(host: Debian) -> None:
    host.must("init")
    theirs = host.block("late", f"127.0.0.1:{host.https} ssl default_server")
    said = host.certctl("init", "--json")
    error = json.loads(said.out)["error"]
    assert (said.code, error["code"]) == (7, "nginx-conflict")
    assert error["seen"] == [f"{theirs}:2: listen 127.0.0.1:{host.https} ssl default_server;"]
    findings = json.loads(host.certctl("doctor", "--json").out)["data"]
    assert [f["fix"] for f in findings if f"{theirs}:2" in f["fix"]]


@pytest.mark.parametrize("listen", ["127.0.0.9:{http} default_server", "127.0.0.1:{http}", "127.0.0.1:9 default"])
def test_a_default_server_elsewhere_is_none_of_our_business(host: Debian, listen: str) -> None:
    host.block("theirs", listen.format(http=host.http))
    host.must("init")
    assert host.nginx_is_content()


@pytest.mark.parametrize(
    ("ours", "theirs", "clash"),
    [
        ("*", "80 default_server", True),
        ("*", "0.0.0.0:80 default_server", True),
        ("*", "*:443 ssl default_server", True),
        ("*", "[::]:80 default_server ipv6only=on", False),
        ("[::]", "[::]:80 default_server ipv6only=on", True),
        ("10.0.0.1", "10.0.0.1 default_server", True),
        ("*", "8080 default_server", False),
        ("*", "unix:/run/x.sock default_server", False),
    ],
)
def test_addresses_are_compared_as_nginx_does(tmp_path: Path, ours: str, theirs: str, clash: object) -> None:
    config = tmp_path / "nginx.conf"
    config.write_text(f"http {{ server {{ # listen 80 default_server;\n listen {theirs}; }} }}\n")
    there = replace(SETTINGS, config=config, listen=(ours,), http_port=80, https_port=443)
    assert bool(foresee.clashes(there)) is clash


@pytest.mark.parametrize(
    ("include", "reads"),
    [
        ("include {d}/*.conf;", True),
        ("include other/*; include {d}/*.conf;", True),
        ("include\n  '{d}/*.conf';", True),
        ("include {d}/../certctl.d/*.conf;", True),
        ("include {link}/*.conf;", True),
        ("include {d}/00-certctl-base.conf; include {d}/[a-z0-9_]*.conf;", True),
        ("# include {d}/*.conf;", False),
        ("include {d}/*.disabled;", False),
    ],
)
def test_an_include_is_seen_however_it_is_written(tmp_path: Path, include: str, reads: object) -> None:
    directory, link, config = tmp_path / "certctl.d", tmp_path / "link", tmp_path / "nginx.conf"
    directory.mkdir()
    directory.joinpath("00-certctl-base.conf").touch()
    link.symlink_to(directory)
    config.write_text(f"http {{ {include.format(d=directory, link=link)}\n}}\n")
    assert foresee.is_read(config, directory) is reads


def test_two_listen_lines_in_one_are_both_seen(tmp_path: Path) -> None:
    config = tmp_path / "nginx.conf"
    config.write_text("http { server { listen 8080; listen 80 default_server; } }\n")
    there = replace(SETTINGS, config=config, listen=("*",), http_port=80, https_port=443)
    assert foresee.clashes(there) == [(f"{config}:1", "80 default_server")]


def test_a_configuration_that_is_broken_otherwise_is_not_called_in_place(host: Debian) -> None:
    host.must("init")
    (host.root / "etc/nginx/conf.d/theirs.conf").write_text("nonsense;\n")
    said = host.certctl("init", "--json")
    assert (said.code, json.loads(said.out)["error"]["code"]) == (7, "nginx-already-broken")


def test_the_doctor_reports_also_where_its_fix_was_refused(host: Debian) -> None:
    host.block("default", f"127.0.0.1:{host.http} default_server")
    said = host.certctl("doctor", "--fix", "--json")
    assert said.code == 1
    assert len(json.loads(said.out)["data"]) > 5
