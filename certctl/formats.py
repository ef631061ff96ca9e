"""The text forms of values that are read or written in several places: timestamps, Retry-After, diffs, URLs."""

import re
from datetime import UTC, datetime
from difflib import unified_diff
from typing import Literal
from urllib.parse import SplitResult

_THIS_HOST = frozenset({"localhost", "127.0.0.1", "::1"})

KeyType = Literal["ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-4096"]

LISTEN = re.compile(r"\*|[0-9.]{7,15}|\[[0-9A-Fa-f:.]{2,45}\]")
"""An address as nginx's ``listen`` takes it, without the port."""

UPSTREAM = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+(?:/[A-Za-z0-9._~/-]*)?|unix:/[A-Za-z0-9._/-]+")
"""A server as nginx's ``proxy_pass`` takes it."""

DNS_PLUGIN = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")
PLUGIN_OPTION = re.compile(r"[a-z0-9][a-z0-9-]{0,60}")
PLUGIN_VALUE = re.compile(r"[ -~]{1,1000}")


def is_secure(url: SplitResult) -> bool:
    """Tell whether a URL is authenticated: https, or http to a loopback address.

    It must have a host, and no user or password, which messages would repeat.
    """
    if not url.hostname or url.username is not None or url.password is not None:
        return False
    return url.scheme == "https" or (url.scheme == "http" and url.hostname in _THIS_HOST)


def rfc3339(moment: datetime) -> str:
    """Return a moment as RFC 3339 has it, in UTC and to the second: ``2026-01-31T08:00:00Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def delay_seconds(text: str) -> int | None:
    """Return the seconds of a Retry-After in its delay form (RFC 9110 §10.2.3); None for any other text."""
    digits = text.strip()
    return int(digits[:9]) if digits.isascii() and digits.isdigit() else None


def file_diff(path: object, before: str | None, after: str) -> str:
    """Return what writing a file changes as a unified diff; None stands for a file that is not there yet."""
    was, will_be = (before or "").splitlines(keepends=True), after.splitlines(keepends=True)
    return "".join(unified_diff(was, will_be, "/dev/null" if before is None else str(path), str(path)))
