"""Pure: when is a certificate due for renewal?

Nothing here knows 30 or 90 days: lifetimes fall to 64 days in 2027, to 45 in 2028, and 160-hour certificates
exist (Let's Encrypt, "From 90 days to 45"). The shares are those of its integration guide.
"""

from datetime import datetime, timedelta

from certctl.values import Certificate, DomainRow

_SHORT = timedelta(days=10)
_SHORT_FRACTION = 0.5


def due_at(certificate: Certificate, fallback_fraction: float, suggested: datetime | None = None) -> datetime:
    """Return the moment from which the certificate should be renewed.

    Args:
        certificate: Any lifetime.
        fallback_fraction: Share of the lifetime that is left at that moment; half for lives under 10 days.
        suggested: A moment in the CA's ARI window (RFC 9773), which goes before the share. A CA that suggests
            too late, or nonsense, does not let a certificate lapse: half the share is the last call.
    """
    lifetime = certificate.lifetime
    fraction = max(_SHORT_FRACTION, fallback_fraction) if lifetime < _SHORT else fallback_fraction
    if suggested is not None:
        return min(suggested, certificate.not_after - lifetime * fraction / 2)
    return certificate.not_after - lifetime * fraction


def is_late(certificate: Certificate, now: datetime, fallback_fraction: float) -> bool:
    """Tell whether renewal has been due for so long that somebody should be woken: half the share is gone."""
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
