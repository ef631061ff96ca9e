"""The only place that asks what time it is."""

import time
from datetime import UTC, datetime, timedelta


class SystemClock:
    """The host's clock, always aware and in UTC."""

    def now(self) -> datetime:
        """Return the time."""
        return datetime.now(UTC)

    def pause(self, duration: timedelta) -> None:
        """Wait."""
        time.sleep(duration.total_seconds())
