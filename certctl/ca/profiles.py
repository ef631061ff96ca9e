"""Which of the CA's profiles gives a person enough time."""

import requests
from acme import client, errors

from certctl.ca.settings import CaSettings

_PATIENT = (
    "classic"  # Let's Encrypt: its pending authorizations live seven days, those of its other profiles one hour
)
_TIMEOUT_SECONDS = 10


def patient_profile(settings: CaSettings) -> str:
    """Return the profile whose pending authorizations live for days, empty when the CA offers none by that name.

    A CA that cannot be asked now will be asked again in a moment by certbot, which says what is wrong.
    """
    net = client.ClientNetwork(timeout=_TIMEOUT_SECONDS, user_agent="certctl")
    net.session.trust_env = False
    net.verify_ssl = str(settings.ca_file) if settings.ca_file else True  # type: ignore[assignment]
    try:
        offered = client.ClientV2.get_directory(settings.directory, net).meta.profiles
    except (errors.Error, requests.RequestException, ValueError, TypeError, AttributeError, KeyError):
        return ""
    return _PATIENT if _PATIENT in (offered or {}) else ""
