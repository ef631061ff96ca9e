"""Pure: when is a certificate due for renewal?

Nothing here knows 30 or 90 days: lifetimes fall to 64 days in 2027, to 45 in 2028, and 160-hour certificates
exist (Let's Encrypt, "From 90 days to 45"). The shares are those of its integration guide.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from certctl.values import Certificate, DomainRow

_SHORT = timedelta(days=10)
_SHORT_FRACTION = 0.5


@dataclass(frozen=True, slots=True)
class Shares:
    """The shares of a lifetime that are left when renewal is due, as numbers that a query can take.

    Attributes:
        usual: Of most lifetimes.
        short: Of those below ``short_below``.
    """

    usual: float
    short: float
    short_below: timedelta

    def of(self, lifetime: timedelta) -> float:
        """Return the share for a lifetime."""
        return self.short if lifetime < self.short_below else self.usual


def shares(fallback_fraction: float) -> Shares:
    """Return the shares for what the operator configured; a short life gets at least half."""
    return Shares(fallback_fraction, max(_SHORT_FRACTION, fallback_fraction), _SHORT)


def due_at(certificate: Certificate, fallback_fraction: float, suggested: datetime | None = None) -> datetime:
    """Return the moment from which the certificate should be renewed.

    Args:
        certificate: Any lifetime.
        fallback_fraction: Share of the lifetime that is left at that moment; half for lives under 10 days.
        suggested: A moment in the CA's ARI window (RFC 9773), which goes before the share. A CA that suggests
            too late, or nonsense, does not let a certificate lapse: half the share is the last call.
    """
    left = certificate.lifetime * shares(fallback_fraction).of(certificate.lifetime)
    if suggested is not None:
        return min(suggested, certificate.not_after - left / 2)
    return certificate.not_after - left


def is_late(certificate: Certificate, now: datetime, fallback_fraction: float) -> bool:
    """Tell whether renewal has been due for so long that a person should be alerted: half the share is gone."""
    return now >= due_at(certificate, fallback_fraction, datetime.max.replace(tzinfo=now.tzinfo))


def row_due_at(row: DomainRow, fallback_fraction: float) -> datetime | None:
    """Return when a domain's certificate is due, None when it has none."""
    if row.certificate is None:
        return None
    return due_at(row.certificate, fallback_fraction, row.suggestion.renew_at if row.suggestion else None)


def is_due(row: DomainRow, now: datetime, fallback_fraction: float) -> bool:
    """Tell whether a domain's certificate should be renewed now."""
    moment = row_due_at(row, fallback_fraction)
    return moment is not None and now >= moment
