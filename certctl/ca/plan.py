"""How the challenges of one order are solved: over HTTP, in DNS by hand or by ourselves, or by a certbot plugin."""

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
    """One order's settings, and who does what.

    Attributes:
        engine: Who speaks to the CA.
        solver: Ours; None when a certbot plugin does it all.
        plugin: certbot's words for that plugin.
        person: Who makes the records, and may come back to the same order later.
    """

    settings: CaSettings
    engine: str
    solver: Solver | None
    plugin: tuple[str, ...] = ()
    operator: ManualOperator | None = None

    @property
    def proof(self) -> str:
        """Return what a person put into DNS for it, in words."""
        return self.solver.proof if isinstance(self.solver, PropagatingDns01) else ""

    def look(self, zone: str) -> TxtSight:
        """Say what stands in DNS now, for the person who makes the records."""
        if self.operator is None:
            raise AssertionError("nobody makes records here")
        return self.operator.watch.look(zone)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What challenges can be solved with here.

    Attributes:
        engine: The one that was chosen; some ways are open to one only, and then it is that one.
        http: Solves HTTP-01.
        person: Somebody who can edit a zone.
        automation: Looks at nameservers, and writes to those that take dynamic updates.
    """

    engine: str
    http: Solver
    operator: ManualOperator | None = None
    automation: TxtAutomation | None = None

    def plan(
        self, settings: CaSettings, domain: Domain, solver: DnsSolver | None, workdir: WorkingDirectory
    ) -> OrderPlan:
        """Choose the way for one order.

        Raises:
            ConfigInvalid: it cannot be gone.
            Unreachable: the CA could not be asked what it needs to know for it.
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
        """Have a person make the record once; later nobody is needed. certbot 5.8 does not know this challenge."""
        if self.operator is None:
            solver = DnsPersist(automation.unattended(PATIENCE), ends)
            return OrderPlan(_slower(settings, PATIENCE), "acme", solver)
        return OrderPlan(
            _patient(settings, self.operator), "acme", DnsPersist(self.operator, ends), operator=self.operator
        )

    def _writes_itself(self, domain: Domain, solver: DnsSolver, automation: TxtAutomation) -> bool:
        """Tell whether we write the record: certbot has a plugin for it, which follows no CNAME."""
        return automation.knows(solver) and (self.engine != "certbot" or automation.must_follow(domain.zone))


def _by_plugin(settings: CaSettings, solver: DnsSolver) -> OrderPlan:
    """Let certbot and its plugin do it, also for who has chosen another engine: the account is the same.

    Raises:
        ConfigInvalid: the plugin is not there, or its options cannot be right.
    """
    require_plugin(solver, settings)
    asked = dict(solver.options).get("propagation-seconds", "")
    waits = timedelta(seconds=int(asked)) if asked.isdecimal() else _LONGEST_PROPAGATION
    return OrderPlan(_slower(settings, waits), "certbot", None, tuple(authenticator(solver)))


def _slower(settings: CaSettings, by: timedelta) -> CaSettings:
    return replace(settings, deadline=settings.deadline + by)


def _patient(settings: CaSettings, operator: ManualOperator) -> CaSettings:
    """Give a person time: until the deadline, and by a profile whose orders live for days."""
    profile = settings.profile or patient_profile(settings)
    return replace(_slower(settings, operator.patience), profile=profile)


def _order_ends(workdir: WorkingDirectory) -> datetime | None:
    """Return when the CA forgets the order at work, as either engine heard it; None when it did not say."""
    begun = workdir.begun()
    return begun.ends if begun else read_result(None, "", read_log(workdir.log)).order_ends
