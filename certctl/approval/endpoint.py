"""One request to the approval endpoint: https, one path segment, no redirect, no body, one deadline."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, urlsplit

import requests

from certctl.approval.answer import Answer, Source, Verdict
from certctl.domain import Domain
from certctl.errors import ConfigInvalid
from certctl.formats import delay_seconds, is_secure
from certctl.io.http_errors import in_words, is_passing
from certctl.io.request import send
from certctl.io.running import OutOfTime
from certctl.slugs import Slug

_MARK = "{domain}"
_YES, _NO = 200, 404
_WORTH_ANOTHER_TRY = frozenset({502, 503, 504})
_MAX_TRIES = 3
_PAUSE_SECONDS = 0.2
_LONGEST_WAIT = 999_999


@dataclass(frozen=True, slots=True)
class ApprovalSettings:
    """The operator's ``[approval]`` section.

    Attributes:
        url: The endpoint; ``{domain}`` stands for the name.
        timeout_seconds: The limit of the whole question, retries included.
        ca_file: A private CA's root certificate; empty trusts the public ones.
        headers: Headers of the request; they may hold a secret, so they are never shown.
        allow: Names, lower case, approved without a request.
        deny: Names refused without a request; wins over ``allow``.
        own_zones: The operator's own zones, approved without a request.
    """

    url: str = field(repr=False)
    timeout_seconds: float = 5
    ca_file: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    own_zones: tuple[str, ...] = ()


def ask(domain: Domain, settings: ApprovalSettings) -> Answer:
    """Return the endpoint's answer; a transient failure is retried twice at most, within the deadline.

    Raises:
        ConfigInvalid: the configured URL is not allowed.
    """
    place = check_url(settings.url)
    url = settings.url.replace(_MARK, quote(domain.name, safe=""))
    started = time.monotonic()
    heard = _ask_in_time(url, settings, deadline=started + settings.timeout_seconds)
    spent = round((time.monotonic() - started) * 1000)
    return Answer(
        domain=domain,
        verdict={_YES: Verdict.YES, _NO: Verdict.NO}.get(heard.status, Verdict.UNKNOWN),
        source=Source.ENDPOINT,
        asked=f"{place.scheme}://{place.hostname}" + (f":{place.port}" if place.port else ""),
        seen=f"{heard.words} in {spent} ms",
        milliseconds=spent,
        status=heard.status or None,
        retry_after=heard.retry_after,
    )


def check_url(url: str) -> SplitResult:
    """Return the parts of an allowed URL: https, or http to loopback; the name is one path segment.

    Raises:
        ConfigInvalid: with what is wrong. The URL itself is not repeated: it may hold a token.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise _wrong("is not a URL") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise _wrong("must begin with https:// and name a host")
    if parts.username is not None:
        raise _wrong("may hold no user and no password: [approval] headers is the place for them")
    if not is_secure(parts):
        raise _wrong("uses http://, where anyone on the way could answer; only a loopback host may")
    if url.count(_MARK) != 1 or _MARK not in parts.path:
        raise _wrong("must contain {domain} exactly once, in its path")
    return parts


def _wrong(what: str) -> ConfigInvalid:
    return ConfigInvalid(
        Slug.CONFIG_INVALID,
        f"[approval] url {what}",
        expected=["https://api.example.net/approvalendpoint/{domain}"],
        next=["certctl config validate"],
    )


@dataclass(frozen=True, slots=True)
class _HttpAnswer:
    """The result of one request; ``status`` is 0 when there was no HTTP response."""

    words: str
    status: int = 0
    retry_after: int | None = None
    passing: bool = False


def _ask_in_time(url: str, settings: ApprovalSettings, deadline: float) -> _HttpAnswer:
    heard = _answer_of(url, settings, deadline)
    for _ in range(_MAX_TRIES - 1):
        if not heard.passing or time.monotonic() + _PAUSE_SECONDS >= deadline:
            break
        time.sleep(_PAUSE_SECONDS)
        heard = _answer_of(url, settings, deadline)
    return heard


def _answer_of(url: str, settings: ApprovalSettings, deadline: float) -> _HttpAnswer:
    try:
        response = _get(url, settings, deadline - time.monotonic())
    except OutOfTime:
        return _HttpAnswer(f"no answer within {settings.timeout_seconds:g} s")
    except Exception as error:  # noqa: BLE001 - whatever went wrong while asking, it was not a yes
        return _HttpAnswer(in_words(error), passing=is_passing(error))
    status = response.status_code
    wait = _seconds(response.headers.get("Retry-After", ""))
    return _HttpAnswer(_status_in_words(status), status, wait, passing=status in _WORTH_ANOTHER_TRY)


def _get(url: str, settings: ApprovalSettings, seconds: float) -> requests.Response:
    """Send the request and return the response's head; its body stays unread, its connection is closed."""
    headers = {"User-Agent": "certctl", **settings.headers}
    return send(requests.Request("GET", url, headers=headers), seconds, settings.ca_file)


def _status_in_words(status: int) -> str:
    if 300 <= status < 400:  # noqa: PLR2004
        return f"{status}, a redirect, which is not followed"
    if 400 <= status < 500 and status not in {404, 408, 429}:  # noqa: PLR2004
        return f"{status}; is the endpoint configured as it should be?"
    return str(status)


def _seconds(retry_after: str) -> int | None:
    """Return the seconds of ``Retry-After``; None for a date, or for a wait beyond reason."""
    seconds = delay_seconds(retry_after)
    return seconds if seconds is None or seconds <= _LONGEST_WAIT else None
