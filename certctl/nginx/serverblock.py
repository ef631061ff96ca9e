"""Render the text of server blocks and of our other files for nginx: pure functions that check every value.

A value in the text that root's ``nginx -t`` reads can run code (``ssl_engine``, CVE-2025-1974), so nothing is
escaped: a value with any but harmless characters is refused.
"""

import re
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from certctl.errors import ConfigInvalid, WebServerFailed
from certctl.formats import LISTEN, UPSTREAM
from certctl.io.fsuid import as_root
from certctl.nginx import mirror
from certctl.nginx.settings import NginxSettings
from certctl.slugs import Slug
from certctl.values import Certificate

if TYPE_CHECKING:
    from jinja2 import Environment

Version = tuple[int, int, int]

_HTTP2_DIRECTIVE: Version = (1, 25, 1)  # nginx CHANGES 1.25.1: "http2" on "listen" is deprecated
_MARK = "# managed by certctl, do not edit: your changes would be overwritten"
_DOMAIN = "# domain: "
_CHECKSUM = "# checksum: sha256:"
_HEADER_LINES = 3

_TOKEN = re.compile(r"[A-Za-z0-9*\[][A-Za-z0-9._/@+~:=,*\[\]-]*|/[A-Za-z0-9._/@+~-]*")
_NAME = re.compile(r"(?:\*\.)?[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+")
_MAX_NAME = 253


def server_block(settings: NginxSettings, certificate: Certificate, version: Version) -> str:
    """Return the server block of one site.

    Raises:
        ConfigInvalid: ``config-invalid`` when a value may not stand in nginx's text or the template is wrong.
        WebServerFailed: ``nginx-test-failed``: the certificate is for other names than the domain's own.
    """
    _require_own_names(certificate)
    current = mirror.current_path(settings.sites, certificate.domain)
    values = common(settings, version) | {
        "names": [_checked(_NAME, name) for name in certificate.names if len(name) <= _MAX_NAME],
        "certificate": current / mirror.CHAIN,
        "certificate_key": current / mirror.KEY,
    }
    if settings.template is None:
        return sealed(certificate.domain.name, render("server_block.conf.j2", values))
    try:
        with as_root():
            source = settings.template.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(Slug.CONFIG_INVALID, f"[nginx] template {settings.template}: {error}") from error
    return sealed(certificate.domain.name, render(source, values, own=True))


def _require_own_names(certificate: Certificate) -> None:
    """Refuse a certificate with other customers' names, which a user with rights to the store could insert."""
    own = certificate.domain.names
    if sorted(certificate.names) != sorted(own):
        raise WebServerFailed(
            Slug.NGINX_TEST_FAILED,
            f"the store's certificate of {certificate.domain} is for other names: nginx was not touched",
            seen=[", ".join(certificate.names)],
            expected=[", ".join(own)],
            next=[f"certctl issue --force {certificate.domain}"],
        )


def sealed(owner: str, body: str) -> str:
    """Return a text under our header: the mark, the domain, and a checksum that shows edits by hand."""
    return f"{_MARK}\n{_DOMAIN}{owner}\n{_CHECKSUM}{sha256(body.encode()).hexdigest()}\n{body}"


@as_root()
def read(path: Path) -> str | None:
    """Return the text of a file; None when there is none; bytes that are not UTF-8 are kept (surrogateescape)."""
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None


@as_root()
def is_our_block(path: Path) -> bool:
    """Tell whether a file with our header is there."""
    return not path.is_symlink() and is_ours(read(path) or "not there")


@as_root()
def is_foreign(path: Path) -> bool:
    """Tell whether a file or link is there that certctl did not write."""
    text = read(path)
    return path.is_symlink() or (text is not None and not is_ours(text))


def is_ours(text: str) -> bool:
    """Tell whether certctl wrote a text; an empty one counts, as a power cut may have emptied our file."""
    return text.startswith(_MARK) or not text.strip("\0 \n")


def is_edited(text: str) -> bool:
    """Tell whether a file of ours was edited, by its checksum."""
    lines = text.split("\n", _HEADER_LINES)
    if len(lines) <= _HEADER_LINES:
        return True
    return lines[2] != _CHECKSUM + sha256(lines[3].encode("utf-8", "surrogateescape")).hexdigest()


def owner_of(text: str) -> str:
    """Return the domain in the header of a file of ours; empty when there is none."""
    lines = text.split("\n", _HEADER_LINES)
    return lines[1].removeprefix(_DOMAIN) if len(lines) > 1 and lines[1].startswith(_DOMAIN) else ""


def common(settings: NginxSettings, version: Version) -> dict[str, object]:
    """Return the values of this host for all our templates.

    Raises:
        ConfigInvalid: ``config-invalid`` when a value may not stand in nginx's text.
    """
    upstream = _checked(UPSTREAM, settings.upstream) if settings.upstream else ""
    return {
        "listen": [_checked(LISTEN, address) for address in settings.listen],
        "http_port": int(settings.http_port),
        "https_port": int(settings.https_port),
        "http2_directive": version >= _HTTP2_DIRECTIVE,
        "challenges": settings.challenges,
        "site_root": settings.site_root,
        "upstream": f"http://{upstream}:" if upstream.startswith("unix:") else upstream,
        "error_log": (),
    }


def _checked(pattern: re.Pattern[str], value: str) -> str:
    if not pattern.fullmatch(value):
        raise ConfigInvalid(Slug.CONFIG_INVALID, f"{value!a} may not stand in an nginx configuration")
    return value


def _token(value: object) -> str:
    """Return a value made of plain characters, or raise. Jinja2 calls it for every ``{{ }}`` of any template."""
    return _checked(_TOKEN, str(value))


def render(template: str, values: Mapping[str, object], *, own: bool = False) -> str:
    """Return a template of ours, or of the operator's, filled in.

    Raises:
        ConfigInvalid: ``config-invalid`` when the template is wrong or a value may not stand in nginx's text.
    """
    from jinja2 import TemplateError

    environment = _environment()
    try:
        chosen = environment.from_string(template) if own else environment.get_template(template)
        text = chosen.render(values)
    except TemplateError as error:
        raise ConfigInvalid(Slug.CONFIG_INVALID, f"[nginx] template: {error}") from error
    if "\0" in text:
        raise ConfigInvalid(Slug.CONFIG_INVALID, "[nginx] template: the text has a NUL in it")
    return text


def load_templates() -> None:
    """Load every template of ours: a process that lives long fills in those that it was started with."""
    environment = _environment()
    for name in environment.list_templates():
        environment.get_template(name)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("certctl.nginx"),
        undefined=StrictUndefined,
        finalize=_token,
        autoescape=False,  # noqa: S701 - nginx's text is not HTML; _token refuses instead
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
