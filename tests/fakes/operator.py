"""Party 2 without a network: a set of approved names, an outage, and the answers it gave."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from certctl.domain import Domain
from certctl.errors import NotApproved, Unreachable
from certctl.slugs import Slug
from certctl.values import Approval, Delegation


@dataclass
class FakeOperator:
    """Says yes to ``approved``, no to the rest, and nothing at all during an ``outage``."""

    approved: set[str] = field(default_factory=set)
    outage: bool = False
    now: datetime = datetime(2027, 1, 1, tzinfo=UTC)
    own_zones: set[str] = field(default_factory=lambda: {"hyperping.io"})
    asked: list[str] = field(default_factory=list)
    remembered: dict[str, datetime] = field(default_factory=dict)

    def approve(self, delegation: Delegation) -> Approval:
        name = delegation.domain.name
        self.asked.append(name)
        if self.outage:
            raise Unreachable(Slug.APPROVAL_UNREACHABLE, f"the approval endpoint said nothing about {name}")
        if name not in self.approved:
            self.remembered.pop(name, None)
            raise NotApproved(Slug.APPROVAL_REFUSED, f"the approval endpoint refused {name}")
        self.remembered[name] = self.now
        return Approval(delegation, self.now, remembered=False, summary="200")

    def approve_again(self, delegation: Delegation) -> Approval:
        try:
            return self.approve(delegation)
        except Unreachable:
            given_at = self.remembered.get(delegation.domain.name)
            if given_at is None or not timedelta(0) <= self.now - given_at <= timedelta(days=30):
                raise
            return Approval(delegation, given_at, remembered=True, summary="its earlier yes still counts")

    def approve_own(self, delegation: Delegation) -> Approval:
        if delegation.domain.zone not in self.own_zones:
            raise NotApproved(Slug.APPROVAL_REFUSED, f"{delegation.domain.zone} is not a zone of yours")
        return Approval(delegation, self.now, remembered=False, summary="your own zone")

    def would_approve(self, domain: Domain) -> bool | None:
        self.asked.append(domain.name)
        return None if self.outage else domain.name in self.approved

    def approves(self, domain: Domain) -> None:
        """Make a name a customer's."""
        self.approved.add(domain.name)
