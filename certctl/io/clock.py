"""The clock: the only module that reads the time."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from certctl.io.interrupt import nap


class Clock(Protocol):
    """A clock, as a Protocol so that tests can set the time."""

    def now(self) -> datetime:
        """Return the aware UTC time."""
        ...

    def pause(self, duration: timedelta) -> None:
        """Sleep for a duration."""
        ...


class SystemClock:
    """The host's clock, always aware and in UTC."""

    def now(self) -> datetime:
        """Return the aware UTC time."""
        return datetime.now(UTC)

    def pause(self, duration: timedelta) -> None:
        """Sleep for a duration.

        Raises:
            Interrupted: this process was asked to stop.
        """
        nap(duration.total_seconds(), "while waiting")


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on the monotonic clock, by which several waits share one limit."""

    at: float

    @classmethod
    def after(cls, duration: timedelta) -> "Deadline":
        """Return the deadline that far from now."""
        return cls(time.monotonic() + duration.total_seconds())

    def remaining(self) -> float:
        """Return the seconds left; 0 once it has passed."""
        return max(0.0, self.at - time.monotonic())
