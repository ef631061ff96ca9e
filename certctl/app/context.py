"""Configuration → World: the composition root, where a facade is chosen for each party.

Each party is imported when it is first needed, so looking at the store does not load an ACME client.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from certctl.domain import Domain, NamePolicy
from certctl.io.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from certctl.approval import ApprovalSettings, HttpOperator
    from certctl.budget import Bucket, Limit
    from certctl.ca.authority import Authority
    from certctl.ca.settings import CaSettings
    from certctl.config import Settings
    from certctl.dns import CustomerDns, DnsSettings, TxtWatch
    from certctl.nginx.server import Nginx
    from certctl.notify import Notifier
    from certctl.ports.manual_dns import ManualOperator
    from certctl.ports.world import World
    from certctl.store.sqlite import SqliteStore
    from certctl.values import Mode, Site

_LOCK_WAIT = timedelta(minutes=5)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a run reads its configuration: the file (``--config``), and the directory that all paths are below."""

    config: Path | None = None
    root: Path | None = None


@dataclass(frozen=True)
class Context:
    """The parties of one run, each built when it is first used; ``close`` closes the stores that were opened.

    Attributes:
        found: Values found on this host for keys of ``[nginx]`` that are not set.
    """

    settings: "Settings"
    file: Path
    source: Source = Source()
    found: "Mapping[str, str]" = field(default_factory=dict)
    _opened: ExitStack = field(default_factory=ExitStack, repr=False, compare=False)

    def in_mode(self, mode: str) -> "Context":
        """Return a copy of this context in which nginx serves in another mode."""
        nginx = self.settings.nginx.model_copy(update={"mode": mode})
        return replace(self, settings=self.settings.model_copy(update={"nginx": nginx}))

    def restarting(self) -> "Context":
        """Return a copy of this context in which nginx is restarted instead of reloaded."""
        command = ("systemctl", "restart", self.web.unit)
        nginx = self.settings.nginx.model_copy(update={"reload": command})
        return replace(self, settings=self.settings.model_copy(update={"nginx": nginx}))

    def set_to(self, settings: "Settings") -> "Context":
        """Return the parties that other settings describe; they are closed together with this context."""
        return Context(settings, self.file, self.source, _opened=self._opened)

    def close(self) -> None:
        """Close every store that was opened; the next use opens it again."""
        self._opened.close()

    def keep(self, held: ExitStack) -> None:
        """Keep an exit stack, such as one with a lock in it, and unwind it when this context is closed."""
        self._opened.push(held)

    def path(self, absolute: str | Path) -> Path:
        """Relocate a path below ``[paths] root``."""
        return Path(self.settings.paths.root or "/") / str(absolute).lstrip("/")

    @property
    def names(self) -> NamePolicy:
        """Return which names this operator takes on."""
        dns = self.settings.dns
        return NamePolicy((*self.own_zones, dns.target), dns.allow_private_names)

    @property
    def own_names(self) -> NamePolicy:
        """Return which names the operator's own zone may have: any that a CA signs."""
        return NamePolicy((), self.settings.dns.allow_private_names)

    @property
    def own_zones(self) -> tuple[str, ...]:
        """Return the zones that are the operator's."""
        return (self.settings.wildcard.zone, *self.settings.wildcard.more_zones)

    @property
    def state(self) -> Path:
        """Return the directory of everything that must survive."""
        return self.path("/var/lib/certctl")

    @property
    def sites(self) -> Path:
        """Return the directory of server blocks' pairs; below the state its owner could rename it."""
        return self.path("/var/lib/certctl-sites")

    @property
    def run(self) -> Path:
        """Return the directory of locks and sockets, which is gone after a boot."""
        return self.path("/run/certctl")

    @property
    def database(self) -> Path:
        """Return the store's file."""
        return self.path(self.settings.store.url.removeprefix("sqlite:///"))

    def names_beginning(self, prefix: str, most: int) -> "Sequence[str]":
        """Return the first names in the store that begin with ``prefix``; the file is read as its owner."""
        from certctl.io.fsuid import Owner, work_as
        from certctl.store.peek import names_beginning

        facts = self.state.stat()
        work_as(Owner(facts.st_uid, facts.st_gid))
        return names_beginning(self.database, prefix, most)

    @property
    def mode(self) -> "Mode":
        """Return how nginx serves a domain for which no mode of its own was chosen."""
        from certctl.values import Mode

        return Mode(self.settings.nginx.mode)

    @cached_property
    def clock(self) -> SystemClock:
        """Return the system's clock."""
        return SystemClock()

    @cached_property
    def store(self) -> "SqliteStore":
        """Return the store, which opens its file on first use."""
        return self.another_store()

    def another_store(self) -> "SqliteStore":
        """Return the store on a connection of its own."""
        from certctl.store.sqlite import SqliteStore

        store = SqliteStore(self.database, self.clock)
        self._opened.callback(store.close)
        return store

    @cached_property
    def dns(self) -> "CustomerDns":
        """Return the DNS facade (party 1)."""
        from certctl.dns import CustomerDns

        return CustomerDns(self.dns_settings, self.account_uri)

    @cached_property
    def txt_watch(self) -> "TxtWatch":
        """Return the facade that reads a TXT record of DNS-01 from every nameserver of its zone."""
        from certctl.dns import TxtWatch

        return TxtWatch(self.dns_settings)

    @property
    def dns_settings(self) -> "DnsSettings":
        """Return the settings of the DNS facade."""
        from certctl.dns import DnsSettings

        s = self.settings.dns
        return DnsSettings(
            target=s.target,
            addresses=s.addresses,
            resolvers=s.resolvers,
            authoritative_port=s.authoritative_port,
            ca_identities=s.caa_identities,
        )

    @cached_property
    def operator(self) -> "HttpOperator":
        """Return the facade of the approval endpoint (party 2); it remembers answers in the store."""
        from certctl.approval import HttpOperator

        return HttpOperator(self._approval_settings, self.store, self.clock)

    @cached_property
    def dry_run_operator(self) -> "HttpOperator":
        """Return the facade of the approval endpoint for a dry run: it remembers no answer."""
        from certctl.approval import HttpOperator, NullAnswerStore

        return HttpOperator(self._approval_settings, NullAnswerStore(), self.clock)

    @property
    def _approval_settings(self) -> "ApprovalSettings":
        from certctl.approval import ApprovalSettings

        s = self.settings.approval
        return ApprovalSettings(s.url, s.timeout_seconds, s.ca_file, s.headers, s.allow, s.deny, self.own_zones)

    @cached_property
    def ca(self) -> "Authority":
        """Return the facade of the CA (party 3) by the configured engine."""
        return self.ca_by(self.settings.ca.engine)

    def ca_by(self, engine: str, operator: "ManualOperator | None" = None) -> "Authority":
        """Return the facade of the CA by an engine; ``operator`` adds TXT records by hand, where there is one."""
        from certctl.ca.authority import Authority
        from certctl.ca.solvers.rfc2136 import TxtAutomation
        from certctl.dns import ZoneUpdates

        automation = TxtAutomation(self.txt_watch, {"rfc2136": ZoneUpdates.of}, self.clock)
        return Authority(self._ca_settings, engine, operator=operator, automation=automation)

    def account_uri(self) -> str:
        """Return the URL of our account at the CA; empty where there is none yet, and for who may not look."""
        from certctl.ca.account_files import account_uri

        return account_uri(self._ca_settings)

    @property
    def _ca_settings(self) -> "CaSettings":
        from certctl.ca.settings import CaSettings

        s = self.settings.ca
        return CaSettings(
            directory=s.directory,
            acme_dir=self.state / "acme",
            challenges=self.state / "challenges",
            ca_file=Path(s.ca_file) if s.ca_file else None,
            email=s.email,
            profile=s.profile,
            key_type=s.key_type,
            deadline=timedelta(seconds=s.timeout_seconds),
        )

    @cached_property
    def web(self) -> "Nginx":
        """Return the facade of nginx (party 4)."""
        from certctl.nginx.server import Nginx
        from certctl.nginx.settings import NginxSettings
        from certctl.values import Mode

        s = self.settings.nginx
        return Nginx(
            NginxSettings(
                binary=s.binary,
                config=self.path(s.config),
                conf_dir=self.path(s.conf_dir),
                live=self.state / "live",
                sites=self.sites,
                challenges=self.state / "challenges",
                site_root=self.path(s.root),
                upstream=s.upstream,
                http_port=s.http_port,
                https_port=s.https_port,
                listen=s.listen,
                reload_command=s.reload,
                template=self.path(s.template) if s.template else None,
                mode=Mode(s.mode),
                user=self.settings.serve.user,
                group=s.group,
                socket=self.path(self.settings.serve.socket),
                lock_file=self.run / "locks/nginx.lock",
            ),
            self._recalled,
            lambda: self.ca.is_time_right(),  # noqa: PLW0108 - party 3 is loaded only where it is asked
        )

    def _recalled(self, domain: Domain) -> "Site | None":
        """Return a site from the store, for a server block that names a certificate and key which are gone."""
        from certctl.values import Site, State

        row = self.store.domain(domain)
        if row is None or row.certificate is None or row.state is State.REMOVED:
            return None
        return Site(row.certificate, self.store.pem(row.certificate), row.mode)

    @cached_property
    def world(self) -> "World":
        """Return everything a story may touch; each party is imported only when a story first calls it."""
        from certctl.io.locks import HostLocks
        from certctl.ports.world import World

        locks = HostLocks(self.run / "locks/domains", _LOCK_WAIT)
        fraction = self.settings.renewal.fallback_fraction
        return World(
            _later(lambda: self.dns), _later(lambda: self.operator), _later(lambda: self.ca),
            _later(lambda: self.web), self.store, locks, self.clock, self.limits, fraction,
        )  # fmt: skip

    @property
    def limits(self) -> "Mapping[Bucket, Limit]":
        """Return the limits of the configured CA by bucket; empty for a CA that certctl knows no limits of."""
        from certctl.budget import limits_at

        ca = self.settings.ca
        known = limits_at(ca.directory, ca.limits)
        granted = {str(name): capacity for name, capacity in ca.limit_overrides.items()}
        return {b: limit.raised(granted[b]) if b in granted else limit for b, limit in known.items()}

    @cached_property
    def notifier(self) -> "Notifier":
        """Return the notifier that ``[notify]`` configures."""
        from certctl.notify import Notifier, NotifySettings

        s = self.settings.notify
        return Notifier(NotifySettings(s.command, s.webhook, s.ping))


def read_new_context(source: Source) -> Context:
    """Read the configuration of a command that makes one: the file that was named may not be there yet.

    Raises:
        ConfigInvalid: as ``read_context``.
    """
    from certctl.config import chosen_file, parse

    chosen = chosen_file(source.config)
    if chosen is None or chosen.exists():
        return read_context(source)
    return Context(parse("", chosen, source.root), chosen, source)


def read_context(source: Source) -> Context:
    """Read the configuration this run was given, without a change of user.

    Raises:
        ConfigInvalid: with every fault.
    """
    from certctl.config import DEFAULT_FILE, chosen_file, load

    chosen = chosen_file(source.config)
    settings = load(chosen, source.root)
    root = Path(settings.paths.root or "/")
    found = _nginx_found(settings)
    nginx = settings.nginx.model_copy(update=found)
    file = chosen or root / str(DEFAULT_FILE).lstrip("/")
    return Context(settings.model_copy(update={"nginx": nginx}) if found else settings, file, source, found)


def _nginx_found(settings: "Settings") -> dict[str, str]:
    """Return the paths of an nginx that is not Debian's, by the ``[nginx]`` key that would set each.

    A key that was set is left alone; with ``[paths] root`` nothing is looked for.
    """
    from certctl.nginx.layout import look

    given = settings.nginx.model_fields_set
    if settings.paths.root or "binary" in given or (layout := look()) is None:
        return {}
    found = {"binary": layout.binary, "config": layout.config, "conf_dir": layout.conf_dir}
    return {key: str(path) for key, path in found.items() if key not in given}


class _Later:
    """A proxy that builds a party when one of its methods is first used."""

    def __init__(self, party: Callable[[], object]) -> None:
        self._party = party

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the party has
        return getattr(self._party(), name)


def _later(party: Callable[[], T]) -> T:
    """Return a proxy for a party, which is built when one of its methods is first used."""
    return cast("T", _Later(party))
