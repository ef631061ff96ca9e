"""The CA's directory (RFC 8555 §7.1.1) and its clock, fetched at most once in ten minutes and before any order.

When the CA is down a run fails at once, without an engine's whole attempt. A clock that is wrong makes orders that
are never ready, certificates that seem not to be valid yet, and moments to retry at that lie a year ahead.
"""

import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPSConnection
from urllib.parse import urlsplit

import requests
from acme import errors, messages
from acme.client import ClientV2
from josepy.errors import DeserializationError
from josepy.errors import Error as JoseError

from certctl.ca.engines.acme.session import parsed
from certctl.ca.errors import classify
from certctl.ca.http import AcmeHttp, RecordedAcmeHttp, in_time
from certctl.ca.settings import CaSettings
from certctl.ca.transcript import End, EngineResult
from certctl.errors import CertctlError, ConfigInvalid, Unreachable
from certctl.io.clock import Clock
from certctl.slugs import Slug
from certctl.values import Done

_MOST_APART = timedelta(minutes=5)
_FRESH, _FAILED = timedelta(minutes=10), timedelta(seconds=5)
_STEADY = timedelta(minutes=1)
_SECONDS = 10
_PATIENT = "classic"  # Let's Encrypt: its pending authorizations live 7 days, those of its other profiles 1 hour
_NEEDED = ("newNonce", "newAccount", "newOrder")  # RFC 8555 §7.1.1
_BY_THE_CLOCK = {9, 10}  # X509_V_ERR_CERT_NOT_YET_VALID and …_HAS_EXPIRED (openssl, verify(1))


@dataclass(frozen=True, slots=True)
class _DirectoryAnswer:
    """What one fetch of the directory returned.

    Attributes:
        failure: Makes the error, a new one for each caller; None when the CA answered.
        profiles: The profiles the CA offers; None where its directory names none.
    """

    at: datetime
    monotonic: float
    failure: Callable[[], CertctlError] | None = None
    profiles: Mapping[str, str] | None = None

    def is_fresh(self, now: datetime) -> bool:
        """Tell whether the answer can be used again: it is recent, and the host's clock was not set since."""
        passed = timedelta(seconds=time.monotonic() - self.monotonic)
        return passed < (_FAILED if self.failure else _FRESH) and abs(now - self.at - passed) < _STEADY


class Directory:
    """The directory of one CA, fetched at most once in ten minutes for all threads."""

    def __init__(self, settings: CaSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._guard = threading.Lock()
        self._last: _DirectoryAnswer | None = None

    def require_ready(self) -> Done:
        """Require that the CA's directory is usable and that its clock agrees with ours.

        Raises:
            Unreachable: no usable answer.
            ConfigInvalid: ``clock-wrong``.
            Refused, RateLimited: the CA's own words.
        """
        if failure := self._current().failure:
            raise failure()
        return Done("the CA's directory answers, and its clock agrees with ours", changed=False)

    @property
    def lacks_profile(self) -> bool:
        """Tell whether the CA lists its profiles, and the configured one is not among them."""
        offered = self._current().profiles
        return bool(self._settings.profile) and offered is not None and self._settings.profile not in offered

    def _current(self) -> _DirectoryAnswer:
        with self._guard:
            if self._last is None or not self._last.is_fresh(self._clock.now()):
                self._last = self._ask()
            return self._last

    def _ask(self) -> _DirectoryAnswer:
        """Fetch the directory and a new nonce, whose Date no cache on the way may keep (RFC 8555 §7.2)."""
        net = RecordedAcmeHttp(self._settings, _SECONDS)
        try:
            answer = in_time(_SECONDS, lambda: net.get(self._settings.directory))
            directory = parsed(messages.Directory, answer).to_partial_json()
            if missing := [name for name in _NEEDED if name not in directory]:
                raise DeserializationError(f"a directory without {', '.join(missing)}")
            fresh = in_time(_SECONDS, lambda: net.head(str(directory["newNonce"])))
        except (errors.Error, JoseError, requests.RequestException) as error:
            return self._seen(self._failure(net, error))
        finally:
            net.session.close()
        wrong = _clock_wrong(self._clock.now(), _date(fresh.headers.get("Date", "")))
        return self._seen(wrong, _profiles(answer))

    def _seen(
        self, failure: Callable[[], CertctlError] | None, profiles: Mapping[str, str] | None = None
    ) -> _DirectoryAnswer:
        """Return an answer dated now, after the fetch, as a silent CA takes longer than a failure is kept."""
        return _DirectoryAnswer(self._clock.now(), time.monotonic(), failure, profiles)

    def _failure(self, net: RecordedAcmeHttp, error: Exception) -> Callable[[], CertctlError]:
        """Return what makes the error for an unusable answer; ``clock-wrong`` when TLS fails by our clock only."""
        now = self._clock.now()
        if isinstance(error, requests.exceptions.SSLError) and _is_about_dates(error):
            theirs = _unverified_date(self._settings.directory)
            if wrong := _clock_wrong(now, theirs, "the CA's TLS certificate is not valid by this clock"):
                return wrong
        engine_result = EngineResult(
            End.FAILURE,
            list(net.heard),
            # One that is silent has no order of ours to be slow with.
            frozenset(kind.__name__ for kind in type(error).__mro__ if "Timeout" not in kind.__name__),
            words=(f"{self._settings.directory}: {type(error).__name__}: {error}"[:500],),
        )
        return lambda: classify(engine_result, self._settings.directory, now)


def patient_profile(settings: CaSettings) -> str:
    """Return the profile whose pending authorizations live for days, empty when the CA offers none by that name.

    Without an answer none is assumed: an order that waits for a person is resumed only under the same profile.

    Raises:
        Unreachable: the CA could not be asked; nothing could be ordered either.
    """
    net = AcmeHttp(settings, _SECONDS)
    try:
        offered = in_time(_SECONDS, lambda: ClientV2.get_directory(settings.directory, net).meta.profiles)
    except CertctlError:
        raise
    except Exception as error:
        raise Unreachable(
            Slug.CA_UNREACHABLE,
            "the CA gave no usable answer when it was asked for its profiles",
            seen=[f"{settings.directory}: {type(error).__name__}: {error}"[:500]],
            next=["certctl doctor"],
        ) from error
    return _PATIENT if isinstance(offered, Mapping) and _PATIENT in offered else ""


def _clock_wrong(ours: datetime, theirs: datetime | None, *more: str) -> Callable[[], CertctlError] | None:
    if theirs is None or abs(ours - theirs) <= _MOST_APART:
        return None
    apart = timedelta(seconds=round(abs(ours - theirs).total_seconds()))
    return lambda: ConfigInvalid(
        Slug.CLOCK_WRONG,
        f"this host's clock is {apart} {'ahead of' if ours > theirs else 'behind'} the CA's: nothing was ordered",
        seen=[f"here {_shown(ours)}", f"at the CA {_shown(theirs)}", *more],
        expected=[f"clocks that are less than {_MOST_APART.seconds // 60} minutes apart"],
        next=["timedatectl set-ntp true", "timedatectl"],
    )


def _profiles(answer: requests.Response) -> Mapping[str, str] | None:
    meta = answer.json().get("meta")
    offered = meta.get("profiles") if isinstance(meta, dict) else None
    return offered if isinstance(offered, dict) else None


def _date(text: str) -> datetime | None:
    """Return the moment of a Date header (RFC 9110 §6.6.1); None when it cannot be read."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _is_about_dates(error: BaseException) -> bool:
    """Tell whether TLS failed only because a certificate is expired, or not yet valid, by our clock."""
    return any(getattr(cause, "verify_code", None) in _BY_THE_CLOCK for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    waiting, known = [error], set[int]()
    while waiting:
        cause = waiting.pop()
        known.add(id(cause))
        yield cause
        near = (cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args)
        waiting += [each for each in near if isinstance(each, BaseException) and id(each) not in known]


def _unverified_date(url: str) -> datetime | None:
    """Return the Date of a CA whose certificate is not verified; it is compared, and nothing is ordered there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    parts = urlsplit(url)
    connection = HTTPSConnection(parts.hostname or "", parts.port or 443, timeout=_SECONDS, context=context)
    try:
        connection.request("HEAD", parts.path or "/")
        return _date(connection.getresponse().getheader("Date") or "")
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
