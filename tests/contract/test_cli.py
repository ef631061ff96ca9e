"""The command line as people and scripts meet it: options, exit codes, JSON, streams, and hostile text."""

import errno
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest

from certctl.app.report import Rows
from certctl.cli import root, run
from certctl.cli.framework import Invocation
from certctl.cli.output.choose import open_report
from certctl.domain import Domain
from certctl.errors import CATALOGUE, CertctlError, NotReady
from certctl.slugs import Slug
from certctl.stories.journey import Journey
from certctl.stories.result import JourneyResult, Step, StepTaken
from tests.unit.test_domain import corpus

REFUSED = [line for line in corpus() if line.mode == "customer" and line.accepted is None]
HOSTILE = "\x1b[2J\x1b]0;owned\x07[red]x[/red][/]\u202eevil\r\n✓ done\x00\u2028\ud800"
RAW = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029\u2066-\u2069\ud800-\udfff]")
ESCAPE = "\x1b"


@dataclass
class Asked:
    """What this process asked of anyone while ``on``, by Python's own audit events."""

    on: bool = False
    events: list[str] = field(default_factory=list)

    def note(self, event: str, arguments: tuple[object, ...]) -> None:
        wanted = event in {"socket.connect", "socket.sendto", "socket.getaddrinfo", "subprocess.Popen"}
        if self.on and (wanted or event == "sqlite3.connect"):
            self.events.append(f"{event} {arguments}")


BOM = "\ufeff"
ASKED = Asked()
sys.addaudithook(ASKED.note)


@dataclass(frozen=True)
class Said:
    """How a run in this process ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return the one document; a second one, or anything around it, is an error."""
        assert self.out.endswith("}\n")
        return json.loads(self.out)


class Host:
    """A host whose every path lies below a temporary directory; nothing of it is there yet."""

    def __init__(self, directory: Path, capture: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self.root = directory / "host"
        self.config = directory / "config.toml"
        self.config.write_text(f'[paths]\nroot = "{self.root}"\n[dns]\nresolvers = ["127.0.0.1:9"]\n')
        self.config.chmod(0o600)
        self._capture, self._patch = capture, patch
        patch.setenv("CERTCTL_CONFIG", str(self.config))

    def certctl(self, *arguments: str, stdin: bytes = b"") -> Said:
        """Run a command in this process."""
        self._patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        self._capture.readouterr()
        code = run(list(arguments), Invocation())
        said = self._capture.readouterr()
        return Said(code, said.out, said.err)

    def apart(self, *arguments: str | bytes, shell: str = "", **env: str) -> "subprocess.CompletedProcess[bytes]":
        """Run a command in a process of its own; ``shell`` is what follows it on a shell's line."""
        argv: list[str | bytes] = [sys.executable, "-m", "certctl", *arguments]
        script = ["bash", "-o", "pipefail", "-c", f'"$@" {shell}', "bash"] if shell else []
        environment = {"PATH": os.environ["PATH"], "CERTCTL_CONFIG": str(self.config)} | env
        environment |= {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
        return subprocess.run([*script, *argv], capture_output=True, env=environment, timeout=240, check=False)


@pytest.fixture
def host(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, capsys, monkeypatch)


def commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Walk every command there is."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)


COMMANDS = dict(commands(root))

# --- names


@pytest.mark.parametrize("line", REFUSED, ids=lambda line: f"line-{line.number}")
@pytest.mark.parametrize("way", ["argument", "stdin"])
def test_a_hostile_name_is_exit_2_and_nothing_is_asked_of_anyone(host: Host, line: Any, way: str) -> None:
    if way == "stdin" and (
        line.text[:1] in {"", "#", BOM} or "\n" in line.text or line.text.strip(" \t\r") != line.text
    ):
        pytest.skip("on stdin this is another name, another line, or none")
    ASKED.events.clear()
    ASKED.on = True
    try:
        if way == "argument":
            said = host.certctl("issue", "--json", "--", line.text)
        else:
            said = host.certctl("issue", "--json", "-", stdin=line.text.encode("utf-8", "surrogatepass") + b"\n")
    finally:
        ASKED.on = False
    (result,) = said.json["results"]
    assert said.code == 2
    assert result["error"]["code"].startswith("name-")
    assert result["error"]["quota_used"] is False
    assert not ASKED.events
    assert not host.root.exists()
    assert not RAW.search(said.out + said.err)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b" \t\n", b""])
def test_a_list_from_a_spreadsheet_loses_nobody_and_a_bad_line_is_said_by_its_number(
    host: Host, end: bytes
) -> None:
    lines = [b"\xef\xbb\xbfgood.hyperping.io", b"# a comment", b"", b" \t a b.example.com", b"localhost"]
    said = host.certctl("issue", "--json", "-", stdin=end.join(lines) if end else b"\n".join(lines))
    found = {result["domain"]: result["error"] for result in said.json["results"]}
    assert (said.code, found["good.hyperping.io"]["code"]) == (2, "name-own-zone")
    assert found["a b.example.com"]["message"].startswith("line 4: ")
    assert found["localhost"]["message"].startswith("line 5: ")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_names_in_utf_16_are_called_that_and_nobody_is_asked(host: Host, encoding: str) -> None:
    said = host.certctl("issue", "-", stdin="\ufeffstatus.example.com\r\n".encode(encoding))
    assert (said.code, "UTF-16" in said.err, "iconv -f UTF-16" in said.err) == (2, True, True)
    assert not host.root.exists()


def test_the_corpus_is_refused_in_words_too(host: Host) -> None:
    for line in REFUSED:
        said = host.certctl("issue", "--", line.text)
        assert said.code == 2, line
        assert said.err.startswith("error[name-"), line
        assert not RAW.search((said.out + said.err).replace("\n", "")), line
        assert "Traceback" not in said.err, line


def test_a_good_name_is_asked_about_so_the_silence_above_means_something(host: Host) -> None:
    ASKED.events.clear()
    ASKED.on = True
    try:
        assert host.certctl("issue", "--dry-run", "--json", "status.example.com").code == 9
    finally:
        ASKED.on = False
    assert ASKED.events


def test_one_bad_name_is_reported_beside_the_others(host: Host) -> None:
    said = host.certctl("issue", "--dry-run", "--json", "localhost", "status.example.com")
    assert [result["domain"] for result in said.json["results"]] == ["localhost", "status.example.com"]
    assert said.code == 1, "they failed for different reasons"


def test_an_argument_that_is_not_utf8_is_refused_without_a_traceback(host: Host) -> None:
    for env in ({}, {"LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}):
        ran = host.apart("issue", "--json", b"caf\xe9.example.com", **env)
        assert ran.returncode == 2
        assert json.loads(ran.stdout)["results"][0]["error"]["code"] == "name-codepoint"
        plain = host.apart("issue", b"caf\xe9.example.com", **env)
        assert (plain.returncode, plain.stdout) == (2, b"")
        assert plain.stderr.startswith(b"error[name-codepoint]")


# --- options


@pytest.mark.parametrize("command", [["config", "path"], ["explain", "busy"], ["issue", "localhost"], ["status"]])
@pytest.mark.parametrize("option", [["--json"], ["-q"], ["-v"], ["--color", "always"], ["--config", "/nowhere"]])
def test_global_options_mean_the_same_before_and_after_the_command(
    host: Host, command: list[str], option: list[str]
) -> None:
    said = {host.certctl(*option, *command), host.certctl(*command, *option)}
    said |= {host.certctl(command[0], *option, *command[1:])}
    assert len(said) == 1
    if option == ["--json"]:
        assert host.certctl(*command) not in said


def test_root_moves_every_path_wherever_it_stands(host: Host, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for arguments in (["--root", str(other), "config", "show"], ["config", "show", "--root", str(other)]):
        said = host.certctl(*arguments, "--json")
        assert said.json["data"]["paths"]["root"] == str(other)


def test_the_option_after_the_command_wins(host: Host) -> None:
    assert host.certctl("--color", "always", "issue", "localhost", "--color", "never").err.count(ESCAPE) == 0


# --- JSON


@pytest.mark.parametrize(
    ("arguments", "code", "slug"),
    [
        (["--json"], 2, "usage"),
        (["--json", "isue"], 2, "usage"),
        (["issue", "--json"], 2, "usage"),
        (["issue", "--json", "--nope", "a.example.com"], 2, "usage"),
        (["issue", "--json", "--jobs", "many", "a.example.com"], 2, "usage"),
        (["status", "--json", "a.example.com", "b.example.com"], 2, "usage"),
        (["config", "--json"], 2, "usage"),
        (["explain", "--json", "nope"], 2, "usage"),
        (["status", "--json", "localhost"], 2, "name-single-label"),
        (["status", "--json", "unheard-of.example.com"], 10, "unknown-domain"),
        (["log", "--json", "..."], 2, "name-empty-label"),
        (["issue", "--json", "a.example.com", "--config", "/nowhere"], 10, "config-unreadable"),
        (["sandbox", "status", "--json", "--root", "/nowhere"], 10, "sandbox-failed"),
    ],
)
def test_json_is_exactly_one_document_for_every_failure(
    host: Host, arguments: list[str], code: int, slug: str
) -> None:
    said = host.certctl(*arguments)
    assert (said.code, said.json["ok"], said.json["error"]["code"]) == (code, False, slug)
    assert said.err == ""
    assert said.json["error"].keys() == {
        "code", "who", "message", "seen", "expected", "next", "retryable", "retry_after", "quota_used",
    }  # fmt: skip


def test_a_usage_error_names_the_command_in_its_schema(host: Host) -> None:
    assert host.certctl("issue", "--json").json["schema"] == "certctl.issue/1"
    assert host.certctl("config", "show", "extra", "--json").json["schema"] == "certctl.config-show/1"


@pytest.mark.parametrize(
    "command", [["status"], ["log"], ["explain"], ["explain", "busy"], ["config", "show"], ["completion", "bash"]]
)
def test_json_is_exactly_one_document_for_success(host: Host, command: list[str]) -> None:
    said = host.certctl(*command, "--json")
    assert (said.code, said.err, said.json["ok"]) == (0, "", True)
    assert re.fullmatch(r"certctl\.[a-z-]+/1", said.json["schema"])


def test_a_configuration_with_faults_is_exit_10_with_all_of_them(host: Host) -> None:
    host.config.write_text('[dns]\ntraget = "x"\n[nginx]\nhttp_port = "\\u001b[31mx"\n[nonsense]\na = 1\n')
    said = host.certctl("issue", "a.example.com", "--json")
    assert (said.code, said.json["error"]["code"], len(said.json["error"]["seen"])) == (10, "config-invalid", 3)
    assert any("did you mean 'target'" in line for line in said.json["error"]["seen"])
    plain = host.certctl("issue", "a.example.com")
    assert all(word in plain.err for word in ("traget", "http_port", "nonsense"))
    assert not RAW.search(plain.err.replace("\n", ""))


# --- streams


def test_piped_output_has_no_escapes_and_color_and_no_color_are_honoured(host: Host) -> None:
    assert ESCAPE not in host.certctl("explain").out + host.certctl("issue", "localhost").err
    assert ESCAPE in host.certctl("explain", "--color", "always").out
    assert ESCAPE in host.certctl("issue", "localhost", "--color", "always").err
    assert ESCAPE not in host.certctl("issue", "localhost", "--color", "never").err
    colored = host.apart("issue", "localhost", "--color", "always", NO_COLOR="1").stderr.decode()
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", colored), "NO_COLOR leaves bold, and takes colour"


def test_quiet_is_silent_on_success_and_errors_still_reach_stderr(host: Host) -> None:
    assert host.certctl("status", "-q") == Said(0, "", "")
    assert host.certctl("explain", "busy", "-q") == Said(0, "", "")
    said = host.certctl("issue", "localhost", "-q")
    assert (said.code, said.out) == (2, "")
    assert "name-single-label" in said.err


def test_a_traceback_is_for_those_who_ask_twice(host: Host) -> None:
    broken = ("status", "--config", "/nowhere")
    assert "Traceback" not in host.certctl(*broken).err + host.certctl(*broken, "-v").err
    assert "Traceback" in host.certctl(*broken, "-vv").err
    with_json = host.certctl(*broken, "-vv", "--json")
    assert with_json.json["error"]["code"] == "config-unreadable"


@pytest.mark.parametrize("command", [["explain"], ["explain", "--json"], ["--help"], ["completion", "bash"]])
def test_a_reader_who_has_enough_is_no_error(host: Host, command: list[str]) -> None:
    ran = host.apart(*command, shell="| head -1")
    assert (ran.returncode, ran.stderr) == (0, b"")


def test_a_reader_who_has_enough_changes_no_exit_code(host: Host) -> None:
    ran = host.apart("issue", "--json", "localhost", shell="> >(exec 0<&-; sleep 0.1)")
    assert (ran.returncode, ran.stderr) == (2, b"")


@pytest.mark.parametrize("command", [["explain"], ["explain", "--json"], ["status"], ["--version"], ["--help"]])
def test_a_full_stdout_is_exit_10_in_plain_words(host: Host, command: list[str]) -> None:
    ran = host.apart(*command, shell=">/dev/full")
    assert ran.returncode == 10
    assert ran.stderr.startswith(b"error[state-unwritable]: No space left on device")
    assert b"Traceback" not in ran.stderr
    assert b"Exception ignored" not in ran.stderr


@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-", ">&- 2>&- <&-"])
def test_nobody_listening_to_stderr_changes_no_exit_code(host: Host, where: str) -> None:
    assert host.apart("issue", "localhost", shell=where).returncode == 2


def test_a_closed_stdout_is_like_one_nobody_reads(host: Host) -> None:
    ran = host.apart("explain", shell=">&-")
    assert (ran.returncode, ran.stderr) == (0, b"")


def test_it_speaks_ascii_where_the_locale_does(host: Host) -> None:
    plain = {"LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    for command in (["--help"], ["explain"], ["status"], ["status", "--timeline"], ["issue", "--help"]):
        ran = host.apart(*command, **plain)
        assert (ran.returncode, ran.stderr) == (0, b""), command


# --- help and completion


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help_and_every_one_of_the_first_rank_an_example(
    host: Host, path: tuple[str, ...]
) -> None:
    said = host.certctl(*path, "--help")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"Usage: certctl {' '.join(path)}")
    if len(path) == 1 and not isinstance(COMMANDS[path], click.Group):
        assert f"  certctl {path[0]}" in said.out.partition("Examples:")[2]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_that_the_shell_can_read(host: Host, shell: str, tmp_path: Path) -> None:
    script = tmp_path / "completion"
    script.write_text(host.certctl("completion", shell).out)
    assert "_CERTCTL_COMPLETE" in script.read_text()
    if shell == "bash":
        assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


# --- hostile text from outside


def hostile_error(slug: Slug = Slug.DNS_CNAME_MISMATCH) -> CertctlError:
    return CATALOGUE[slug].family(slug, HOSTILE, seen=[HOSTILE], expected=[HOSTILE], next=[HOSTILE])


def hostile_journey(invocation: Invocation) -> JourneyResult:
    """Tell a report what a hostile CA, customer or endpoint made of a domain."""
    report = open_report(invocation)
    journey = Journey(Domain("status.example.com"), report)
    report.expect(1)
    report.started(journey.domain, Step.VERIFY)
    report.ended(journey.domain, StepTaken(Step.VERIFY, ok=False, ms=1, detail=HOSTILE))
    report.note(HOSTILE)
    report.warn(HOSTILE)
    journey.fail(hostile_error())
    refused = JourneyResult(domain=HOSTILE, error=NotReady(Slug.DNS_NO_DATA, HOSTILE))
    taken = StepTaken(Step.VERIFY, ok=False, ms=1, detail=HOSTILE)
    done = JourneyResult(domain="status.example.com", error=journey.error, steps=[taken])
    report.results([refused, done], lambda o: o.domain)
    return done


@pytest.mark.parametrize("color", ["never", "auto"])
@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
def test_hostile_text_never_reaches_a_terminal_raw(
    capsys: pytest.CaptureFixture[str],
    color: str,
    many: bool,  # noqa: FBT001
) -> None:
    invocation = Invocation(command="issue", color=color, verbose=1)
    hostile_journey(invocation)
    report = open_report(invocation)
    report.expect(2 if many else 1)
    report.arrived(Journey(Domain("status.example.com"), report))
    report.failure(hostile_error())
    report.data(None, Rows(["a", "b"], [[HOSTILE, HOSTILE]], [HOSTILE]))
    report.data(None, HOSTILE.replace("\r\n", " "))
    said = capsys.readouterr()
    for line in (said.out + said.err).split("\n"):
        assert not RAW.search(line), ascii(line)
        assert not line.startswith("✓ done"), "nobody forges a line of ours"
    assert "[red]x[/red][/]" in said.err, "markup is text"


def test_hostile_text_in_json_is_escaped_for_whoever_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    hostile_journey(Invocation(command="issue", json=True))
    said = capsys.readouterr()
    assert len(json.loads(said.out)["results"]) == 2
    strings = list(texts(json.loads(said.out)))
    assert any("\\x1b" in text for text in strings)
    assert not any(RAW.search(text) for text in strings)


def texts(value: Any) -> Iterator[str]:
    """Yield every text in a JSON document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)


def test_a_hostile_argument_is_quoted_in_a_usage_error(host: Host) -> None:
    for arguments in (["status", "a", HOSTILE], [HOSTILE], ["issue", f"--{HOSTILE}"], ["explain", HOSTILE]):
        said = host.certctl(*arguments)
        assert said.code == 2
        assert not RAW.search(said.err.replace("\n", "")), arguments


# --- runs that must not end without a word


class Gone(io.RawIOBase):
    """A stdin that breaks."""

    def readable(self) -> bool:
        return True

    def readinto(self, _buffer: object) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_a_broken_pipe_in_the_middle_of_a_run_is_said(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert host.certctl("config", "path").code == 0
    for options in ([], ["--json"]):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Gone())))
        code = run([*options, "verify", "-"], Invocation())
        said = capsys.readouterr()
        assert code == 1
        assert "a pipe or connection broke" in (json.loads(said.out)["error"]["message"] if options else said.err)


@pytest.mark.parametrize("group", [path for path, command in COMMANDS.items() if isinstance(command, click.Group)])
@pytest.mark.parametrize("option", ["before", "after"])
def test_a_group_without_a_command_is_one_document_too(host: Host, group: tuple[str, ...], option: str) -> None:
    said = host.certctl("--json", *group) if option == "before" else host.certctl(*group, "--json")
    assert (said.code, said.json["error"]["code"], said.err) == (2, "usage", "")


# --- secrets


@pytest.mark.parametrize("json_option", [[], ["--json"]])
def test_a_token_in_the_approval_url_is_not_shown(host: Host, json_option: list[str]) -> None:
    with host.config.open("a") as file:
        file.write('[approval]\nurl = "https://api.example.net/approval/{domain}?token=s3cret#s3cret"\n')
    said = host.certctl("config", "show", *json_option)
    assert said.code == 0
    assert "https://api.example.net/approval/{domain}?(set)" in said.out
    assert "s3cret" not in said.out + host.certctl("config", "validate", *json_option).out


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("approval", "url", "https://me:s3cret@api.example.net/{domain}"),
        ("approval", "url", "https://api.example.net/?token=s3cret&name={domain}"),
        ("approval", "url", "http://api.example.net/{domain}?token=s3cret"),
        ("approval", "url", "https://[s3cret]/{domain}"),
        ("approval", "url", "https://me:s3cret@\u2100.example.net/{domain}"),
        ("ca", "directory", "https://me:s3cret@ca.example.net/directory"),
    ],
)
def test_an_invalid_url_is_not_repeated(host: Host, section: str, key: str, value: str) -> None:
    with host.config.open("a") as file:
        file.write(f'[{section}]\n{key} = "{value}"\n')
    for arguments in (["config", "validate"], ["config", "show", "--json"], ["status", "-vv"]):
        said = host.certctl(*arguments)
        assert said.code == 10
        assert f"{section}.{key}: " in said.out + said.err
        assert "s3cret" not in said.out + said.err


def test_a_mistyped_command_is_answered_with_the_one_that_was_meant(host: Host) -> None:
    assert "Did you mean 'issue'?" in host.certctl("isue", "status.example.com").err
    assert "Did you mean" not in host.certctl("xyzzy").err
