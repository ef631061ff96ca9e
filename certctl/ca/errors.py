"""The one table that turns an engine's result, or an ACME problem (RFC 8555 §6.7), into an error of ours."""

import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from certctl.ca.engines.certbot.plugin_socket import Problem
from certctl.ca.http import retry_after
from certctl.ca.transcript import End, EngineResult, Response
from certctl.errors import CATALOGUE, CertctlError, Interrupted
from certctl.io.interrupt import stopping
from certctl.slugs import Slug

SHORTEST_WAIT = timedelta(minutes=1)
LONGEST_WAIT = timedelta(days=7)
_SERVER_ERRORS = 500

_SLUGS = {
    "dns": Slug.CA_DNS,
    "connection": Slug.CA_CONNECTION,
    "tls": Slug.CA_CONNECTION,
    "unauthorized": Slug.CA_UNAUTHORIZED,
    "incorrectResponse": Slug.CA_UNAUTHORIZED,
    "caa": Slug.CA_CAA,
    "rejectedIdentifier": Slug.CA_REJECTED_IDENTIFIER,
    "unsupportedIdentifier": Slug.CA_REJECTED_IDENTIFIER,
    "rateLimited": Slug.CA_RATE_LIMITED,
    "badNonce": Slug.CA_BAD_NONCE,
    "serverInternal": Slug.CA_UNREACHABLE,
    "accountDoesNotExist": Slug.CA_ACCOUNT,
    "externalAccountRequired": Slug.CA_ACCOUNT,
    "invalidContact": Slug.CA_ACCOUNT,
    "unsupportedContact": Slug.CA_ACCOUNT,
    "userActionRequired": Slug.CA_ACCOUNT,
}  # fmt: skip
# Unauthorized without a challenge is about who asks (RFC 8555 §6.7), and so is what is said of a registration.
_REQUEST = _SLUGS | dict.fromkeys(("unauthorized", "incorrectResponse"), Slug.CA_ACCOUNT)
_REGISTRATION = _REQUEST | dict.fromkeys(("rejectedIdentifier", "unsupportedIdentifier"), Slug.CA_ACCOUNT)
_SENTENCES = {
    Slug.CA_DNS: "the CA could not resolve {name}",
    Slug.CA_CONNECTION: "the CA could not fetch the challenge from port 80 of {name}",
    Slug.CA_UNAUTHORIZED: "the CA looked for the challenge of {name} and was shown something else",
    Slug.CA_CAA: "the CA found a CAA record that forbids it to sign {name}",
    Slug.CA_REJECTED_IDENTIFIER: "the CA does not sign {name}",
    Slug.CA_RATE_LIMITED: "the CA asks us to wait before {name} is tried again",
    Slug.CA_PAUSED: "the CA has paused {name} for our account until the operator visits its page",
    Slug.CA_ACCOUNT: "the CA did not accept our account",
    Slug.CA_REFUSED: "the CA refused the order for {name}",
    Slug.CA_BAD_NONCE: "the CA kept refusing our nonces",
    Slug.CA_UNREACHABLE: "the CA gave no usable answer",
    Slug.CA_TIMEOUT: "the CA did not finish the order for {name} in time",
    Slug.CA_CHALLENGE_ABORTED: "the order for {name} was given up before the CA looked",
    Slug.CA_UNRECOGNISED: "it failed for {name} in a way certctl does not know",
    Slug.CERTBOT_KILLED: "certbot was killed while it was at work on {name}",
    Slug.CONFIG_INVALID: "certbot's DNS plugin for {name} does not know an option it was given",
    Slug.MISSING_PROGRAM: "certbot does not know certctl's authenticator or its options",
}  # fmt: skip
_NEXT = {
    Slug.CA_DNS: "certctl verify {name}",
    Slug.CA_CAA: "certctl verify {name}",
    Slug.CA_CONNECTION: "certctl doctor",
    Slug.CA_UNAUTHORIZED: "certctl doctor",
    Slug.CA_UNREACHABLE: "certctl doctor",
    Slug.CERTBOT_KILLED: "journalctl -k -g 'Killed process'",
    Slug.MISSING_PROGRAM: f"{sys.executable} -m pip install --force-reinstall --no-deps 'certbot>=5.8,<6'",
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


def classify(engine_result: EngineResult, name: str, now: datetime, *, registering: bool = False) -> CertctlError:
    """Return the error for an engine's failed attempt at the certificate of ``name``.

    Problems of challenges decide first; then a request to stop; then the CA's last answer; then the exception that
    kept the engine from an answer.
    """
    error = _error(engine_result, name, now, registering=registering)
    error.quota_used = bool(engine_result.refuted) or any(r.made_order for r in engine_result.responses)
    return error


def _error(engine_result: EngineResult, name: str, now: datetime, *, registering: bool) -> CertctlError:
    if engine_result.aborted:
        return engine_result.aborted
    if refuted := engine_result.refuted:
        return _make(_SLUGS.get(refuted[0].type, Slug.CA_REFUSED), name, _shown(refuted))
    if stopping.is_set():  # we ended it ourselves: no party failed, and the next try needs no wait
        return Interrupted(Slug.INTERRUPTED, f"stopped while the CA was at work on {name}")
    if engine_result.end is End.DEADLINE:
        return _make(Slug.CA_TIMEOUT, name, engine_result.words)
    if (last := engine_result.last) and (problems := last.problems):
        return _refusal(problems, last, name, now, registering=registering)
    wait = _wait(last, now) if last and last.status >= _SERVER_ERRORS else None
    return _make(_without_problem(engine_result), name, engine_result.words, wait)


def _refusal(
    problems: Sequence[Problem], response: Response, name: str, now: datetime, *, registering: bool
) -> CertctlError:
    """Return the error for a problem document about the request itself, not about a challenge."""
    specific = next((p for p in problems if p.type in _SLUGS), problems[0])
    unknown = Slug.CA_UNREACHABLE if response.status >= _SERVER_ERRORS else Slug.CA_REFUSED
    slug = (_REGISTRATION if registering else _REQUEST).get(
        specific.type, Slug.CA_ACCOUNT if registering else unknown
    )
    if specific.type == "rateLimited" and any(_UNPAUSE.search(problem.detail) for problem in problems):
        slug = Slug.CA_PAUSED
    wait = _wait(response, now) if CATALOGUE[slug].heeds_retry_after else None
    return _make(slug, specific.identifier or name, _shown(problems), wait)


def _without_problem(engine_result: EngineResult) -> Slug:
    """Return the slug of a failure for which the CA sent no problem document."""
    if engine_result.own_fault:
        return engine_result.own_fault
    raised = engine_result.stopped_by
    if raised & _SILENT:
        return Slug.CA_TIMEOUT
    if raised & _UNREACHABLE:
        return Slug.CA_UNREACHABLE
    last = engine_result.last
    if last is None:
        return Slug.CA_UNRECOGNISED
    if last.status >= 300 or (last.json is None and raised & _NOT_ACME):  # noqa: PLR2004 - anything but success
        return Slug.CA_UNREACHABLE
    unfinished = (last.json or {}).get("status") in {"pending", "processing", "ready"}
    return Slug.CA_TIMEOUT if unfinished and "AuthorizationError" in raised else Slug.CA_UNRECOGNISED


def _wait(response: Response, now: datetime) -> int | None:
    """Return the seconds of ``Retry-After``, from a minute to a week; None when the CA names none.

    Let's Encrypt names the time in the problem's ``detail`` as well, which is read where the header is missing.
    """
    wait = retry_after(response.headers.get("retry-after", ""), now)
    if wait is None:
        wait = _prose_wait(response.body, now)
    return None if wait is None else int(min(max(wait, SHORTEST_WAIT), LONGEST_WAIT).total_seconds())


def _prose_wait(text: str, now: datetime) -> timedelta | None:
    found = _PROSE_TIME.search(text)
    return datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC) - now if found else None


def _make(slug: Slug, name: str, seen: Sequence[str], wait: int | None = None) -> CertctlError:
    command = _NEXT.get(slug)
    return CATALOGUE[slug].family(
        slug,
        _SENTENCES[slug].format(name=name),
        seen=seen,
        next=[command.format(name=name)] if command else [],
        retry_after=wait,
    )


def _shown(problems: Sequence[Problem]) -> list[str]:
    """Return each problem as a line; the report escapes and cuts it."""
    return list(dict.fromkeys(f"{p.identifier}: {p.detail} ({p.type})".removeprefix(": ") for p in problems))
