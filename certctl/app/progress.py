"""How far many domains are, and when the rest will be done: at their own pace, or at the CA's limits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil

from certctl.budget import Limit
from certctl.io.clock import Clock

_SAID_EVERY = timedelta(seconds=30)
_NOT_WORTH_SAYING = timedelta(minutes=1)
_MANY_MINUTES = 120


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the CA's limit on new orders means for many of them.

    Attributes:
        limit: As this run keeps it.
        spent: When orders were placed lately, by our own ledger.
    """

    limit: Limit
    spent: Callable[[datetime], Sequence[datetime]]
    clock: Clock

    def until(self, orders: int) -> datetime:
        """Return when the last of so many orders will be allowed."""
        now = self.clock.now()
        return now + self.limit.wait(self.spent(now), now, orders)

    def said(self, orders: int) -> str:
        """Say it for a person."""
        hours = self.limit.memory / timedelta(hours=1)
        limit = f"{self.limit.capacity} per {hours:.3g} h"
        return f"at the CA's limit of {limit} the rest takes until {self.until(orders):%Y-%m-%d %H:%M} UTC"


@dataclass(slots=True)
class Pace:
    """The progress of one run over many domains.

    Attributes:
        total: How many set out.
        orders: How many of them need an order, as far as the store knew when they did.
        outlook: None where no limit is known.
    """

    total: int
    orders: int
    clock: Clock
    outlook: Outlook | None = None
    done: int = 0
    failed: int = 0
    _began: datetime = field(init=False)
    _said: datetime = field(init=False)

    def __post_init__(self) -> None:
        self._began = self._said = self.clock.now()

    def arrived(self, *, ok: bool) -> None:
        """Count one more."""
        self.done += 1
        self.failed += not ok

    @property
    def rest(self) -> str:
        """Say when the rest will be done; empty when nothing is left, or nothing is known yet."""
        left, now = self.total - self.done, self.clock.now()
        if not left:
            return ""
        own = (now - self._began) / self.done * left if self.done else timedelta(0)
        orders = min(left, self.orders)
        if self.outlook and orders and self.outlook.until(orders) - now > max(own, _NOT_WORTH_SAYING):
            return self.outlook.said(orders)
        return f"about {_rounded(own)} left" if own else ""

    def line(self) -> str:
        """Return a line about it where no bar is seen, now and then; empty when the last is not old enough."""
        if self.clock.now() - self._said < _SAID_EVERY:
            return ""
        self._said = self.clock.now()
        failed = f", {self.failed} failed" if self.failed else ""
        rest = f"; {self.rest}" if self.rest else ""
        return f"{self.done} of {self.total} done{failed}{rest}"


def _rounded(duration: timedelta) -> str:
    minutes = ceil(duration / timedelta(minutes=1))
    return f"{minutes} min" if minutes <= _MANY_MINUTES else f"{duration / timedelta(hours=1):.1f} h"
