"""TOML file and environment → validated settings; every fault is reported at once.

The field descriptions below are the only place where a key is explained: ``certctl init`` writes them as
comments, ``certctl config schema`` publishes them and docs/reference/configuration.md is generated from them.
"""

import os
import stat
import tomllib
from difflib import get_close_matches
from pathlib import Path
from shlex import quote
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from certctl.config_types import (
    AbsolutePath,
    Address,
    ApprovalUrl,
    Capacity,
    CommandWord,
    DnsPlugin,
    Email,
    Host,
    Listen,
    PluginOption,
    PluginValue,
    Port,
    Profile,
    SecretUrl,
    SecureUrl,
    Server,
    Upstream,
    Word,
)
from certctl.errors import ConfigInvalid
from certctl.formats import KeyType
from certctl.slugs import Slug

DEFAULT_FILE = Path("/etc/certctl/config.toml")
_MAX_FILE_BYTES = 1_000_000
SECRETS = frozenset({"headers", "webhook", "ping"})
_MAY_HOLD_SECRETS = SECRETS | {"url", "directory"}


class Section(BaseModel):
    """One table of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PathsSection(Section):
    """Where certctl keeps its files."""

    root: AbsolutePath = Field("", description="relocates every path below this directory (sandbox, tests)")


class DnsSection(Section):
    """Where customers must point."""

    target: Host = Field("status.hyperping.io", description="where customers' CNAME must end")
    addresses: tuple[Address, ...] = Field((), description="more A/AAAA addresses that are ours, for apex names")
    resolvers: tuple[Server, ...] = Field(
        (), description='"ip:port"; empty = the system\'s, then the authoritative servers'
    )
    authoritative_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="port of authoritative servers; 0 = 53, and with resolvers set they are not asked",
    )
    allow_private_names: bool = Field(default=False, description="true admits .test and the like (sandbox)")
    caa_identities: tuple[Host, ...] = Field(
        ("letsencrypt.org",), description="issuer domains of our CA in CAA records; empty = do not check CAA"
    )


class ApprovalSection(Section):
    """The operator's approval endpoint: 200 yes, 404 no, anything else is not an answer."""

    url: ApprovalUrl = Field(
        "https://api.hyperping.io/approvalendpoint/{domain}", description="{domain} is replaced by the name"
    )
    timeout_seconds: float = Field(5, gt=0, le=60, description="deadline for the whole answer")
    ca_file: AbsolutePath = Field("", description="PEM file of a private CA the endpoint's certificate chains to")
    headers: dict[str, str] = Field(
        default_factory=dict, description="sent with every question (secret)", repr=False
    )
    allow: tuple[Host, ...] = Field((), description="approved without asking")
    deny: tuple[Host, ...] = Field((), description="refused without asking")


class CaSection(Section):
    """The ACME CA."""

    engine: Literal["certbot", "acme"] = Field(
        "certbot", description="what speaks ACME: the certbot command, or certbot's own library in process"
    )
    directory: SecureUrl = Field("https://acme-v02.api.letsencrypt.org/directory", description="ACME directory URL")
    ca_file: AbsolutePath = Field("", description="PEM file that signs the ACME server's own TLS certificate")
    email: Email = Field("", description="contact for the ACME account; may stay empty")
    profile: Profile = Field("", description="ACME profile; empty = the CA's default")
    key_type: KeyType = Field("ecdsa-p256", description="kind of private key")
    limits: Literal["auto", "letsencrypt", "none"] = Field(
        "auto", description="rate limits to keep by ourselves; auto = Let's Encrypt's at Let's Encrypt, else none"
    )
    limit_overrides: dict[Literal["orders", "certificates"], Capacity] = Field(
        default_factory=dict, description="capacities the CA has granted you, such as { orders = 1500 }"
    )
    timeout_seconds: int = Field(180, ge=10, le=3600, description="deadline for one certificate")


class NginxSection(Section):
    """The web server."""

    mode: Literal["blocks", "shared", "lua"] = Field(
        "blocks", description="a server block per domain, or one for all: on stock nginx, or with its Lua module"
    )
    binary: str = Field("nginx", pattern=r"^[A-Za-z0-9._/+-]+$", description="name or path of the nginx binary")
    config: AbsolutePath = Field("/etc/nginx/nginx.conf", description="nginx's main configuration")
    conf_dir: AbsolutePath = Field("/etc/nginx/certctl.d", description="where server blocks are written")
    root: AbsolutePath = Field("/var/www/statuspage", description="the pages every domain shows")
    http_port: Port = Field(80, description="plain HTTP, for redirects and challenges")
    https_port: Port = Field(443, description="HTTPS")
    listen: tuple[Listen, ...] = Field(("*", "[::]"), min_length=1, description="addresses to listen on")
    upstream: Upstream = Field("", description="proxy to an application instead of serving root")
    group: Word = Field("certctl", description="in modes shared and lua: the workers' group, which may read keys")
    reload: tuple[str, ...] = Field((), description="a command; empty = SIGHUP to the master in the pid file")
    template: AbsolutePath = Field("", description="your own server block (jinja2)")


class WildcardSection(Section):
    """The operator's own zone."""

    zone: Host = Field("hyperping.io", description="the zone of 'certctl wildcard'; no customer owns a name in it")
    more_zones: tuple[Host, ...] = Field((), description="further zones of your own")
    dns: DnsPlugin = Field("manual", description="manual, or a certbot DNS plugin such as rfc2136 or cloudflare")
    dns_options: dict[PluginOption, PluginValue] = Field(
        default_factory=dict,
        description='its options: { credentials = "/etc/certctl/rfc2136.ini" }',
    )


class RenewalSection(Section):
    """Renewal."""

    jobs: int = Field(2, ge=1, le=64, description="certificates at once")
    fallback_fraction: float = Field(
        0.333, gt=0, lt=1, description="renew when this share of the lifetime is left (half under 10 days)"
    )


class ServeSection(Section):
    """The daemon that gets a certificate for a first visitor."""

    socket: AbsolutePath = Field("/run/certctl/serve.sock", description="where nginx reaches it")
    user: Word = Field("certctl", description="who it runs as; in modes shared and lua it owns certctl's state")
    concurrency: int = Field(8, ge=1, le=64, description="certificates at once")
    negative_ttl_seconds: int = Field(300, ge=1, le=86400, description="how long a no is remembered")


class NotifySection(Section):
    """Who is told when something needs a person (docs/how-to/alerts.md)."""

    command: tuple[CommandWord, ...] = Field((), description="a program; it gets JSON on stdin")
    webhook: SecretUrl = Field("", description="URL that gets JSON by POST (secret)", repr=False)
    ping: SecretUrl = Field(
        "", description="URL asked after every whole run, the dead man's switch (secret)", repr=False
    )


class StoreSection(Section):
    """The truth."""

    url: str = Field(
        "sqlite:////var/lib/certctl/certctl.db",
        pattern=r"^sqlite:///(/[A-Za-z0-9._@+~-]+)+$",
        description="where domains, certificates and keys are kept",
    )


class Settings(BaseSettings):
    """The whole file."""

    model_config = SettingsConfigDict(
        env_prefix="CERTCTL_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        case_sensitive=False,
        hide_input_in_errors=True,  # a traceback (-vv) shows the error as it is
    )

    paths: PathsSection = PathsSection()
    dns: DnsSection = DnsSection()
    approval: ApprovalSection = ApprovalSection()
    ca: CaSection = CaSection()
    nginx: NginxSection = NginxSection()
    wildcard: WildcardSection = WildcardSection()
    renewal: RenewalSection = RenewalSection()
    serve: ServeSection = ServeSection()
    store: StoreSection = StoreSection()
    notify: NotifySection = NotifySection()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings' signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file, and read nothing else."""
        return env_settings, init_settings


def load(file: Path | None, root: Path | None) -> Settings:
    """Read the configuration.

    Args:
        file: The file; None means the default one, which may be absent.
        root: Overrides ``[paths] root``.

    Raises:
        ConfigInvalid: ``config-unreadable``, or ``config-invalid`` with every fault in ``seen``.
    """
    path = file or (root or Path("/")) / DEFAULT_FILE.relative_to("/")
    return parse(_text(path) if file or path.exists() else "", path, root)


def parse(text: str, path: Path, root: Path | None) -> Settings:
    """Return the settings that a file of this text gives, with the environment above it.

    Args:
        text: What stands in the file, or would.
        path: The file, for the complaint.
        root: Overrides ``[paths] root``.

    Raises:
        ConfigInvalid: ``config-invalid`` with every fault in ``seen``.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigInvalid(Slug.CONFIG_INVALID, f"{path} is not TOML", seen=[str(error)]) from error
    if root is not None:
        table = {**table, "paths": {**table.get("paths", {}), "root": str(root.absolute())}}
    try:
        return Settings(**table)
    except ValidationError as error:
        faults = [_fault(detail) for detail in error.errors(include_url=False)]
        raise ConfigInvalid(
            Slug.CONFIG_INVALID,
            f"{path} has {len(faults)} mistake{'s' if len(faults) > 1 else ''}",
            seen=faults,
            next=["certctl config schema", "certctl config validate"],
        ) from error


def check_value(section: str, key: str, value: str) -> str:
    """Return a single value in the form in which it is kept.

    Raises:
        ValueError: What is wrong with it; the value is not repeated, it may hold a secret.
    """
    model = Settings.model_fields[section].annotation
    if not (isinstance(model, type) and issubclass(model, Section)):
        raise TypeError(f"[{section}] is not a table")
    try:
        return str(getattr(model.model_validate({key: value}), key))
    except ValidationError as error:
        raise ValueError(_words(error.errors()[0])) from None


def _text(path: Path) -> str:
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > _MAX_FILE_BYTES:
            raise ConfigInvalid(Slug.CONFIG_UNREADABLE, f"{path} is not a configuration file")
        if facts.st_mode & stat.S_IWOTH:
            raise ConfigInvalid(
                Slug.CONFIG_UNREADABLE,
                f"everybody may write {path}: certctl does not trust it",
                next=[f"chmod o-w {path}"],
            )
        if not (text := path.read_text(encoding="utf-8")).strip():
            raise _empty(path)
    except OSError as error:
        raise ConfigInvalid(
            Slug.CONFIG_UNREADABLE,
            f"cannot read {path}: {error.strerror}",
            next=[_init(path)] if isinstance(error, FileNotFoundError) else [f"ls -l {quote(str(path))}"],
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigInvalid(Slug.CONFIG_INVALID, f"{path} is not TOML", seen=[str(error)]) from error
    return text


def _empty(path: Path) -> ConfigInvalid:
    """Return the error for an empty file, as a full disk or a crash leaves it: the defaults must not replace it."""
    return ConfigInvalid(
        Slug.CONFIG_INVALID,
        f"{path} is empty",
        expected=["your settings, from a backup; or no file, where the defaults are meant"],
        next=[f"rm {quote(str(path))}", _init(path)],
    )


def _init(path: Path) -> str:
    return "certctl init" if path == DEFAULT_FILE else f"certctl init --config {quote(str(path))}"


def _fault(detail: ErrorDetails) -> str:
    """Return one fault as ``section.key: what is wrong``, with the nearest known key for an unknown one."""
    location = [str(part) for part in detail["loc"]]
    where = ".".join(location)
    if detail["type"] == "extra_forbidden":
        near = get_close_matches(location[-1], _known_keys(location[:-1]), n=1)
        return f"{where}: unknown key" + (f"; did you mean {near[0]!r}?" if near else "")
    given = "" if _MAY_HOLD_SECRETS & set(location) else f" (not {detail['input']!r:.80})"
    return f"{where}: {_words(detail)}{given}"


def _words(detail: ErrorDetails) -> str:
    return detail["msg"].removeprefix("Value error, ")


def _known_keys(location: list[str]) -> list[str]:
    model: type[BaseModel] = Settings
    for part in location:
        nested = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(nested, type) and issubclass(nested, BaseModel)):
            return []
        model = nested
    return list(model.model_fields)


def chosen_file(option: Path | None) -> Path | None:
    """Return the configuration file asked for: ``--config``, then ``$CERTCTL_CONFIG``, else None."""
    return option or (Path(named) if (named := os.environ.get("CERTCTL_CONFIG")) else None)
