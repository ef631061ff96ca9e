"""The answer about a visitor's name, and for how long it holds."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import TypeAdapter

from certctl.errors import (
    Busy,
    CertctlError,
    ConfigInvalid,
    Interrupted,
    NameRejected,
    NotApproved,
    NotReady,
    RateLimited,
    Refused,
)
from certctl.serve.settings import ServeSettings
from certctl.slugs import Slug
from certctl.stories.result import JourneyResult, Step

_LONGEST = timedelta(hours=1)  # an operator's --force, or a raised limit, is noticed within that time
_DNS_MAY_CHANGE = timedelta(seconds=30)
_ASK_AGAIN = timedelta(seconds=10)
_LOOK_AGAIN = timedelta(seconds=2)


class Kind(StrEnum):
    """The kinds of answers (public: label of a metric)."""

    READY = "ready"
    REFUSED = "refused"
    RESTING = "resting"
    PREPARING = "preparing"
    UNSURE = "unsure"
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer about one name.

    Attributes:
        lasts: How long the answer holds, so that asking again is pointless.
        slug: The error, when the name is not ready.
    """

    kind: Kind
    lasts: timedelta = timedelta(0)
    slug: Slug | None = None

    @property
    def seconds(self) -> int:
        """Return how long it holds in whole seconds, as ``Retry-After`` and ``max-age`` need it; at least one."""
        return max(1, round(self.lasts.total_seconds()))


READY = Answer(Kind.READY)
PREPARING = Answer(Kind.PREPARING, _LOOK_AGAIN)


@dataclass(frozen=True, slots=True)
class WireResult:
    """A ``JourneyResult`` that can be sent between processes: words, numbers and times only.

    Attributes:
        word: The journey's disposition, when the name is ready.
        changed: Whether anything on this host or at the CA is different because of it.
        orders: Orders placed at the CA.
        expires: When the certificate that is served now ends.
        who: Who must act, when it is not ready.
        message: Why it is not ready.
    """

    answer: Answer
    word: str = ""
    changed: bool = False
    orders: int = 0
    expires: datetime | None = None
    who: str = ""
    message: str = ""

    def to_json(self) -> bytes:
        """Return the result as one line of JSON."""
        return _WIRE.dump_json(self)

    @staticmethod
    def from_json(line: bytes) -> "WireResult":
        """Return the result that ``to_json`` wrote."""
        return _WIRE.validate_json(line)


_WIRE = TypeAdapter(WireResult)


def of_result(result: JourneyResult, settings: ServeSettings, now: datetime) -> WireResult:
    """Return the result of a journey with the answer for its visitors."""
    orders = sum(step.name is Step.OBTAIN and (step.ok or _was_ordered(result.error)) for step in result.steps)
    if result.error:
        rests = result.after.retry_at - now if result.after and result.after.retry_at else timedelta(0)
        return replace(of_failure(result.error, settings, rests), orders=orders, changed=result.changed)
    return WireResult(
        READY,
        result.disposition,
        result.changed,
        orders,
        result.certificate.not_after if result.certificate else None,
    )


def of_failure(error: CertctlError, settings: ServeSettings, rests: timedelta = timedelta(0)) -> WireResult:
    """Return the result of a name that failed with this error."""
    return WireResult(of_error(error, settings, rests), who=error.kind.who, message=error.message)


def _was_ordered(error: CertctlError | None) -> bool:
    """Tell whether an order was placed before this error; it was not when this host or the daemon refused it."""
    return not isinstance(error, Busy | Interrupted | ConfigInvalid)


def of_error(error: CertctlError, settings: ServeSettings, rests: timedelta = timedelta(0)) -> Answer:
    """Return the answer for an error; ``rests`` is how long the domain's back-off lasts."""
    told = timedelta(seconds=error.retry_after or 0)
    match error:
        case NameRejected() | NotApproved():
            kind, lasts = Kind.REFUSED, told or settings.no_lasts
        case NotReady():
            kind, lasts = Kind.REFUSED, min(settings.no_lasts, _DNS_MAY_CHANGE)
        case Refused() | RateLimited():
            kind, lasts = Kind.RESTING, max(told, rests, _ASK_AGAIN)
        case Interrupted():
            kind, lasts = Kind.PREPARING, _LOOK_AGAIN
        case _:  # nobody answered, nginx or the host is ill: not the name's fault, so the next try may be soon
            kind, lasts = Kind.UNSURE, max(told, rests, _ASK_AGAIN)
    return Answer(kind, min(lasts, _LONGEST), error.slug)
