"""The story: what killed runs left of making certificates goes once these are in the mirror."""

from contextlib import suppress

from certctl.errors import CertctlError
from certctl.ports.world import World


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
