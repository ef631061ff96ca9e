"""Our own way to the CA, by certbot's own acme library: whatever the CA answers, bounded in time and in bytes."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from io import BytesIO
from typing import Any, TypeVar

import requests
from acme.client import ClientNetwork
from acme.messages import RegistrationResource
from josepy.jwa import RS256, JWASignature
from josepy.jwk import JWK
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
    """A connection that is kept open: no proxies, and each answer cut to 64 KiB."""

    def __init__(
        self,
        settings: CaSettings,
        seconds: int,
        key: JWK | None = None,
        account: RegistrationResource | None = None,
        alg: JWASignature = RS256,
    ) -> None:
        super().__init__(key, account, alg, timeout=seconds, user_agent="certctl")
        # Annotated as a bool, handed on to requests as it is (acme 5.9): there a path is the trust.
        self.verify_ssl = str(settings.ca_file) if settings.ca_file else True  # type: ignore[assignment]
        self.session.trust_env = False
        self.session.mount("https://", TrustingAdapter(pool_maxsize=AT_ONCE))
        self.session.hooks["response"].append(_shorten)


class RecordedAcmeHttp(AcmeHttp):
    """A connection whose answers are remembered, to tell what went wrong.

    Attributes:
        heard: The CA's answers, in order, since it was emptied.
    """

    def __init__(
        self,
        settings: CaSettings,
        seconds: int,
        key: JWK | None = None,
        account: RegistrationResource | None = None,
        alg: JWASignature = RS256,
    ) -> None:
        super().__init__(settings, seconds, key, account, alg)
        self.heard: list[Response] = []
        self.session.hooks["response"].append(self._remember)

    def _remember(self, response: requests.Response, **_: Any) -> None:  # noqa: ANN401 - requests' hook
        headers = {name.lower(): value for name, value in response.headers.items()}
        self.heard.append(Response(response.status_code, headers, response.content.decode("utf-8", "replace")))


def _shorten(response: requests.Response, **_: Any) -> None:  # noqa: ANN401 - requests' hook
    """Read an answer before requests does, which would read for ever; a longer one is cut and so no JSON.

    Raises:
        requests.ConnectionError: it broke off; requests would have said so in its own reading.
    """
    try:
        response.raw = BytesIO(response.raw.read(_MAX_BYTES, decode_content=True))
    except HTTPError as error:
        raise requests.ConnectionError(error) from error


def in_time(seconds: float, do: Callable[[], T]) -> T:
    """Return what ``do`` returns or raise what it raises, but wait no longer.

    The timeout of requests counts from byte to byte, and nothing bounds the look-up of a host name; the thread
    left behind ends with its socket or with us.

    Raises:
        requests.Timeout: no answer in that time.
        Interrupted: this process was asked to stop.
    """
    try:
        return Running(do, "ca").result(seconds, "while the CA was asked")
    except OutOfTime:
        raise requests.Timeout(f"no whole answer within {seconds:.3g} s") from None


def retry_after(text: str, now: datetime) -> timedelta | None:
    """Read Retry-After (RFC 9110 §10.2.3: seconds or a date, maybe of the past); None when it is neither."""
    if (seconds := delay_seconds(text)) is not None:
        return timedelta(seconds=seconds)
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
