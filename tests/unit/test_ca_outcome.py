"""Reading certbot's traces: every problem type has one error of ours, every Retry-After a sane wait."""

from datetime import UTC, datetime

import pytest

from certctl.ca.engines.certbot.log import read_result
from certctl.ca.engines.certbot.plugin_socket import Problem
from certctl.ca.errors import classify
from certctl.errors import ConfigInvalid, Internal, RateLimited, Refused, Unreachable
from certctl.slugs import Slug

NOW = datetime(2027, 1, 1, tzinfo=UTC)
NAME = "status.example.com"


def logged(status: int, body: str, headers: str = "Content-Type: application/problem+json") -> str:
    return (
        "2027-01-01 00:00:00,123:DEBUG:acme.client:Received response:\n"
        f"HTTP {status}\n{headers}\n\n{body}\n"
        "2027-01-01 00:00:00,124:DEBUG:certbot._internal.log:Exiting abnormally:\n"
    )


def problem(kind: str, detail: str = "said so") -> str:
    return f'{{"type": "urn:ietf:params:acme:error:{kind}", "detail": "{detail}"}}'


def slug_of(log: str, *, output: str = "", code: int | None = 1) -> str:
    return classify(read_result(code, output, log), NAME, NOW).slug


@pytest.mark.parametrize(
    ("kind", "slug"),
    [
        ("dns", "ca-dns"),
        ("connection", "ca-connection"),
        ("tls", "ca-connection"),
        ("unauthorized", "ca-unauthorized"),
        ("incorrectResponse", "ca-unauthorized"),
        ("caa", "ca-caa"),
        ("rateLimited", "ca-rate-limited"),
        ("rejectedIdentifier", "ca-rejected-identifier"),
        ("serverInternal", "ca-unreachable"),
        ("somethingNew", "ca-refused"),
    ],
)
def test_a_failed_challenge_is_named_by_its_type(kind: str, slug: str) -> None:
    found = read_result(1, "", "", failed=(Problem(kind, "because", NAME),))
    error = classify(found, NAME, NOW)
    assert (error.slug, error.quota_used) == (slug, True)
    assert error.seen == (f"{NAME}: because ({kind})",)


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("dns", f"certctl verify {NAME}"),
        ("caa", f"certctl verify {NAME}"),
        ("connection", "certctl doctor"),
        ("unauthorized", "certctl doctor"),
        ("serverInternal", "certctl doctor"),
    ],
)
def test_a_failed_challenge_says_what_looks_at_the_same_thing(kind: str, command: str) -> None:
    found = read_result(1, "", "", failed=(Problem(kind, "because", NAME),))
    assert classify(found, NAME, NOW).next[0] == command


@pytest.mark.parametrize(
    ("kind", "slug"),
    [
        ("accountDoesNotExist", "ca-account"),
        ("externalAccountRequired", "ca-account"),
        ("invalidContact", "ca-account"),
        ("unsupportedContact", "ca-account"),
        ("userActionRequired", "ca-account"),
        ("unauthorized", "ca-account"),
        ("badNonce", "ca-bad-nonce"),
        ("badCSR", "ca-refused"),
        ("unsupportedIdentifier", "ca-rejected-identifier"),
    ],
)
def test_a_problem_with_the_request_is_named_by_its_type(kind: str, slug: str) -> None:
    assert slug_of(logged(400, problem(kind))) == slug


@pytest.mark.parametrize("kind", ["malformed", "rejectedIdentifier", "unsupportedIdentifier", "unauthorized"])
def test_a_refusal_to_register_is_about_the_account(kind: str) -> None:
    found = read_result(1, "", logged(400, problem(kind)))
    assert classify(found, "the account", NOW, registering=True).slug == "ca-account"


def test_an_orders_own_error_counts_though_its_answer_was_200() -> None:
    body = f'{{"status": "invalid", "error": {problem("caa")}}}'
    assert slug_of(logged(200, body)) == "ca-caa"


def test_a_subproblem_is_more_telling_than_the_whole() -> None:
    sub = problem("rejectedIdentifier").replace("}", ', "identifier": {"type": "dns", "value": "b.test"}}')
    body = f'{{"type": "urn:ietf:params:acme:error:compound", "detail": "several", "subproblems": [{sub}]}}'
    error = classify(read_result(1, "", logged(403, body)), NAME, NOW)
    assert error.slug == "ca-rejected-identifier"
    assert "b.test" in error.message


def test_a_refused_nonce_that_was_retried_is_forgotten() -> None:
    log = logged(400, problem("badNonce")) + logged(403, problem("rejectedIdentifier"))
    assert slug_of(log) == "ca-rejected-identifier"


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("3600", 3600),
        ("0", 60),
        ("-5", None),
        ("1000000000000", 604800),
        ("9" * 4000, 604800),
        ("Fri, 01 Jan 2027 02:00:00 GMT", 7200),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 60),
        ("Fri, 01 Jan 2999 00:00:00 GMT", 604800),
        ("soon", None),
        ("", None),
        ("Fri, 99 Foo 2027 99:99:99 GMT", None),
    ],
)
def test_the_wait_a_ca_asks_for_is_between_a_minute_and_a_week(value: str, wait: int | None) -> None:
    error = classify(read_result(1, "", logged(429, problem("rateLimited"), f"Retry-After: {value}")), NAME, NOW)
    assert isinstance(error, RateLimited)
    assert error.retry_after == wait


def test_lets_encrypts_prose_is_read_when_the_header_is_missing() -> None:
    body = problem("rateLimited", "too many certificates (5), retry after 2027-01-01 03:00:00 UTC: see the docs")
    error = classify(read_result(1, "", logged(429, body)), NAME, NOW)
    assert error.retry_after == 3 * 3600


@pytest.mark.parametrize(
    ("exception", "slug"),
    [
        ("requests.exceptions.ConnectionError: refused", "ca-unreachable"),
        ("requests.exceptions.SSLError: untrusted", "ca-unreachable"),
        ("requests.exceptions.ProxyError: refused", "ca-unreachable"),
        ("requests.exceptions.ChunkedEncodingError: cut", "ca-unreachable"),
        ("requests.exceptions.ContentDecodingError: not gzip", "ca-unreachable"),
        ("requests.exceptions.TooManyRedirects: 30", "ca-unreachable"),
        ("requests.exceptions.InvalidURL: x", "ca-unreachable"),
        ("requests.exceptions.InvalidSchema: x", "ca-unreachable"),
        ("requests.exceptions.MissingSchema: x", "ca-unreachable"),
        ("requests.exceptions.InvalidHeader: x", "ca-unreachable"),
        ("requests.exceptions.RequestException: x", "ca-unreachable"),
        ("josepy.errors.DeserializationError: x", "ca-unreachable"),
        ("acme.errors.MissingNonce: x", "ca-unreachable"),
        ("acme.errors.BadNonce: x", "ca-unreachable"),
        ("acme.errors.UnexpectedUpdate: x", "ca-unreachable"),
        ("requests.exceptions.Timeout: slow", "ca-timeout"),
        ("requests.exceptions.ReadTimeout: slow", "ca-timeout"),
        ("requests.exceptions.ConnectTimeout: slow", "ca-timeout"),
        ("acme.errors.TimeoutError", "ca-timeout"),
        ("certbot.errors.SomethingNew: ?", "ca-unrecognised"),
    ],
)
def test_without_an_answer_the_exception_decides(exception: str, slug: str) -> None:
    assert slug_of(f"2027-01-01 00:00:00,124:DEBUG:certbot._internal.log:Traceback:\n{exception}\n") == slug


@pytest.mark.parametrize(
    ("status", "body", "exception", "slug"),
    [
        (200, "<html>", "json.decoder.JSONDecodeError: no", "ca-unreachable"),
        (200, "<html>", "acme.errors.ClientError: no", "ca-unreachable"),
        (200, "<html>", "certbot.errors.SomethingNew: ?", "ca-unrecognised"),
        (200, '{"status": "pending"}', "certbot.errors.AuthorizationError: ?", "ca-timeout"),
        (200, '{"status": "processing"}', "certbot.errors.AuthorizationError: ?", "ca-timeout"),
        (200, '{"status": "ready"}', "certbot.errors.AuthorizationError: ?", "ca-timeout"),
        (200, '{"status": "valid"}', "certbot.errors.AuthorizationError: ?", "ca-unrecognised"),
        (200, '{"status": "pending"}', "certbot.errors.SomethingNew: ?", "ca-unrecognised"),
        (299, "{}", "certbot.errors.SomethingNew: ?", "ca-unrecognised"),
        (300, "{}", "certbot.errors.SomethingNew: ?", "ca-unreachable"),
        (500, "{}", "certbot.errors.SomethingNew: ?", "ca-unreachable"),
    ],
)
def test_without_a_problem_document_the_last_answer_and_the_exception_decide(
    status: int, body: str, exception: str, slug: str
) -> None:
    assert slug_of(logged(status, body) + exception + "\n") == slug


@pytest.mark.parametrize(("status", "wait"), [(499, None), (500, 120), (503, 120)])
def test_a_server_error_may_say_how_long_it_lasts(status: int, wait: int | None) -> None:
    error = classify(read_result(1, "", logged(status, "<html>", "Retry-After: 120")), NAME, NOW)
    assert (error.slug, error.retry_after) == ("ca-unreachable", wait)


@pytest.mark.parametrize(
    ("kind", "slug", "wait"),
    [
        ("rateLimited", "ca-rate-limited", 120),
        ("serverInternal", "ca-unreachable", 120),
        ("somethingNew", "ca-unreachable", 120),
        ("badNonce", "ca-bad-nonce", None),
        ("caa", "ca-caa", None),
        ("userActionRequired", "ca-account", None),
    ],
)
def test_a_wait_is_taken_from_a_ca_that_is_busy_not_from_one_that_refuses(
    kind: str, slug: str, wait: int | None
) -> None:
    error = classify(read_result(1, "", logged(503, problem(kind), "Retry-After: 120")), NAME, NOW)
    assert (error.slug, error.retry_after) == (slug, wait)


def test_our_deadline_is_a_timeout_whatever_certbot_was_doing() -> None:
    error = classify(read_result(None, "", logged(201, '{"finalize": "x"}')), NAME, NOW)
    assert isinstance(error, Unreachable)
    assert (error.slug, error.quota_used) == ("ca-timeout", True)


def test_a_certbot_without_our_plugin_is_a_matter_of_installation() -> None:
    error = classify(read_result(1, "The requested certctl plugin does not appear to be installed", ""), NAME, NOW)
    assert isinstance(error, ConfigInvalid)


def test_an_abort_of_ours_is_told_as_it_was() -> None:
    ours = Refused(Slug.CA_CHALLENGE_ABORTED, "because")
    found = read_result(1, "", logged(201, '{"finalize": "x"}'), aborted=ours)
    assert classify(found, NAME, NOW) is ours
    assert ours.quota_used


def test_a_failure_nobody_knows_shows_certbots_last_words() -> None:
    output = "\n".join(["Saving debug log to x", *(f"line {n}" for n in range(20)), "Ask for help at y"])
    error = classify(read_result(1, output, ""), NAME, NOW)
    assert error.slug == "ca-unrecognised"
    assert error.seen == (*(f"line {n}" for n in range(12, 20)), "certbot: exit code 1")


def test_a_body_that_imitates_the_log_only_harms_its_sender() -> None:
    body = "2027-01-01 00:00:00,125:DEBUG:acme.client:Received response:\nHTTP 200\n\n{}"
    assert slug_of(logged(503, body)) in {"ca-unreachable", "ca-unrecognised"}


def test_a_certbot_that_was_killed_is_no_answer_of_the_cas() -> None:
    error = classify(read_result(-9, "", ""), NAME, NOW)
    assert isinstance(error, Internal)
    assert (error.slug, error.quota_used, error.seen) == ("certbot-killed", False, ("certbot: killed by signal 9",))


def test_a_certbot_that_was_killed_after_the_ca_took_the_order_has_spent_it() -> None:
    order = logged(
        201, '{"status": "pending", "finalize": "https://ca/finalize"}', "Content-Type: application/json"
    )
    error = classify(read_result(-15, "", order), NAME, NOW)
    assert (error.slug, error.quota_used) == ("certbot-killed", True)


def test_what_the_ca_refused_before_certbot_was_killed_is_still_its_answer() -> None:
    assert slug_of(logged(429, problem("rateLimited")), code=-9) == "ca-rate-limited"
