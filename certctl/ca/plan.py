"""The plan of one order: which engine, and which solver for its challenges."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from certctl.ca.directory import patient_profile
from certctl.ca.engines.certbot.log import read_log, read_result
from certctl.ca.settings import CaSettings
from certctl.ca.solvers.base import Solver
from certctl.ca.solvers.certbot_plugin import authenticator, require_plugin, require_private_files
from certctl.ca.solvers.dns01 import PropagatingDns01
from certctl.ca.solvers.dns_persist import DnsPersist
from certctl.ca.solvers.rfc2136 import PATIENCE, DnsByUpdate, TxtAutomation
from certctl.ca.workdir import WorkingDirectory
from certctl.domain import Domain
from certctl.errors import ConfigInvalid
from certctl.ports.manual_dns import ManualOperator
from certctl.slugs import Slug
from certctl.txt_records import TxtSight
from certctl.values import DnsSolver

_LONGEST_PROPAGATION = timedelta(minutes=20)  # no plugin of certbot's house waits longer by itself

OrderEnds = Callable[[], datetime | None]


@dataclass(frozen=True, slots=True)
class OrderPlan:
    """The settings of one order, and who solves its challenges.

    Attributes:
        engine: The engine that speaks to the CA: ``certbot`` or ``acme``.
        solver: Our solver; None when a DNS plugin of certbot's does it all.
        plugin: certbot's options for that plugin.
        operator: The person who adds TXT records, and may resume the same order later; None where none is needed.
    """

    settings: CaSettings
    engine: str
    solver: Solver | None
    plugin: tuple[str, ...] = ()
    operator: ManualOperator | None = None

    @property
    def proof(self) -> str:
        """Return the TXT record a person added for the proof, as text; empty where none did."""
        return self.solver.proof if isinstance(self.solver, PropagatingDns01) else ""

    def look(self, zone: str) -> TxtSight:
        """Return what the nameservers show now, for the person who adds the records."""
        if self.operator is None:
            raise AssertionError("nobody makes records here")
        return self.operator.watch.look(zone)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The ways to solve challenges that this process has.

    Attributes:
        engine: The configured engine; a way that only one engine has is planned with that one.
        http: The solver of http-01.
        operator: The person who can add TXT records to a zone; None in an unattended run.
        automation: Queries nameservers, and writes TXT records by dynamic update (RFC 2136).
    """

    engine: str
    http: Solver
    operator: ManualOperator | None = None
    automation: TxtAutomation | None = None

    def plan(
        self, settings: CaSettings, domain: Domain, solver: DnsSolver | None, workdir: WorkingDirectory
    ) -> OrderPlan:
        """Return the plan for one order.

        Raises:
            ConfigInvalid: the way that ``solver`` names is missing here or misconfigured.
            Unreachable: the CA could not be asked for its profiles.
        """
        if solver is None:
            return OrderPlan(settings, self.engine, self.http)
        ends = lambda: _order_ends(workdir)  # noqa: E731 - asked when there is an order
        if solver.is_manual:
            return self._by_hand(settings, ends)
        if self.automation and solver.is_standing:
            return self._by_standing_record(settings, self.automation, ends)
        if self.automation and self._writes_itself(domain, solver, self.automation):
            require_private_files(solver)
            return OrderPlan(_slower(settings, PATIENCE), self.engine, DnsByUpdate(self.automation, solver, ends))
        return _by_plugin(settings, solver)

    def _by_hand(self, settings: CaSettings, ends: OrderEnds) -> OrderPlan:
        if self.operator is None:
            raise ConfigInvalid(
                Slug.WILDCARD_MANUAL, "its DNS records are made by hand, and nobody is here to make them"
            )
        solver = PropagatingDns01(self.operator, ends)
        return OrderPlan(_patient(settings, self.operator), self.engine, solver, operator=self.operator)

    def _by_standing_record(self, settings: CaSettings, automation: TxtAutomation, ends: OrderEnds) -> OrderPlan:
        """Return a plan by dns-persist-01: a person adds one record once. certbot 5.8 lacks this challenge."""
        if self.operator is None:
            solver = DnsPersist(automation.unattended(PATIENCE), ends)
            return OrderPlan(_slower(settings, PATIENCE), "acme", solver)
        return OrderPlan(
            _patient(settings, self.operator), "acme", DnsPersist(self.operator, ends), operator=self.operator
        )

    def _writes_itself(self, domain: Domain, solver: DnsSolver, automation: TxtAutomation) -> bool:
        """Tell whether certctl writes the record itself, where certbot's plugin would not: it follows no CNAME."""
        return automation.knows(solver) and (self.engine != "certbot" or automation.must_follow(domain.zone))


def _by_plugin(settings: CaSettings, solver: DnsSolver) -> OrderPlan:
    """Return a plan by a DNS plugin of certbot's, with certbot as engine whichever is configured; same account.

    Raises:
        ConfigInvalid: the plugin is not installed, or an option of it is wrong.
    """
    require_plugin(solver, settings)
    asked = dict(solver.options).get("propagation-seconds", "")
    waits = timedelta(seconds=int(asked)) if asked.isdecimal() else _LONGEST_PROPAGATION
    return OrderPlan(_slower(settings, waits), "certbot", None, tuple(authenticator(solver)))


def _slower(settings: CaSettings, by: timedelta) -> CaSettings:
    return replace(settings, deadline=settings.deadline + by)


def _patient(settings: CaSettings, operator: ManualOperator) -> CaSettings:
    """Return settings for an order that waits for a person: a later deadline, a profile of long-lived orders."""
    profile = settings.profile or patient_profile(settings)
    return replace(_slower(settings, operator.patience), profile=profile)


def _order_ends(workdir: WorkingDirectory) -> datetime | None:
    """Return when the pending order expires (RFC 8555 §7.1.3), as either engine read it; None when not said."""
    begun = workdir.begun()
    return begun.ends if begun else read_result(None, "", read_log(workdir.log)).order_ends
