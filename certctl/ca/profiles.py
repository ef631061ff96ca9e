"""Which of the CA's profiles gives a person enough time."""

from collections.abc import Mapping

from acme.client import ClientV2

from certctl.ca.http import Network, in_time
from certctl.ca.settings import CaSettings
from certctl.errors import CertctlError, Unreachable
from certctl.slugs import Slug

_PATIENT = "classic"  # Let's Encrypt: its pending authorizations live 7 days, those of its other profiles 1 hour
_SECONDS = 10


def patient_profile(settings: CaSettings) -> str:
    """Return the profile whose pending authorizations live for days, empty when the CA offers none by that name.

    A guess would not do: an order that waits for a person was made by this profile, and by another it would not be
    known again.

    Raises:
        Unreachable: the CA could not be asked; nothing could be ordered either.
    """
    net = Network(settings, _SECONDS)
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
