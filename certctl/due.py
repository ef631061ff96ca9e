"""Pure: when is a certificate due for renewal?

Nothing here knows 30 or 90 days: lifetimes fall to 64 days in 2027, to 45 in 2028, and 160-hour certificates
exist (Let's Encrypt, "From 90 days to 45"). The shares are those of its integration guide.
"""

from datetime import datetime, timedelta

from certctl.values import Certificate

_SHORT = timedelta(days=10)
_SHORT_FRACTION = 0.5


def due_at(certificate: Certificate, fallback_fraction: float) -> datetime:
    """Return the moment from which the certificate should be renewed.

    Args:
        certificate: Any lifetime.
        fallback_fraction: Share of the lifetime that is left at that moment; half for lives under 10 days.
    """
    lifetime = certificate.lifetime
    fraction = max(_SHORT_FRACTION, fallback_fraction) if lifetime < _SHORT else fallback_fraction
    return certificate.not_after - lifetime * fraction


def is_due(certificate: Certificate, now: datetime, fallback_fraction: float) -> bool:
    """Tell whether the certificate should be renewed now."""
    return now >= due_at(certificate, fallback_fraction)
