"""The one place that turns an engine's failed attempt into an error of ours."""

import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from certctl.ca.evidence import End, Evidence, Response
from certctl.ca.exchange import Problem
from certctl.ca.network import retry_after
from certctl.errors import CATALOGUE, CertctlError, Interrupted
from certctl.io.stop import stopping

SHORTEST_WAIT = timedelta(minutes=1)
LONGEST_WAIT = timedelta(days=7)
_SERVER_ERRORS = 500

_SLUGS = {
    "dns": "ca-dns",
    "connection": "ca-connection",
    "tls": "ca-connection",
    "unauthorized": "ca-unauthorized",
    "incorrectResponse": "ca-unauthorized",
    "caa": "ca-caa",
    "rejectedIdentifier": "ca-rejected-identifier",
    "unsupportedIdentifier": "ca-rejected-identifier",
    "rateLimited": "ca-rate-limited",
    "badNonce": "ca-bad-nonce",
    "serverInternal": "ca-unreachable",
    "accountDoesNotExist": "ca-account",
    "externalAccountRequired": "ca-account",
    "invalidContact": "ca-account",
    "unsupportedContact": "ca-account",
    "userActionRequired": "ca-account",
}  # fmt: skip
_SENTENCES = {
    "ca-dns": "the CA could not resolve {name}",
    "ca-connection": "the CA could not fetch the challenge from port 80 of {name}",
    "ca-unauthorized": "the CA looked for the challenge of {name} and was shown something else",
    "ca-caa": "the CA found a CAA record that forbids it to sign {name}",
    "ca-rejected-identifier": "the CA does not sign {name}",
    "ca-rate-limited": "the CA asks us to wait before {name} is tried again",
    "ca-paused": "the CA has paused {name} for our account until the operator visits its page",
    "ca-account": "the CA did not accept our account",
    "ca-refused": "the CA refused the order for {name}",
    "ca-bad-nonce": "the CA kept refusing our nonces",
    "ca-unreachable": "the CA gave no usable answer",
    "ca-timeout": "the CA did not finish the order for {name} in time",
    "ca-challenge-aborted": "the order for {name} was given up before the CA looked",
    "ca-unrecognised": "it failed for {name} in a way certctl does not know",
    "certbot-killed": "certbot was killed while it was at work on {name}",
    "config-invalid": "certbot's DNS plugin for {name} does not know an option it was given",
    "missing-program": "certbot does not know certctl's authenticator or its options",
}  # fmt: skip
_NEXT = {
    "ca-dns": "certctl verify {name}",
    "ca-caa": "certctl verify {name}",
    "ca-connection": "certctl doctor",
    "ca-unauthorized": "certctl doctor",
    "ca-unreachable": "certctl doctor",
    "certbot-killed": "journalctl -k -g 'Killed process'",
    "missing-program": f"{sys.executable} -m pip install --force-reinstall --no-deps 'certbot>=5.8,<6'",
}  # fmt: skip
_UNPAUSE = re.compile(r"https?://\S*unpause\S*")
_PROSE_TIME = re.compile(r"retry after (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC")
_SILENT = frozenset({"Timeout", "ReadTimeout", "ConnectTimeout", "TimeoutError"})
_NOT_ACME = frozenset({"JSONDecodeError", "ClientError"})
_UNREACHABLE = frozenset({
    "ConnectionError", "SSLError", "ProxyError", "ChunkedEncodingError", "TooManyRedirects", "InvalidURL",
    "InvalidSchema", "MissingSchema", "RequestException", "ContentDecodingError", "InvalidHeader",
    "DeserializationError", "MissingNonce", "BadNonce", "UnexpectedUpdate",
})  # fmt: skip


def classify(evidence: Evidence, name: str, now: datetime, *, registering: bool = False) -> CertctlError:
    """Say what went wrong with the certificate of ``name``.

    The typed problems come first; then whether we were asked to stop; then the CA's last answer; then what stopped
    the engine from getting one.
    """
    error = _error(evidence, name, now, registering=registering)
    error.quota_used = bool(evidence.refuted) or any(r.made_order for r in evidence.responses)
    return error


def _error(evidence: Evidence, name: str, now: datetime, *, registering: bool) -> CertctlError:
    if evidence.aborted:
        return evidence.aborted
    if refuted := evidence.refuted:
        return _make(_SLUGS.get(refuted[0].type, "ca-refused"), name, _shown(refuted))
    if stopping.is_set():  # we ended it ourselves: nobody is to blame, and no rest follows
        return Interrupted("interrupted", f"stopped while the CA was at work on {name}")
    if evidence.end is End.DEADLINE:
        return _make("ca-timeout", name, evidence.words)
    if (last := evidence.last) and (problems := last.problems):
        return _refusal(problems, last, name, now, registering=registering)
    wait = _wait(last, now) if last and last.status >= _SERVER_ERRORS else None
    return _make(_without_problem(evidence), name, evidence.words, wait)


def _refusal(
    problems: Sequence[Problem], response: Response, name: str, now: datetime, *, registering: bool
) -> CertctlError:
    """Read a problem document that is about the request itself, not about a challenge."""
    specific = next((p for p in problems if p.type in _SLUGS), problems[0])
    slug = _SLUGS.get(specific.type, "ca-refused")
    if slug == "ca-unauthorized" or (registering and slug in {"ca-refused", "ca-rejected-identifier"}):
        slug = "ca-account"  # unauthorized without a challenge is about who asks (RFC 8555 §6.7)
    if slug == "ca-rate-limited" and any(_UNPAUSE.search(problem.detail) for problem in problems):
        slug = "ca-paused"
    if slug == "ca-refused" and response.status >= _SERVER_ERRORS:
        slug = "ca-unreachable"
    wait = _wait(response, now) if slug in {"ca-rate-limited", "ca-unreachable"} else None
    return _make(slug, specific.identifier or name, _shown(problems), wait)


def _without_problem(evidence: Evidence) -> str:
    """Name a failure for which the CA sent no problem document."""
    if evidence.own_fault:
        return evidence.own_fault
    raised = evidence.stopped_by
    if raised & _SILENT:
        return "ca-timeout"
    if raised & _UNREACHABLE:
        return "ca-unreachable"
    last = evidence.last
    if last is None:
        return "ca-unrecognised"
    if last.status >= 300 or (last.json is None and raised & _NOT_ACME):  # noqa: PLR2004 - anything but success
        return "ca-unreachable"
    unfinished = (last.json or {}).get("status") in {"pending", "processing", "ready"}
    return "ca-timeout" if unfinished and "AuthorizationError" in raised else "ca-unrecognised"


def _wait(response: Response, now: datetime) -> int | None:
    """Return the seconds the CA asks us to wait, between a minute and a week, or None when it does not say.

    Let's Encrypt also says it in prose.
    """
    wait = retry_after(response.headers.get("retry-after", ""), now)
    if wait is None:
        wait = _prose_wait(response.body, now)
    return None if wait is None else int(min(max(wait, SHORTEST_WAIT), LONGEST_WAIT).total_seconds())


def _prose_wait(text: str, now: datetime) -> timedelta | None:
    found = _PROSE_TIME.search(text)
    return datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC) - now if found else None


def _make(slug: str, name: str, seen: Sequence[str], wait: int | None = None) -> CertctlError:
    command = _NEXT.get(slug)
    return CATALOGUE[slug].family(
        slug,
        _SENTENCES[slug].format(name=name),
        seen=seen,
        next=[command.format(name=name)] if command else [],
        retry_after=wait,
    )


def _shown(problems: Sequence[Problem]) -> list[str]:
    """Put each problem on a line; the report escapes and cuts it."""
    return list(dict.fromkeys(f"{p.identifier}: {p.detail} ({p.type})".removeprefix(": ") for p in problems))
