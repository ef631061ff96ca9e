"""Whoever is not root hears it first, with the command that works, and nothing else happens."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

# All that a run loads is loaded before it steps down: the checkout may lie in root's own home.
AS_NOBODY = """
import io, json, os, sys
from contextlib import redirect_stderr, redirect_stdout
from certctl.cli import main, root, run
from certctl.cli.framework import Invocation
for name in root.list_commands(None):
    root.get_command(None, name)
import certctl.cli.signals, certctl.cli.streams, certctl.timer.install, certctl.timer.certbot_timer
def said(words):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(words, Invocation())
    return code, out.getvalue(), err.getvalue()
said(["status", "--config", "/nowhere/config.toml"])
said(["verify", "localhost"])
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
if sys.argv[1] == "many":
    print(json.dumps([said(words) for words in json.loads(sys.argv[2])]))
else:
    sys.argv.pop(1)
    main()
"""
WHO = 65534 if os.geteuid() == 0 else os.geteuid()

# Every command that works in the state, or writes what is root's.
NEEDING = [
    "issue a.example.com", "issue --dry-run a.example.com", "obtain a.example.com", "publish a.example.com",
    "wildcard example.net", "renew", "status", "status a.example.com", "log", "remove a.example.com",
    "confirm a.example.com", "reload", "reconcile", "doctor", "doctor --fix", "budget", "init", "init --dry-run",
    "init --target pages.example.net", "timer install", "timer remove", "serve --install", "serve --uninstall",
]  # fmt: skip


class Host:
    """A host of root's: a configuration everybody may read, or nobody, and a state."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for place in ("var/lib/certctl", "etc/certctl", "etc/nginx/conf.d", "etc/systemd/system"):
            (root / place).mkdir(parents=True)
        self.config = root / "etc/certctl/config.toml"
        self.config.write_text(f'[paths]\nroot = "{root}"\n[dns]\nresolvers = ["127.0.0.1:9"]\n')
        for path in (root, *root.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)

    def certctl(self, *words: str, **env: str) -> "subprocess.CompletedProcess[str]":
        argv = [sys.executable, "-c", AS_NOBODY, "one", *words]
        return subprocess.run(argv, capture_output=True, text=True, env=env, timeout=100, check=False)

    def each(self, lines: list[str], *options: str) -> Iterator[tuple[str, int, str, str]]:
        """Run many commands in one process that is nobody's; each by the boundary that main() has."""
        words = [["--config", str(self.config), *line.split(), *options] for line in lines]
        argv = [sys.executable, "-c", AS_NOBODY, "many", json.dumps(words)]
        ran = subprocess.run(argv, capture_output=True, text=True, env={}, timeout=100, check=True)
        for line, (code, out, err) in zip(lines, json.loads(ran.stdout), strict=True):
            yield line, code, out, err

    def open(self) -> None:
        for path in (self.root, *self.root.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)

    def everything(self) -> dict[str, int]:
        return {str(path): path.lstat().st_mtime_ns for path in self.root.rglob("*")}


@pytest.fixture
def host() -> Iterator[Host]:
    with TemporaryDirectory() as place:  # pytest's own lie below a directory that only its user may pass
        Path(place).chmod(0o755)
        host = Host(Path(place) / "host")
        yield host
        host.open()


def test_it_says_so_first_and_names_the_same_command_with_sudo(host: Host) -> None:
    before = host.everything()
    for line, code, out, err in host.each(NEEDING, "--json"):
        error = json.loads(out)["error"]
        assert (code, error["code"], err) == (10, "needs-root", ""), line
        assert error["next"][0] == f"sudo certctl --config {host.config} {line} --json"
        assert error["message"].startswith(f"certctl {line.split(maxsplit=1)[0]}")
        assert f"user {WHO} may not write {host.root}" in error["message"]
    assert host.everything() == before


def test_the_line_it_names_works(host: Host) -> None:
    """Type what is next, as root if we are, else where everything is ours."""
    ran = host.certctl("--config", str(host.config), "status", "--json")
    (line, _) = json.loads(ran.stdout)["error"]["next"]
    host.open()
    words = shlex.split(line)[2:]
    argv = [sys.executable, "-m", "certctl", *words]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=100, check=False)
    assert (ended.returncode, json.loads(ended.stdout)["ok"]) == (0, True)


def test_before_any_other_output(host: Host) -> None:
    ran = host.certctl("--config", str(host.config), "init")
    assert ran.stdout == ""
    assert ran.stderr.startswith("error[needs-root]: certctl init needs root: ")


def test_a_configuration_that_is_roots_own_leads_to_sudo_and_not_to_init(host: Host) -> None:
    if os.geteuid() != 0:
        pytest.skip("NOT PROVED: a file of root's; run as root")
    host.config.chmod(0o640)
    for line, code, out, _ in host.each(
        ["config show", "verify a.example.com", "timer status", "status"], "--json"
    ):
        error = json.loads(out)["error"]
        assert (code, error["code"]) == (10, "needs-root")
        assert error["next"][0] == f"sudo certctl --config {host.config} {line} --json"


def test_a_configuration_chosen_by_the_environment_goes_onto_the_line(host: Host) -> None:
    ran = host.certctl("remove", "it's.example.com", CERTCTL_CONFIG=str(host.config))
    assert f"sudo certctl --config {host.config} remove 'it'\"'\"'s.example.com'" in ran.stderr.replace("\n", "")


def test_what_needs_nothing_of_roots_runs(host: Host) -> None:
    lines = {"verify a.example.com": 9, "config path": 0, "explain needs-root": 0, "--help": 0}
    assert {line: code for line, code, _, _ in host.each([*lines])} == lines
