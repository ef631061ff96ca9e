"""Handle SIGINT, SIGTERM and SIGHUP: no new step begins, a change under way is rolled back, exit code 130."""

import signal
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def listen() -> None:
    """Install the signal handlers of this process."""
    for number in _SIGNALS:
        signal.signal(number, _stop)


def _stop(_number: int, _frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt for the first signal; a second one must not interrupt the rollback."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    from certctl.io.interrupt import stopping
    from certctl.io.process import end_children

    stopping.set()
    end_children()
    raise KeyboardInterrupt
