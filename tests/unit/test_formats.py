"""Forms that several places read: each is written down once."""

from datetime import datetime, timedelta, timezone
from urllib.parse import urlsplit

import pytest

from certctl.formats import LISTEN, delay_seconds, file_diff, is_secure, rfc3339


@pytest.mark.parametrize(
    ("url", "secure"),
    [
        ("https://ca.example.org/dir", True),
        ("https://[2001:db8::1]:8443/dir", True),
        ("http://localhost:14000/dir", True),
        ("http://127.0.0.1/dir", True),
        ("http://[::1]/dir", True),
        ("http://127.0.0.2/dir", False),
        ("http://localhost.example.org/dir", False),
        ("http://ca.example.org/dir", False),
        ("https://user@ca.example.org/dir", False),
        ("https://@ca.example.org/dir", False),
        ("https://:word@ca.example.org/dir", False),
        ("http://user@localhost/dir", False),
        ("https:///dir", False),
        ("ftp://localhost/dir", False),
        ("//localhost/dir", False),
    ],
)
def test_only_https_and_this_host_are_believed(url: str, *, secure: bool) -> None:
    assert is_secure(urlsplit(url)) is secure


@pytest.mark.parametrize("address", ["*", "0.0.0.0", "192.0.2.17", "[::]", "[2001:db8::17]"])
def test_an_address_nginx_can_listen_on(address: str) -> None:
    assert LISTEN.fullmatch(address)


@pytest.mark.parametrize("address", ["", "1.2", "::", "[]", "* default_server", "192.0.2.17;", "localhost"])
def test_what_is_no_address_for_nginx(address: str) -> None:
    assert not LISTEN.fullmatch(address)


def test_a_moment_is_written_in_utc_wherever_it_was_read() -> None:
    there = timezone(timedelta(hours=2))
    assert rfc3339(datetime(2026, 11, 23, 1, 30, 59, 999_999, there)) == "2026-11-22T23:30:59Z"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), (" 120\t", 120), ("9" * 30, 999_999_999), ("", None), ("-1", None), ("1.5", None), ("²", None)],
)
def test_a_delay_is_whole_seconds(text: str, seconds: int | None) -> None:
    assert delay_seconds(text) == seconds


def test_a_file_that_is_not_there_yet_is_dev_null_in_its_diff() -> None:
    new, changed = file_diff("/etc/x", None, "a\n"), file_diff("/etc/x", "", "a\n")
    assert new.splitlines()[:2] == ["--- /dev/null", "+++ /etc/x"]
    assert changed.splitlines()[:2] == ["--- /etc/x", "+++ /etc/x"]
    assert file_diff("/etc/x", "a\n", "a\n") == ""
