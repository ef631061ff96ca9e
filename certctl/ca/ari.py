"""When the CA would like a renewal: ACME Renewal Information (RFC 9773), by certbot's own acme library."""

import threading
from datetime import UTC, datetime, timedelta

import requests
from acme import client, errors
from acme.messages import Directory

from certctl.ca.settings import CaSettings
from certctl.io.clock import SystemClock
from certctl.values import Certificate, Pem, Suggestion

_TIMEOUT_SECONDS = 10
_LATER = timedelta(hours=6)  # RFC 9773 §4.3.3: when the CA does not say when to ask again
_SOONEST, _LATEST = timedelta(minutes=1), timedelta(days=1)


class RenewalInfo:
    """Asks one CA; a CA without ARI, or one that cannot be asked, suggests nothing and never fails a renewal."""

    def __init__(self, settings: CaSettings, clock: SystemClock) -> None:
        self._settings = settings
        self._clock = clock
        self._guard = threading.Lock()
        self._client: client.ClientV2 | None = None
        self._is_silent = False

    def suggestion(self, certificate: Certificate, pem: Pem) -> Suggestion:
        """Return a moment in the CA's window, chosen at random (RFC 9773 §4.2), and when to ask again."""
        now = self._clock.now()
        try:
            acme = self._connected()
            if acme is None or certificate.not_after <= now:
                return Suggestion(None, now + _LATER)
            renew_at, ask_at = acme.renewal_time(pem.fullchain.encode())
        except (errors.Error, requests.RequestException, ValueError, TypeError, AttributeError, OverflowError):
            return Suggestion(None, now + _LATER)  # what a CA answers is its own affair; the backstop renews
        return Suggestion(_aware(renew_at) if renew_at else None, _clamped(_aware(ask_at), now))

    def _connected(self) -> client.ClientV2 | None:
        """Return a client that has read the directory, None when the CA does not answer or has no ARI.

        The directory is asked for once a run, so ten thousand certificates meet one timeout and not ten thousand.
        """
        with self._guard:
            if self._client is None and not self._is_silent:
                self._is_silent = True
                net = client.ClientNetwork(timeout=_TIMEOUT_SECONDS, user_agent="certctl")
                net.session.trust_env = False
                net.verify_ssl = str(self._settings.ca_file) if self._settings.ca_file else True  # type: ignore[assignment]
                directory: Directory = client.ClientV2.get_directory(self._settings.directory, net)
                self._client = client.ClientV2(directory, net)
                self._is_silent = False
            return self._client


def _aware(moment: datetime) -> datetime:
    """Return the time in UTC; acme 5.9 gives the next time to ask without a zone, in local time."""
    return moment.astimezone(UTC)


def _clamped(ask_at: datetime, now: datetime) -> datetime:
    return min(max(ask_at, now + _SOONEST), now + _LATEST)
