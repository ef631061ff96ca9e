"""Read a finished certbot into an ``EngineResult``: its exit code, output, log, and our plugin's problems.

certbot declares its console and log texts unstable and has no other channel for what goes wrong outside a
challenge, so they are read in this module only, and only for what is the CA's: HTTP statuses, headers and
bodies, and the names of exceptions. Contract tests pin it to the real certbot.
"""

import re
from pathlib import Path

from certctl.ca.engines.certbot.plugin_socket import Problem
from certctl.ca.transcript import End, EngineResult, Response
from certctl.errors import CertctlError
from certctl.slugs import Slug

_MAX_LOG = 4_000_000
_RECORD = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}:[A-Z]+:[\w.]+:", re.MULTILINE)
_RESPONSE = re.compile(r"Received response:\nHTTP (\d{3})\n(.*?)\n\n(.*)", re.DOTALL)
_EXCEPTION = re.compile(r"^((?:requests|urllib3|acme|certbot|josepy|json)[\w.]*\.[A-Z]\w+)(?::|$)", re.MULTILINE)
_PLUGIN_OPTION = re.compile(r"unrecognized arguments: .*--dns-")
_NOISE = ("Saving debug log", "Ask for help", "- - -")


def read_result(
    code: int | None,
    output: str,
    log: str,
    failed: tuple[Problem, ...] = (),
    aborted: CertctlError | None = None,
) -> EngineResult:
    """Return how a run of certbot ended; ``code`` is None when our deadline ended it."""
    found = (_RESPONSE.match(record) for record in _RECORD.split(log))
    raised = frozenset(name.rpartition(".")[2] for name in _EXCEPTION.findall(log))
    return EngineResult(
        end=End.DEADLINE if code is None else End.FAILURE if code else End.SUCCESS,
        responses=[Response(int(m[1]), _headers(m[2]), m[3].rstrip("\n")) for m in found if m],
        stopped_by=raised,
        words=_words(code, output),
        own_fault=_own_fault(code, output, raised),
        failed=failed,
        aborted=aborted,
    )


def read_log(path: Path) -> str:
    """Return the last part of certbot's log, whose size a hostile CA could inflate."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _MAX_LOG))
            return file.read(_MAX_LOG).decode("utf-8", "replace")
    except OSError:
        return ""


def _headers(text: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _words(code: int | None, output: str) -> tuple[str, ...]:
    lines = [line for line in output.splitlines() if line.strip() and not line.startswith(_NOISE)]
    return (*lines[-8:], f"certbot: {_end(code)}")


def _end(code: int | None) -> str:
    if code is None:
        return "killed at our deadline"
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _own_fault(code: int | None, output: str, raised: frozenset[str]) -> Slug | None:
    """Return the slug of a failure of certbot itself, None when there was none: it is no answer of the CA's."""
    if code is not None and code < 0:
        return Slug.CERTBOT_KILLED
    if _PLUGIN_OPTION.search(output):
        return Slug.CONFIG_INVALID
    if "unrecognized arguments" in output or "does not appear to be installed" in output:
        return Slug.MISSING_PROGRAM
    # a DNS plugin of certbot's could not make the record
    return Slug.CA_CHALLENGE_ABORTED if "PluginError" in raised else None
