"""The only place that asks what time it is."""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Time, so that tests can own it."""

    def now(self) -> datetime:
        """Return the aware UTC time."""
        ...

    def pause(self, duration: timedelta) -> None:
        """Wait."""
        ...


class SystemClock:
    """The host's clock, always aware and in UTC."""

    def now(self) -> datetime:
        """Return the time."""
        return datetime.now(UTC)

    def pause(self, duration: timedelta) -> None:
        """Wait."""
        time.sleep(duration.total_seconds())
