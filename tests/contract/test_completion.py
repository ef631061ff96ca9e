"""TAB in a real shell, on the installed command: commands, options, errors and the names in the store."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from certctl.cli.framework import Invocation
from certctl.domain import Domain
from certctl.errors import CATALOGUE
from certctl.io.clock import SystemClock
from certctl.store.peek import names_beginning
from certctl.store.sqlite import SqliteStore
from certctl.values import State
from tests.contract.test_cli import COMMANDS

BASH = r"""
source <(certctl completion bash)
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_certctl_completion certctl
printf '%s\n' "${COMPREPLY[@]}"
"""
NAMES = ("status.example.com", "status.example.net", "other.example.com", "*.example.net")


class Shell:
    """A shell on a host below a directory, whose store may have names."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "var/lib/certctl"
        self.config = root / "config.toml"
        root.mkdir()
        self.config.write_text(f'[paths]\nroot = "{root}"\n')
        there = str(Path(sys.executable).parent)
        self._env = {"PATH": f"{there}:{os.environ['PATH']}", "CERTCTL_CONFIG": str(self.config)}

    def tab(self, *words: str) -> list[str]:
        """Return what bash would offer for a line of these words, the last of which is being typed."""
        ran = subprocess.run(
            ["bash", "--norc", "-c", BASH, "bash", "certctl", *words],
            capture_output=True, text=True, env=self._env, timeout=240, check=False,
        )  # fmt: skip
        assert (ran.returncode, ran.stderr) == (0, "")
        return ran.stdout.split()

    def ask(self, shell: str, line: str, word: int | str) -> "subprocess.CompletedProcess[str]":
        """Ask as a shell's script does; fish gives the word itself, the others count."""
        question = {"_CERTCTL_COMPLETE": f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": str(word)}
        return subprocess.run(
            ["certctl"], capture_output=True, text=True, env=self._env | question, timeout=240, check=False
        )


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "host")


@pytest.fixture
def customers(shell: Shell) -> Iterator[SqliteStore]:
    shell.state.mkdir(parents=True)
    store = SqliteStore(shell.state / "certctl.db", SystemClock())
    for name in NAMES:
        store.set_state(Domain(name), State.PENDING)
    yield store
    store.close()


def test_bash_completes_commands_their_groups_and_options(shell: Shell) -> None:
    assert shell.tab("is") == ["issue"]
    assert shell.tab("config", "") == ["path", "schema", "show", "validate"]
    assert {"--target", "--approval-url", "--zone", "--email"} <= set(shell.tab("init", "--"))
    assert shell.tab("init", "--mode", "s") == ["shared"]


def test_bash_completes_errors(shell: Shell) -> None:
    assert shell.tab("explain", "dns-") == [slug for slug in CATALOGUE if slug.startswith("dns-")]


@pytest.mark.usefixtures("customers")
def test_bash_completes_the_names_in_the_store(shell: Shell) -> None:
    assert shell.tab("issue", "st") == ["status.example.com", "status.example.net"]
    assert shell.tab("status", "--json", "other") == ["other.example.com"]


@pytest.mark.usefixtures("customers")
def test_every_command_about_a_domain_completes_it(shell: Shell) -> None:
    asked = set()
    for path, command in COMMANDS.items():
        for parameter in command.params if path[0] != "sandbox" else ():
            if parameter.name in {"domain", "domains"}:
                context = click.Context(command, obj=Invocation(config=shell.config))
                offered = [item.value for item in parameter.shell_complete(context, "st")]
                assert offered == ["status.example.com", "status.example.net"], path
                asked.add(path[0])
    assert {"issue", "renew", "remove", "status", "log", "verify", "confirm"} <= asked


@pytest.mark.usefixtures("customers")
def test_a_name_is_offered_once_and_a_wildcard_only_after_its_star(shell: Shell) -> None:
    assert shell.tab("renew", "status.example.com", "") == ["other.example.com", "status.example.net"]
    assert shell.tab("renew", "*") == ["*.example.net"]
    assert shell.tab("issue", "nobody") == []


def test_a_removed_name_is_not_offered(shell: Shell, customers: SqliteStore) -> None:
    customers.set_state(Domain("status.example.com"), State.REMOVED)
    assert shell.tab("remove", "st") == ["status.example.net"]


def test_the_store_of_the_configuration_on_the_line_is_asked(shell: Shell, tmp_path: Path) -> None:
    other = Shell(tmp_path / "other")
    other.state.mkdir(parents=True)
    store = SqliteStore(other.state / "certctl.db", SystemClock())
    store.set_state(Domain("a.example.org"), State.PENDING)
    store.close()
    assert shell.tab("issue", "--config", str(other.config), "a.") == ["a.example.org"]
    assert shell.tab("--config", str(other.config), "issue", "a.") == ["a.example.org"]


def test_nothing_is_made_where_nothing_is(shell: Shell) -> None:
    assert shell.tab("issue", "st") == []
    assert [path.name for path in shell.root.iterdir()] == ["config.toml"]


def test_looking_leaves_no_file_beside_a_store_at_rest(shell: Shell, customers: SqliteStore) -> None:
    customers.close()
    before = sorted(path.name for path in shell.state.iterdir())
    assert shell.tab("issue", "other") == ["other.example.com"]
    assert sorted(path.name for path in shell.state.iterdir()) == before == ["certctl.db"]


def break_config(shell: Shell) -> None:
    shell.config.write_text("[dns\n")


def break_store(shell: Shell) -> None:
    shell.state.mkdir(parents=True)
    (shell.state / "certctl.db").write_bytes(b"not a database" * 100)


def hang_store(shell: Shell) -> None:
    shell.state.mkdir(parents=True)
    os.mkfifo(shell.state / "certctl.db")


@pytest.mark.parametrize("harm", [break_config, break_store, hang_store])
def test_whatever_is_wrong_tab_is_silent(shell: Shell, harm: Callable[[Shell], None]) -> None:
    harm(shell)
    ran = shell.ask("bash", "certctl issue st", 2)
    assert (ran.stdout.strip(), ran.stderr) == ("", "")
    assert ran.returncode == 0


def test_what_is_no_file_is_not_even_opened(tmp_path: Path) -> None:
    """To open a pipe is to wait for whoever writes into it."""
    os.mkfifo(pipe := tmp_path / "certctl.db")
    for path in (pipe, tmp_path):
        assert list(names_beginning(path, "", 9)) == []


def test_a_question_that_makes_no_sense_is_answered_with_silence(shell: Shell) -> None:
    for kind, word in (("tcsh", 1), ("bash", "many"), ("bash", "")):
        ran = shell.ask(kind, "certctl is", word)
        assert (ran.stdout, ran.stderr, ran.returncode) == ("", "", 1)


@pytest.mark.usefixtures("customers")
@pytest.mark.parametrize(
    ("kind", "line", "word", "said"),
    [
        ("zsh", "certctl issue other", 2, "plain\nother.example.com\n_"),
        ("fish", "certctl issue other", "other", "plain,other.example.com\n"),
        ("zsh", "certctl renew", 1, "plain\nrenew\nRenew every certificate that is due."),
        ("fish", "certctl explain dns-cname-l", "dns-cname-l", "dns-cname-loop"),
    ],
)
def test_zsh_and_fish_are_answered_too(shell: Shell, kind: str, line: str, word: int | str, said: str) -> None:
    ran = shell.ask(kind, line, word)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert said in ran.stdout
