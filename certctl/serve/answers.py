"""What a visitor's name is told, and for how long that stands."""

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
    """One answer.

    Attributes:
        lasts: How long asking again is pointless.
        slug: Why, when it is not ready.
    """

    kind: Kind
    lasts: timedelta = timedelta(0)
    slug: Slug | None = None

    @property
    def seconds(self) -> int:
        """Return how long it stands in whole seconds, as HTTP's headers want it; at least one."""
        return max(1, round(self.lasts.total_seconds()))


READY = Answer(Kind.READY)
PREPARING = Answer(Kind.PREPARING, _LOOK_AGAIN)


@dataclass(frozen=True, slots=True)
class WireResult:
    """What became of one name in words, numbers and times: a ``JourneyResult`` as another process can send it.

    Attributes:
        word: The history's word for it, when it is ready.
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
        """Write it for another process: one line."""
        return _WIRE.dump_json(self)

    @staticmethod
    def from_json(line: bytes) -> "WireResult":
        """Read what ``to_json`` wrote."""
        return _WIRE.validate_json(line)


_WIRE = TypeAdapter(WireResult)


def of_result(result: JourneyResult, settings: ServeSettings, now: datetime) -> WireResult:
    """Say what became of a domain, to whoever waits for it and to the journal."""
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
    """Say why a name's way ended early."""
    return WireResult(of_error(error, settings, rests), who=error.kind.who, message=error.message)


def _was_ordered(error: CertctlError | None) -> bool:
    """Tell whether the CA was asked at all: no turn came, the daemon stopped before, or this host is not fit."""
    return not isinstance(error, Busy | Interrupted | ConfigInvalid)


def of_error(error: CertctlError, settings: ServeSettings, rests: timedelta = timedelta(0)) -> Answer:
    """Say what an error means to a visitor; ``rests`` is how long the store lets the domain rest."""
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
