"""Check the certificate the CA issued before it is stored."""

from datetime import datetime

from certctl.ca.settings import OrderRequest
from certctl.certificates import NotUsable, checked, facts
from certctl.domain import Domain
from certctl.errors import Refused
from certctl.slugs import Slug
from certctl.values import Certificate, Issued


def check_issued(domain: Domain, order: OrderRequest, chain: bytes, key: bytes, now: datetime) -> Issued:
    """Return the CA's chain and our key as canonical PEM when ``certificates.checked`` accepts them.

    Raises:
        Refused: ``ca-bad-certificate``; also for another type of key than we asked for.
    """
    try:
        issued = checked(domain, order.names, chain, key, now)
    except NotUsable as fault:
        raise _bad(fault) from fault
    if issued.certificate.key_type != order.key_type:
        raise _bad(NotUsable("it is for another type of key", [issued.certificate.key_type], [order.key_type]))
    return issued


def describe(fullchain: str, domain: Domain) -> Certificate:
    """Return the facts of a certificate that was not issued here, as an import finds it.

    Raises:
        Refused: ``ca-bad-certificate``, the text is not a certificate.
    """
    try:
        return facts(fullchain.encode("utf-8", "replace"), domain)
    except NotUsable as fault:
        raise _bad(fault) from fault


def _bad(fault: NotUsable) -> Refused:
    return Refused(
        Slug.CA_BAD_CERTIFICATE,
        f"the certificate is not usable: {fault.why}",
        seen=fault.seen,
        expected=fault.expected,
        quota_used=True,
    )
