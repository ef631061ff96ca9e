"""The kinds of values a configuration key may have, each checked once, where it enters."""

import re
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field

from certctl.formats import DNS_PLUGIN, LISTEN, PLUGIN_OPTION, PLUGIN_VALUE, UPSTREAM, is_secure

_HOST = re.compile(r"(?=.{4,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])")
_NO_URL = re.compile(r"[^!-~]|[\"\\<>^`|]")  # RFC 3986, appendix A; braces stand for the domain
_SAFE_PATH = re.compile(r"/[A-Za-z0-9._/@+~-]*")


def _host(value: str) -> str:
    name = value.lower().removesuffix(".")
    if not _HOST.fullmatch(name):
        raise ValueError("must be a host name such as status.example.com")
    return name


def _address(value: str) -> str:
    return str(ip_address(value))


def _server(value: str) -> str:
    host, _, port = value.rpartition(":")
    ip_address(host.removeprefix("[").removesuffix("]"))
    if not 0 < int(port) < 65536:  # noqa: PLR2004 - the range of a port
        raise ValueError("must be ip:port")
    return value


def _parts(value: str) -> SplitResult:
    """Return the parts of a URL; errors do not repeat it, and characters that no URL may contain are refused."""
    if _NO_URL.search(value):
        raise ValueError("must be a URL: plain ASCII without spaces or quotes")
    try:
        return urlsplit(value)
    except ValueError:
        raise ValueError("must be a URL") from None


def _secure_url(value: str) -> str:
    url = _parts(value)
    if is_secure(url):
        return value
    if url.scheme == "https":
        raise ValueError("must be a URL with a host and without a password")
    raise ValueError("must be an https:// URL (http:// only to this machine)")


def _secret_url(value: str) -> str:
    return _secure_url(value) if value else value


def _approval_url(value: str) -> str:
    if value.count("{domain}") != 1 or "{domain}" not in _parts(value).path:
        raise ValueError("must contain {domain} once, as part of the path")
    return _secure_url(value)


def _absolute_path(value: str) -> str:
    if value and (not _SAFE_PATH.fullmatch(value) or ".." in value.split("/")):
        raise ValueError("must be an absolute path of plain characters, without '..'")
    return value


def _matching(pattern: re.Pattern[str], example: str) -> AfterValidator:
    def check(value: str) -> str:
        if value and not pattern.fullmatch(value):
            raise ValueError(f"must look like {example}")
        return value

    return AfterValidator(check)


Host = Annotated[str, AfterValidator(_host)]
Word = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]
Address = Annotated[str, AfterValidator(_address)]
Server = Annotated[str, AfterValidator(_server)]
SecureUrl = Annotated[str, AfterValidator(_secure_url)]
SecretUrl = Annotated[str, AfterValidator(_secret_url)]
ApprovalUrl = Annotated[str, AfterValidator(_approval_url)]
AbsolutePath = Annotated[str, AfterValidator(_absolute_path)]
Port = Annotated[int, Field(ge=1, le=65535)]
Capacity = Annotated[int, Field(ge=1, le=1_000_000)]
CommandWord = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$")]
Upstream = Annotated[str, _matching(UPSTREAM, "http://127.0.0.1:3000 or unix:/run/app.sock")]
Listen = Annotated[str, _matching(LISTEN, '"*" or "[::]"')]
Email = Annotated[str, _matching(re.compile(r"[^@\s,]+@[^@\s,]+"), "you@example.com")]
Profile = Annotated[str, _matching(re.compile(r"[A-Za-z0-9_-]{1,64}"), "classic")]
DnsPlugin = Annotated[str, Field(min_length=1), _matching(DNS_PLUGIN, "rfc2136")]
PluginOption = Annotated[str, Field(min_length=1), _matching(PLUGIN_OPTION, "credentials")]
PluginValue = Annotated[str, _matching(PLUGIN_VALUE, "a line of plain ASCII")]
