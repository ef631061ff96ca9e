"""What an error says is next, typed on a host without a network: it shows the same fault, or mends it.

The whole list of errors, and where each is followed, is in tests/meta/test_next.py.
"""

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme

from certctl.io.clock import SystemClock
from certctl.store.sqlite import SqliteStore
from certctl.values import Issued
from tests.debian import Debian, Said
from tests.next_steps import is_ours, typed
from tests.real_nginx import make_site
from tests.unit.test_domain import corpus

MENDS = object()


@dataclass(frozen=True)
class Case:
    """How to meet an error, and what each command named next must show; ``MENDS``: then the first line works."""

    line: str
    arrange: Callable[[Debian], object] = lambda _: None
    shows: dict[str, object] = field(default_factory=dict)
    unplayed: tuple[str, ...] = ()


@pytest.fixture
def host(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Debian:
    return Debian(tmp_path / "host", capfd, monkeypatch)


def configured(text: str) -> Callable[[Debian], object]:
    def write(host: Debian) -> None:
        host.config.parent.mkdir(parents=True, exist_ok=True)
        host.config.write_text(text)

    return write


def newer_store(host: Debian) -> None:
    with_store(host)
    with closing(sqlite3.connect(host.root / "var/lib/certctl/certctl.db")) as db:
        db.execute("PRAGMA user_version = 99")


def with_store(host: Debian) -> SqliteStore:
    host.must("init")
    store = SqliteStore(host.root / "var/lib/certctl/certctl.db", SystemClock())
    store.count()
    store.close()
    return store


def broken_store(host: Debian) -> None:
    host.must("init")
    (host.root / "var/lib/certctl/certctl.db").write_bytes(b"not a database" * 100)


def broken_nginx(host: Debian) -> None:
    host.must("init")
    (host.root / "etc/nginx/conf.d/theirs.conf").write_text("nonsense;\n")


def foreign(unit: str) -> Callable[[Debian], object]:
    def write(host: Debian) -> None:
        path = host.root / "etc/systemd/system" / unit
        (host.root / "run/systemd/system").mkdir(parents=True)
        path.parent.mkdir(parents=True)
        path.write_text("[Unit]\nDescription=mine\n")

    return write


def refused_template(host: Debian) -> None:
    configured('[nginx]\ntemplate = "/etc/certctl/template.j2"\n')(host)
    (host.root / "etc/certctl/template.j2").write_text("server { nonsense; }\n")
    store = with_store(host)
    site = make_site(trustme.CA(), "status.example.com", 0)
    store.keep(Issued(site.certificate, site.pem))
    store.close()


DEAD = '[dns]\nresolvers = ["127.0.0.1:9"]\n'
CASES = {
    "usage": Case("isue", shows={"--help": "Usage: certctl"}),
    "config-invalid": Case(
        "status", configured("[dns]\ntraget = 1\n"),
        {"config schema": '"target"', "config validate": "traget"},
    ),
    "config-unreadable": Case("status --config {root}/mine.toml", shows={"init": MENDS}),
    "unknown-domain": Case(
        "status status.example.com", configured(DEAD), {"issue": "status.example.com", "status": ""},
    ),
    "dns-unreachable": Case("verify status.example.com", configured(DEAD), {"doctor": "dns"}),
    "store-unreachable": Case(
        "status", broken_store, {"doctor": "certctl.db cannot be used"},
        ("mkdir -m 0700 ",),  # typed in tests/faults/test_lost.py, where there is something to adopt
    ),
    "state-unwritable": Case("status", newer_store, {"--version": "certctl "}),
    "nginx-missing": Case(
        "reload", configured('[nginx]\nbinary = "/no/nginx"\n'), {"config show": "/no/nginx"},
        ("apt-get install nginx",),
    ),
    "nginx-already-broken": Case("reload", broken_nginx, {"nginx -t": "nonsense"}),
    "nginx-test-failed": Case("publish status.example.com", refused_template, {"publish": "nonsense"}),
    "timer-conflict": Case("timer install", foreign("certctl-renew.timer"), {"mv": MENDS}),
    "serve-failed": Case("serve --install", foreign("certctl-serve.service"), {"mv": ""}),
    "name-own-zone": Case("verify a.hyperping.io", shows={"config show": "hyperping.io"}),
}  # fmt: skip


@pytest.mark.parametrize("slug", CASES)
def test_what_is_next_shows_the_fault_or_mends_it(host: Debian, slug: str) -> None:
    case = CASES[slug]
    line = case.line.format(root=host.root).split()
    case.arrange(host)
    met = host.certctl(*line, "--json")
    error = error_of(met)
    assert error["code"] == slug
    *commands, last = error["next"]
    assert last == f"certctl explain {slug}"
    assert slug in host.must("explain", slug).out
    followed = set()
    for command in commands:
        if command.startswith(case.unplayed):
            continue
        key = next(key for key in case.shows if command.removeprefix("certctl ").startswith(key))
        followed.add(key)
        said = follow(host, command)
        expected = case.shows[key]
        if expected is MENDS:
            assert said.code == 0, said
            assert host.certctl(*line).code == 0
        else:
            assert said.code != 2, said
            assert "internal" not in said.err
            assert str(expected) in said.out + said.err, said
    assert followed == set(case.shows)


def follow(host: Debian, command: str) -> Said:
    if is_ours(command):
        return host.certctl(*typed(command))
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    return Said(ran.returncode, ran.stdout, ran.stderr)


def error_of(said: Said) -> dict[str, Any]:
    document = json.loads(said.out)
    return dict(document.get("error") or document["results"][0]["error"])


def test_a_name_that_is_refused_is_explained_and_nothing_else_is_next(host: Debian) -> None:
    met = set()
    for line in corpus():
        if line.accepted is not None or line.mode != "customer" or "\0" in line.text:
            continue
        error = error_of(host.certctl("verify", "--json", "--", line.text))
        if error["code"] not in met:
            met.add(error["code"])
            assert host.must("explain", str(error["code"])).out
        assert error["next"][-1] == f"certctl explain {error['code']}"
        assert set(error["next"][:-1]) <= {"certctl config show", "certctl wildcard"}
    assert len(met) > 12


def test_the_doctor_reports_on_a_host_that_was_never_set_up(host: Debian) -> None:
    said = host.certctl("doctor", "--json")
    findings = json.loads(said.out)["data"]
    assert said.code == 1
    assert {finding["area"] for finding in findings} >= {"config", "state", "store", "dns", "nginx"}
    assert not [
        finding
        for finding in findings
        if finding["fix"].startswith("certctl doctor") and not finding["fix"].endswith("--fix")
    ]


@pytest.mark.parametrize(
    "line", ["approval status.example.com", "doctor", "config validate", "verify status.example.com"]
)
def test_no_command_names_itself_as_what_is_next(host: Debian, line: str) -> None:
    configured(
        '[dns]\nresolvers = ["127.0.0.1:9"]\n[approval]\nurl = "https://127.0.0.1:9/{{domain}}"\n'.replace(
            "{{", "{"
        ).replace("}}", "}")
    )(host)
    if line in {"doctor", "config validate"}:
        host.config.write_text("[dns]\ntraget = 1\n")
    error = error_of(host.certctl(*line.split(), "--json"))
    assert f"certctl {line}" not in error["next"]
    assert error["next"]


def test_the_doctor_sees_each_place_that_is_full(host: Debian, monkeypatch: pytest.MonkeyPatch) -> None:
    host.must("init")
    full = {host.root / name for name in ("var/lib/certctl", "etc/nginx/certctl.d", "run/certctl")}
    real = shutil.disk_usage

    def used(path: Path) -> Any:
        return real(path)._replace(free=1_000_000) if path in full else real(path)

    monkeypatch.setattr(shutil, "disk_usage", used)
    findings = json.loads(host.certctl("doctor", "--json").out)["data"]
    assert {finding["fix"] for finding in findings if "too little room" in finding["text"]} == {
        f"df -h {place}" for place in full
    }
