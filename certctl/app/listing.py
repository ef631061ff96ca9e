"""Which domains ``certctl status`` lists, why each fails, and how many fail for the same reason."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import groupby

from certctl.app.condition import FAILING, HEALTHY, condition
from certctl.app.context import Context
from certctl.domain import Domain
from certctl.errors import CertctlError, Kind, Who, kind_of
from certctl.stories.damage import damaged
from certctl.stories.quota import command_for
from certctl.values import DomainRow


@dataclass(frozen=True, slots=True)
class Listed:
    """A domain, its condition in one word, and why it is not as it should be."""

    row: DomainRow
    condition: str
    error: CertctlError | None


@dataclass(frozen=True, slots=True)
class Filter:
    """What to list.

    Attributes:
        everything: The healthy ones too.
        failing: Only what fails or has expired.
        state: Only this condition.
        code: Only what fails with this kind of error.
        after: Only names that come after this one in the order of names.
        limit: At most this many; None for all.
    """

    everything: bool = False
    failing: bool = False
    state: str | None = None
    code: Kind | None = None
    after: Domain | None = None
    limit: int | None = None


class Key(StrEnum):
    """What failing domains can be grouped by."""

    CODE = "code"
    WHO = "who"
    STATE = "state"


@dataclass(frozen=True, slots=True)
class Group:
    """Domains that fail alike.

    Attributes:
        key: The slug, who has to act, or the condition that they share.
        oldest: Since when the one that fails for the longest time is in its state.
        example: Its name.
        who: Who has to act; None where that differs or is not known.
    """

    key: str
    count: int
    oldest: datetime
    example: str
    who: Who | None


@dataclass(frozen=True, slots=True)
class Listing:
    """What was found.

    Attributes:
        domains: Those that were asked for, by name.
        left: How many more there are beyond the limit.
        counts: How many of all that were looked at are in each condition.
    """

    domains: Sequence[Listed]
    left: int
    counts: Counter[str]


def listed(context: Context, chosen: Filter) -> Listing:
    """Return the domains that were asked for."""
    now, fraction = context.clock.now(), context.settings.renewal.fallback_fraction
    is_complete = (chosen.everything or bool(chosen.state)) and not chosen.failing
    rows = context.store.domains() if is_complete else context.world.candidates()
    seen = [Listed(row, condition(row, now, fraction), failure(row, now)) for row in rows]
    found = [each for each in seen if _is_asked_for(each, chosen)]
    if chosen.after:
        found = [each for each in found if each.row.domain.name > chosen.after.name]
    shown = found[: chosen.limit]
    return Listing(shown, len(found) - len(shown), Counter(each.condition for each in seen))


def _is_asked_for(each: Listed, chosen: Filter) -> bool:
    if chosen.state and each.condition != chosen.state:
        return False
    if chosen.code:
        return each.error is not None and each.error.kind is chosen.code
    if chosen.failing:
        return each.condition in FAILING
    return chosen.everything or bool(chosen.state) or each.condition != HEALTHY


def failure(row: DomainRow, now: datetime) -> CertctlError | None:
    """Return what is wrong with a domain as the store remembers it: its kind; the history has the particulars.

    A slug that another version of certctl wrote says nothing here.
    """
    if row.damage:
        return damaged(row)
    kind = kind_of(row.last_error)
    if kind is None:
        return None
    rest = (row.retry_at - now).total_seconds() if row.retry_at else 0
    again = [f"certctl log {row.domain}", command_for(row.domain)]
    return kind.family(kind.slug, kind.summary, next=again, retry_after=round(rest) if rest > 0 else None)


def groups(domains: Sequence[Listed], by: Key) -> Sequence[Group]:
    """Return how many domains fail with the same code, for the same person or in the same state, most first."""

    def key(each: Listed) -> str:
        if by is Key.STATE or each.error is None:
            return each.condition
        return str(each.error.slug if by is Key.CODE else each.error.kind.who)

    failing = sorted((each for each in domains if each.error or each.condition in FAILING), key=key)
    grouped = [(name, list(group)) for name, group in groupby(failing, key)]
    found = [_group(name, members) for name, members in grouped]
    return sorted(found, key=lambda group: (-group.count, group.key))


def _group(name: str, members: Sequence[Listed]) -> Group:
    oldest = min(members, key=lambda each: each.row.since)
    turns = {each.error.kind.who if each.error else None for each in members}
    who = turns.pop() if len(turns) == 1 else None
    return Group(name, len(members), oldest.row.since, str(oldest.row.domain), who)
