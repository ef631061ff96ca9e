"""Send a message by command, webhook and ping, all at once and within one deadline.

No failure here fails a run: each becomes a phrase of one warning.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import urlsplit, urlunsplit

from requests import Request

from certctl.io import process
from certctl.io.escape import lines
from certctl.io.http_errors import in_words
from certctl.io.request import send
from certctl.io.running import OutOfTime, Running
from certctl.notify.message import Message

_DEADLINE = timedelta(seconds=10)
_GRACE = timedelta(milliseconds=500)
_HEADERS = {"User-Agent": "certctl"}


@dataclass(frozen=True, slots=True)
class NotifySettings:
    """The operator's ``[notify]`` section.

    Attributes:
        command: Gets the message as JSON on stdin, and nothing of it in its arguments.
        webhook: Gets the message as JSON in a POST. It may hold a token, so it is never shown.
        ping: The URL of a dead man's switch, fetched after every whole run; when it is not, its service raises an
            alarm.
        deadline: The limit of all three together.
    """

    command: tuple[str, ...] = ()
    webhook: str = field(default="", repr=False)
    ping: str = field(default="", repr=False)
    deadline: timedelta = _DEADLINE


class Notifier:
    """Sends messages in every configured way."""

    def __init__(self, settings: NotifySettings) -> None:
        self._settings = settings

    def tell(self, message: Message, *, ping: bool) -> Sequence[str]:
        """Send the message if it has alerts, and ping if asked to; return a phrase for each failure."""
        s, ways = self._settings, dict[str, Callable[[float], str]]()
        if message.alerts and s.command:
            ways["command"] = lambda seconds: _run(s.command, message.json(), seconds)
        if message.alerts and s.webhook:
            posted = Request(
                "POST", s.webhook, data=message.json(), headers=_HEADERS | {"Content-Type": "application/json"}
            )
            ways["webhook"] = lambda seconds: _ask(posted, seconds)
        if ping and (url := ping_url(s.ping, ok=message.exit_code == 0)):
            ways["ping"] = lambda seconds: _ask(Request("GET", url, headers=_HEADERS), seconds)
        return [f"[notify] {name}: {fault}" for name, fault in _together(ways, s.deadline).items() if fault]


def ping_url(url: str, *, ok: bool) -> str:
    """Return the URL to ping for a run: the configured one, or ``/fail`` below it as healthchecks.io has it.

    For a URL with a query it is empty after a failed run: then the missing ping raises the alarm.
    """
    if ok or not url:
        return url
    parts = urlsplit(url)
    return "" if parts.query else urlunsplit(parts._replace(path=parts.path.rstrip("/") + "/fail"))


def _together(ways: dict[str, Callable[[float], str]], deadline: timedelta) -> dict[str, str]:
    """Start all ways at once; return the failure of each, or "". A way that is late is left to its thread."""
    end = time.monotonic() + deadline.total_seconds()

    def start(name: str, way: Callable[[float], str]) -> Running[str]:
        return Running(lambda: way(end - time.monotonic()), f"notify-{name}")

    def fault(running: Running[str]) -> str:
        try:
            return running.result(end - time.monotonic())
        except OutOfTime:
            return f"not done within {deadline.total_seconds():g} s"
        except Exception as error:  # noqa: BLE001 - a notifier must not fail a run
            return type(error).__name__

    under_way = {name: start(name, way) for name, way in ways.items()}
    return {name: fault(running) for name, running in under_way.items()}


def _run(command: Sequence[str], given: bytes, seconds: float) -> str:
    """Run the command, and return its failure or ""; it is killed in time for the whole deadline."""
    deadline = max(timedelta(0), timedelta(seconds=seconds) - 3 * _GRACE)
    try:
        ended = process.run(
            [process.find(command[0]), *command[1:]],
            deadline=deadline,
            given=given,
            root_because="root's own configuration names it, and may name a file that root alone reads",
            grace=_GRACE,
        )
    except process.Missing:
        return f"{command[0]} cannot be run"
    if ended.code is None:
        return f"{command[0]} did not end in time"
    last = "".join(f": {line}" for line in lines(ended.output, 1))
    return "" if ended.ok else f"{command[0]} ended with {ended.code}{last}"


def _ask(request: Request, seconds: float) -> str:
    try:
        response = send(request, seconds)
    except OutOfTime:
        return "no answer in time"
    except Exception as error:  # noqa: BLE001 - in words, without the URL
        return in_words(error)
    return "" if 200 <= response.status_code < 300 else f"answered {response.status_code}"  # noqa: PLR2004
