"""The CA's directory and its clock, looked at before anything is ordered: free, and seldom.

A CA that is away costs a sentence then, not an engine's whole attempt. A clock that is wrong makes orders that are
never ready, certificates that seem not to be valid yet, and moments to retry at that lie a year ahead.
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
    """What one look gave.

    Attributes:
        failure: Makes the error, anew for each who asks.
        profiles: What the CA offers, where it says so.
    """

    at: datetime
    monotonic: float
    failure: Callable[[], CertctlError] | None = None
    profiles: Mapping[str, str] | None = None

    def is_fresh(self, now: datetime) -> bool:
        """Tell whether it need not be repeated: it is not old, and nobody has set the clock since."""
        passed = timedelta(seconds=time.monotonic() - self.monotonic)
        return passed < (_FAILED if self.failure else _FRESH) and abs(now - self.at - passed) < _STEADY


class Directory:
    """Asks one CA, at most once in ten minutes for all threads."""

    def __init__(self, settings: CaSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._guard = threading.Lock()
        self._last: _DirectoryAnswer | None = None

    def require_ready(self) -> Done:
        """Have the CA's directory, and a clock that agrees with the CA's.

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
        """Tell whether the CA names its profiles, and the one of the configuration is not among them."""
        offered = self._current().profiles
        return bool(self._settings.profile) and offered is not None and self._settings.profile not in offered

    def _current(self) -> _DirectoryAnswer:
        with self._guard:
            if self._last is None or not self._last.is_fresh(self._clock.now()):
                self._last = self._ask()
            return self._last

    def _ask(self) -> _DirectoryAnswer:
        """Ask for the directory and a nonce, which no cache on the way may keep (RFC 8555 §7.2)."""
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
        """Note what a look gave as of its end: a CA that is silent takes longer than a failure is kept."""
        return _DirectoryAnswer(self._clock.now(), time.monotonic(), failure, profiles)

    def _failure(self, net: RecordedAcmeHttp, error: Exception) -> Callable[[], CertctlError]:
        """Say why there is no usable answer; a certificate that seems out of date may be our clock's fault."""
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

    A guess would not do: an order that waits for a person was made by this profile, and by another it would not be
    known again.

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
    """Read Date (RFC 9110 §6.6.1); None when there is none to read."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _is_about_dates(error: BaseException) -> bool:
    """Tell whether TLS failed only because a certificate is not valid at the moment our clock shows."""
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
    """Ask what time it is at the CA without believing that it is the CA: whatever it says, nothing is ordered."""
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
