"""What a finished certbot left behind: its exit code, its words, its log, and the typed problems of our plugin.

certbot declares its console and log texts unstable and has no other channel for what goes wrong outside a
challenge, so the log is read in this module only, and only for what is the CA's: HTTP statuses, headers and
bodies, and the names of exceptions. Contract tests pin it to the real certbot.
"""

import json
import re
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path

from acme.messages import ERROR_PREFIX

from certctl.ca.exchange import Problem
from certctl.errors import CertctlError

_MAX_LOG = 4_000_000
_RECORD = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}:[A-Z]+:[\w.]+:", re.MULTILINE)
_RESPONSE = re.compile(r"Received response:\nHTTP (\d{3})\n(.*?)\n\n(.*)", re.DOTALL)
_EXCEPTION = re.compile(r"^((?:requests|urllib3|acme|certbot|josepy|json)[\w.]*\.[A-Z]\w+)(?::|$)", re.MULTILINE)


@dataclass(frozen=True)
class Response:
    """One HTTP answer of the CA."""

    status: int
    headers: dict[str, str]
    body: str

    @cached_property
    def json(self) -> dict[str, object] | None:
        """Return the body when it is a JSON object, as every ACME resource is."""
        try:
            parsed = json.loads(self.body)
        except ValueError:
            return None
        return parsed if isinstance(parsed, dict) else None

    @property
    def problems(self) -> list[Problem]:
        """Return the problem it carries, or an order's ``error`` (RFC 8555 §7.1.3), subproblems first (§6.7.1)."""
        document = self.json or {}
        nested = document.get("error")
        if isinstance(nested, dict):
            document = nested
        elif self.status < 400:  # noqa: PLR2004 - the first HTTP error status
            return []
        subproblems = document.get("subproblems")
        all_of_them = [*(subproblems if isinstance(subproblems, list) else []), document]
        return [_problem(item) for item in all_of_them if isinstance(item, dict) and "type" in item]

    @property
    def failed_challenges(self) -> list[Problem]:
        """Return why an authorization is invalid (RFC 8555 §7.1.4), when this is one that is."""
        document = self.json or {}
        tried = document.get("challenges")
        if document.get("status") != "invalid" or not isinstance(tried, list):
            return []
        name = document.get("identifier")
        host = str(name.get("value", "")) if isinstance(name, dict) else ""
        errors = [item["error"] for item in tried if isinstance(item, dict) and isinstance(item.get("error"), dict)]
        return [replace(_problem(error), identifier=host) for error in errors if "type" in error]

    @property
    def expires(self) -> datetime | None:
        """Return until when a pending order or authorization lives (RFC 8555 §7.1.3 and §7.1.4), if it says so."""
        document = self.json or {}
        if document.get("status") != "pending":
            return None
        try:
            moment = datetime.fromisoformat(str(document.get("expires", "")))
        except ValueError:
            return None
        return moment if moment.tzinfo else None

    @property
    def made_order(self) -> bool:
        """Tell whether this answer created an order (RFC 8555 §7.4)."""
        return self.status == 201 and "finalize" in (self.json or {})  # noqa: PLR2004 - HTTP Created


@dataclass(frozen=True)
class Evidence:
    """How a run of certbot ended.

    Attributes:
        code: Its exit code; None when our deadline ended it.
        output: What it printed, unescaped.
        log: Its debug log, unescaped.
        failed: The challenges the CA could not validate, from our plugin.
        aborted: Why we gave the order up, when we did.
    """

    code: int | None
    output: str
    log: str
    failed: tuple[Problem, ...] = ()
    aborted: CertctlError | None = None

    @cached_property
    def responses(self) -> list[Response]:
        """Return the CA's answers in order."""
        found = (_RESPONSE.match(record) for record in _RECORD.split(self.log))
        return [Response(int(m[1]), _headers(m[2]), m[3].rstrip("\n")) for m in found if m]

    @property
    def last(self) -> Response | None:
        """Return the CA's last answer."""
        return self.responses[-1] if self.responses else None

    @property
    def order_ends(self) -> datetime | None:
        """Return when the CA forgets what is pending; None when it did not say."""
        return min((moment for response in self.responses if (moment := response.expires)), default=None)

    @property
    def refuted(self) -> tuple[Problem, ...]:
        """Return the challenges the CA could not validate: from our plugin, else from the CA's own answers."""
        return self.failed or tuple(
            problem for response in self.responses for problem in response.failed_challenges
        )

    @cached_property
    def exceptions(self) -> list[str]:
        """Return the class names of the exceptions in the log, in order: public names, unlike their texts."""
        return [name.rpartition(".")[2] for name in _EXCEPTION.findall(self.log)]

    @property
    def account_unknown(self) -> bool:
        """Tell whether the CA has no account for our key (RFC 8555 §6.7), as after a private CA lost its data."""
        return any(p.type == "accountDoesNotExist" for p in (self.last.problems if self.last else []))


def read_log(path: Path) -> str:
    """Return the last part of certbot's log; a hostile CA may have made it long."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _MAX_LOG))
            return file.read(_MAX_LOG).decode("utf-8", "replace")
    except OSError:
        return ""


def _headers(text: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _problem(document: dict[str, object]) -> Problem:
    identifier = document.get("identifier")
    return Problem(
        type=str(document["type"]).removeprefix(ERROR_PREFIX),
        detail=str(document.get("detail", "")),
        identifier=str(identifier.get("value", "")) if isinstance(identifier, dict) else "",
    )
