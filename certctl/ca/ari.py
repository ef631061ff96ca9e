"""ACME Renewal Information (ARI, RFC 9773): when the CA suggests to renew a certificate, by the acme library.

No answer of the CA, and no missing answer, fails a renewal or delays one.
"""

import random
import threading
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import requests
from acme.client import ClientV2
from acme.messages import RenewalInfo as Answer
from cryptography import x509

from certctl.ca.http import AcmeHttp, in_time, retry_after
from certctl.ca.settings import CaSettings, require_safe_directory
from certctl.io.clock import SystemClock
from certctl.values import Certificate, Pem, Suggestion

_LATER = timedelta(hours=6)  # RFC 9773 §4.3.3: when the CA does not say when to ask again
_SOONEST, _LATEST = timedelta(minutes=1), timedelta(days=1)  # §4.3.2 asks for limits on both sides
_PATIENCE = 3

T = TypeVar("T")


class RenewalInfo:
    """Asks one CA for its renewal information; a CA that is silent three times is not asked again in this run.

    ``seconds`` is the deadline of one request.
    """

    def __init__(self, settings: CaSettings, clock: SystemClock, seconds: int = 10) -> None:
        self._settings = settings
        self._clock = clock
        self._seconds = seconds
        self._guard = threading.Lock()
        self._place: tuple[AcmeHttp, str] | None = None
        self._has_asked = False
        self._silences = 0

    def suggestion(self, certificate: Certificate, pem: Pem) -> Suggestion:
        """Return a random moment in the CA's suggested window (RFC 9773 §4.2), and when to ask again."""
        now = self._clock.now()
        nothing = Suggestion(None, now + _LATER)
        if certificate.not_after <= now:  # §4.3: an expired certificate must not be asked about
            return nothing
        try:
            if not (certificate_id := identifier(pem)):
                return nothing
            net, base = self._renewal_info()
            response = self._heard(lambda: net.get(f"{base}/{certificate_id}"))
            renew_at = _moment(Answer.from_json(response.json()), certificate)
            wait = retry_after(response.headers.get("Retry-After", ""), now)
        except Exception:  # noqa: BLE001 - what a CA answers is its own affair; the share of the lifetime renews
            return nothing
        return Suggestion(renew_at, now + min(max(_LATER if wait is None else wait, _SOONEST), _LATEST))

    def _renewal_info(self) -> tuple[AcmeHttp, str]:
        """Return an HTTP client and the ``renewalInfo`` URL of the CA's directory, which is fetched once.

        Raises:
            Exception: the CA did not answer, has no ARI, or would have us ask over plain HTTP.
        """
        with self._guard:
            if not self._has_asked:
                self._has_asked = True
                net = AcmeHttp(self._settings, self._seconds)
                directory = self._heard(lambda: ClientV2.get_directory(self._settings.directory, net))
                base = str(directory["renewalInfo"])
                require_safe_directory(base)
                self._place = net, base
            if self._place is None:
                raise LookupError("no renewal information in this run")
            return self._place

    def _heard(self, ask: Callable[[], T]) -> T:
        """Return what ``ask`` returns within the deadline; raise at once when the CA was silent three times.

        With ten thousand certificates and a CA that is down, a run thus waits for three deadlines.

        Raises:
            Exception: what ``ask`` raises, or no answer.
        """
        if self._silences >= _PATIENCE:
            raise requests.Timeout("the CA did not answer before")
        try:
            heard = in_time(self._seconds, ask)
        except (requests.ConnectionError, requests.Timeout):
            self._silences += 1
            raise
        self._silences = 0
        return heard


def identifier(pem: Pem) -> str:
    """Return a certificate's ARI identifier (RFC 9773 §4.1): base64url of issuer key identifier, ".", serial.

    It is empty for a certificate that is damaged or has no authority key identifier (RFC 5280 §4.2.1.1).
    """
    try:
        leaf = x509.load_pem_x509_certificate(pem.fullchain.encode())
        issuer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.InvalidVersion):
        return ""
    serial = leaf.serial_number.to_bytes(leaf.serial_number.bit_length() // 8 + 1)  # DER: a zero before a high bit
    return ".".join(urlsafe_b64encode(part).decode().rstrip("=") for part in (issuer, serial)) if issuer else ""


def _moment(answer: Answer, certificate: Certificate) -> datetime:
    """Return a random moment in the suggested window, in UTC.

    Raises:
        ValueError: the window ends before it begins, which counts as no answer (RFC 9773 §4.2), or begins when
            the certificate is no longer valid.
    """
    window = answer.suggested_window
    if not window.start < window.end or window.start >= certificate.not_after:
        raise ValueError("no window")
    moment: datetime = window.start + random.random() * (window.end - window.start)  # noqa: S311 - spreads load
    return moment.astimezone(UTC)
