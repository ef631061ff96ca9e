"""What Ctrl-C, SIGTERM and SIGHUP do: nothing new begins, what was begun is put back, and the run ends with 130."""

import signal
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def listen() -> None:
    """Take over the signals of this process."""
    for number in _SIGNALS:
        signal.signal(number, _stop)


def _stop(_number: int, _frame: FrameType | None) -> None:
    """Stop once; a second Ctrl-C must not break the way back half-way."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    from certctl.io.interrupt import stopping
    from certctl.io.process import end_children

    stopping.set()
    end_children()
    raise KeyboardInterrupt
