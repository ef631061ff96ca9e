"""The progress of a run over many domains, and an estimate of its end, by its own speed or by the CA's limits."""

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
class OrderForecast:
    """A forecast of when the CA's limit on new orders allows the rest of them.

    Attributes:
        limit: The limit, less what this run leaves to others.
        spent: Returns when orders were placed lately, by our own ledger.
    """

    limit: Limit
    spent: Callable[[datetime], Sequence[datetime]]
    clock: Clock

    def until(self, orders: int) -> datetime:
        """Return the moment at which the last of ``orders`` more orders is allowed."""
        now = self.clock.now()
        return now + self.limit.wait(self.spent(now), now, orders)

    def said(self, orders: int) -> str:
        """Return the forecast as a clause for people."""
        hours = self.limit.memory / timedelta(hours=1)
        limit = f"{self.limit.capacity} per {hours:.3g} h"
        return f"at the CA's limit of {limit} the rest takes until {self.until(orders):%Y-%m-%d %H:%M} UTC"


@dataclass(slots=True)
class RunProgress:
    """The progress of one run over many domains.

    Attributes:
        total: How many domains there are.
        orders: How many of them need an order, as far as the store knew at the start.
        outlook: None where no limit is known.
    """

    total: int
    orders: int
    clock: Clock
    outlook: OrderForecast | None = None
    done: int = 0
    failed: int = 0
    _began: datetime = field(init=False)
    _said: datetime = field(init=False)

    def __post_init__(self) -> None:
        self._began = self._said = self.clock.now()

    def arrived(self, *, ok: bool) -> None:
        """Count one more domain that is done."""
        self.done += 1
        self.failed += not ok

    @property
    def rest(self) -> str:
        """Return when the rest will be done, in words; empty when nothing is left, or nothing is known yet."""
        left, now = self.total - self.done, self.clock.now()
        if not left:
            return ""
        own = (now - self._began) / self.done * left if self.done else timedelta(0)
        orders = min(left, self.orders)
        if self.outlook and orders and self.outlook.until(orders) - now > max(own, _NOT_WORTH_SAYING):
            return self.outlook.said(orders)
        return f"about {_rounded(own)} left" if own else ""

    def line(self) -> str:
        """Return a progress line for a stderr without a bar; empty until 30 s have passed since the last."""
        if self.clock.now() - self._said < _SAID_EVERY:
            return ""
        self._said = self.clock.now()
        failed = f", {self.failed} failed" if self.failed else ""
        rest = f"; {self.rest}" if self.rest else ""
        return f"{self.done} of {self.total} done{failed}{rest}"


def _rounded(duration: timedelta) -> str:
    minutes = ceil(duration / timedelta(minutes=1))
    return f"{minutes} min" if minutes <= _MANY_MINUTES else f"{duration / timedelta(hours=1):.1f} h"
