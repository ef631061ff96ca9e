"""Notify systemd of the daemon's state (sd_notify(3)); without systemd nothing is sent."""

import os
import socket
from contextlib import suppress
from datetime import timedelta


def tell(*facts: str) -> None:
    """Send assignments such as ``READY=1`` or ``STATUS=…``."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in {"/", "@"}:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
        to.connect("\0" + address[1:] if address[0] == "@" else address)
        to.sendall("\n".join(facts).encode())


def speak_for_parent() -> None:
    """Send the watchdog's messages in place of the parent process; the unit needs ``NotifyAccess=all``."""
    if os.environ.get("WATCHDOG_PID") == str(os.getppid()):
        os.environ["WATCHDOG_PID"] = str(os.getpid())


def watchdog() -> timedelta | None:
    """Return how often to send ``WATCHDOG=1``: half of ``WatchdogSec=``, None without (sd_watchdog_enabled(3))."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()) or not microseconds.isdecimal():
        return None
    return timedelta(microseconds=int(microseconds)) / 2 or None
