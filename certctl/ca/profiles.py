"""Which of the CA's profiles gives a person enough time."""

from collections.abc import Mapping

from acme.client import ClientV2

from certctl.ca.network import Network, in_time
from certctl.ca.settings import CaSettings

_PATIENT = "classic"  # Let's Encrypt: its pending authorizations live 7 days, those of its other profiles 1 hour
_SECONDS = 10


def patient_profile(settings: CaSettings) -> str:
    """Return the profile whose pending authorizations live for days, empty when the CA offers none by that name.

    A CA that cannot be asked now will be asked again in a moment by certbot, which says what is wrong.
    """
    net = Network(settings, _SECONDS)
    try:
        offered = in_time(_SECONDS, lambda: ClientV2.get_directory(settings.directory, net).meta.profiles)
    except Exception:  # noqa: BLE001 - what a CA answers is its own affair; certbot reads the same directory next
        return ""
    return _PATIENT if isinstance(offered, Mapping) and _PATIENT in offered else ""
