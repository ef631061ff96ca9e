"""The story: what has had its time goes.

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
    """Delete what is old and counts no more, in small transactions; a run leaves the rest of many to the next.

    Returns how many rows went: none while the CA does not say that this host's clock is right, as by one that is a
    year ahead everything is old.
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


def let_copies_go(world: World) -> None:
    """Remove the working directory of each certificate that is in the mirror, the second copy of its key in it.

    What could not be removed is left to the next run; what nginx has no files of yet is not touched.
    """
    stems = set[str]()
    with suppress(CertctlError):
        stems.update(world.ca.unsettled())
    for row in world.store.domains() if stems else ():
        certificate = row.certificate
        if not certificate or row.domain.stem not in stems:
            continue
        with suppress(CertctlError):
            if world.web.leaf(row.domain) == certificate.fingerprint:
                world.ca.acknowledge_stored(certificate)
