"""HTTP to the CA by the acme library, with limits of our own in time and in bytes for every answer."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from io import BytesIO
from typing import Any, TypeVar

import requests
from acme.client import ClientNetwork
from urllib3.exceptions import HTTPError

from certctl.ca.settings import CaSettings
from certctl.ca.transcript import Response
from certctl.certificates import MAX_CHAIN
from certctl.formats import delay_seconds
from certctl.io.request import TrustingAdapter
from certctl.io.running import OutOfTime, Running

AT_ONCE = 16
_MAX_BYTES = MAX_CHAIN + 1  # enough to see that a chain is too long

T = TypeVar("T")


class AcmeHttp(ClientNetwork):
    """A persistent HTTP connection to the CA: no proxies, and each answer cut to 64 KiB."""

    def __init__(self, settings: CaSettings, seconds: int) -> None:
        super().__init__(timeout=seconds, user_agent="certctl")
        # Annotated as a bool, handed on to requests as it is (acme 5.9): there a path is the trust.
        self.verify_ssl = str(settings.ca_file) if settings.ca_file else True  # type: ignore[assignment]
        self.session.trust_env = False
        self.session.mount("https://", TrustingAdapter(pool_maxsize=AT_ONCE))
        self.session.hooks["response"].append(_shorten)


class RecordedAcmeHttp(AcmeHttp):
    """A connection that keeps the CA's answers, from which ``ca/errors.py`` tells what went wrong.

    Attributes:
        heard: The CA's answers in order; a caller empties it.
    """

    def __init__(self, settings: CaSettings, seconds: int) -> None:
        super().__init__(settings, seconds)
        self.heard: list[Response] = []
        self.session.hooks["response"].append(self._remember)

    def _remember(self, response: requests.Response, **_: Any) -> None:  # noqa: ANN401 - requests' hook
        headers = {name.lower(): value for name, value in response.headers.items()}
        self.heard.append(Response(response.status_code, headers, response.content.decode("utf-8", "replace")))


def _shorten(response: requests.Response, **_: Any) -> None:  # noqa: ANN401 - requests' hook
    """Replace a response's body by its first 64 KiB: a longer one is thus no JSON, and an endless one ends.

    Raises:
        requests.ConnectionError: the connection broke off.
    """
    try:
        response.raw = BytesIO(response.raw.read(_MAX_BYTES, decode_content=True))
    except HTTPError as error:
        raise requests.ConnectionError(error) from error


def in_time(seconds: float, do: Callable[[], T]) -> T:
    """Return what ``do`` returns or raise what it raises, but wait no longer than ``seconds``.

    The timeout of requests counts from byte to byte, and nothing limits the look-up of a host name. The thread that
    is left behind ends with its socket or with the process.

    Raises:
        requests.Timeout: no answer in that time.
        Interrupted: this process was asked to stop.
    """
    try:
        return Running(do, "ca").result(seconds, "while the CA was asked")
    except OutOfTime:
        raise requests.Timeout(f"no whole answer within {seconds:.3g} s") from None


def retry_after(text: str, now: datetime) -> timedelta | None:
    """Return Retry-After (RFC 9110 §10.2.3: seconds or a date, maybe of the past); None when it is neither."""
    if (seconds := delay_seconds(text)) is not None:
        return timedelta(seconds=seconds)
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
