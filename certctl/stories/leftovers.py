"""The story: what killed runs left of making certificates goes once nginx serves these."""

from contextlib import suppress

from certctl.errors import CertctlError
from certctl.world import World


def let_copies_go(world: World) -> None:
    """Remove the working directory of each certificate that was seen on the wire, the second copy of its key in it.

    What could not be removed is left to the next run; what was not served yet is not touched.
    """
    stems = set[str]()
    with suppress(CertctlError):
        stems.update(world.ca.unsettled())
    for row in world.store.domains() if stems else ():
        certificate = row.certificate
        if certificate and row.domain.stem in stems and row.served == certificate.version:
            with suppress(CertctlError):
                world.ca.settled(certificate)
