"""The story: delete what is no longer needed.

The history and the ledger are kept for 400 days, and as long as they count; what killed runs left of making
certificates goes once these are in the mirror.
"""

from contextlib import suppress
from datetime import timedelta
from itertools import islice

from certctl.budget import LETS_ENCRYPT
from certctl.errors import CertctlError
from certctl.io.interrupt import stopping
from certctl.ports.world import World

KEPT = timedelta(days=400)
_MOST = 200


def prune(world: World) -> int:
    """Delete old rows in small transactions, a bounded number of them in a run; return how many rows were deleted.

    Nothing is deleted until the CA has confirmed this host's clock: by one that is a year ahead every row is old.
    """
    now = world.clock.now()
    if not world.store.reaches_back(now - KEPT):
        return 0
    try:
        world.ca.require_ready()
    except CertctlError:
        return 0
    gone = 0
    for taken in islice(world.store.prune(now - KEPT, {**LETS_ENCRYPT, **world.limits}, now), _MOST):
        gone += taken
        if stopping.is_set():
            break
    return gone


def remove_working_directories(world: World) -> None:
    """Remove the working directory of each certificate that nginx has, and with it the second copy of its key.

    A failure is left to the next run; the directory of a certificate that is not in the mirror yet stays.
    """
    stems = set[str]()
    with suppress(CertctlError):
        stems.update(world.ca.unacknowledged())
    for row in world.store.domains() if stems else ():
        certificate = row.certificate
        if not certificate or row.domain.stem not in stems:
            continue
        with suppress(CertctlError):
            if world.web.leaf(row.domain) == certificate.fingerprint:
                world.ca.acknowledge_stored(certificate)
