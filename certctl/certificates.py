"""Check a certificate chain and key from outside: pure, and strict.

certbot and CAs have both been seen to deliver less than they said: after a full disk a 0-byte chain with exit code
0. What nginx serves is checked the same way before the store adopts it.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from certctl.domain import Domain
from certctl.values import Certificate, Issued, Pem

MAX_CHAIN = 64 * 1024
_MAX_CERTIFICATES = 10
_CLOCK_SKEW = timedelta(minutes=5)
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")


class NotUsable(Exception):
    """A chain and a key are no pair for these names.

    Attributes:
        why: What is wrong with them, as the end of a sentence about the certificate.
        seen: What was found instead of what was expected.
        expected: What it should have been.
    """

    def __init__(self, why: str, seen: Sequence[str] = (), expected: Sequence[str] = ()) -> None:
        super().__init__(why)
        self.why = why
        self.seen = seen
        self.expected = expected


def checked(domain: Domain, names: Sequence[str], chain: bytes, key: bytes, now: datetime) -> Issued:
    """Return a chain and its key as canonical PEM; text around the PEM blocks is dropped.

    Checked: size, the key, exactly these names, dates against ``now``, and that each certificate is signed by the
    next.

    Raises:
        NotUsable: with the first thing that is wrong.
    """
    leaf, *intermediates = _parse(chain)
    _check_key(leaf, key)
    _check_names(leaf, names)
    _check_dates(leaf, intermediates, now)
    _check_chain(leaf, intermediates)
    fullchain = "".join(_pem(certificate) for certificate in (leaf, *intermediates))
    return Issued(_facts(leaf, domain), Pem(fullchain, key.decode("ascii")))


def facts(chain: bytes, domain: Domain) -> Certificate:
    """Return the facts of a certificate, without a check.

    Raises:
        NotUsable: it is not a certificate at all.
    """
    return _facts(_parse(chain)[0], domain)


def _parse(chain: bytes) -> list[x509.Certificate]:
    if len(chain) > MAX_CHAIN:
        raise NotUsable(f"it is larger than {MAX_CHAIN} bytes")
    blocks = _BLOCK.findall(chain)
    if not 1 <= len(blocks) <= _MAX_CERTIFICATES:
        raise NotUsable(f"it holds {len(blocks)} certificates")
    try:
        return [x509.load_pem_x509_certificate(block) for block in blocks]
    except ValueError as error:
        raise NotUsable("it cannot be parsed", [str(error)]) from error


def _check_key(leaf: x509.Certificate, key: bytes) -> None:
    try:
        ours = load_pem_private_key(key.decode("ascii").encode(), None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise NotUsable("our own key cannot be read") from error
    if not same_key(leaf.public_key(), ours):
        raise NotUsable("it is for another key")


def _check_names(leaf: x509.Certificate, names: Sequence[str]) -> None:
    found = _san(leaf)
    if sorted(name.lower() for name in found) != sorted(names):
        raise NotUsable("it is for other names", [", ".join(found) or "no name at all"], [", ".join(names)])


def _check_dates(leaf: x509.Certificate, intermediates: Sequence[x509.Certificate], now: datetime) -> None:
    for certificate in (leaf, *intermediates):
        since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if now >= until or since > now + _CLOCK_SKEW:
            what = "it" if certificate is leaf else "an intermediate"
            raise NotUsable(
                f"{what} is not valid now",
                [f"valid from {since.isoformat()} to {until.isoformat()}", f"our clock: {now.isoformat()}"],
            )


def _check_chain(leaf: x509.Certificate, intermediates: Sequence[x509.Certificate]) -> None:
    """Check the order a TLS server must send (RFC 8446 §4.4.2): each certificate is signed by the next."""
    if not intermediates:
        raise NotUsable("its chain is empty, so browsers could not verify it")
    for certificate, issuer in zip((leaf, *intermediates), intermediates, strict=False):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature) as error:
            seen, expected = [_name(issuer.subject)], [_name(certificate.issuer)]
            raise NotUsable("its chain is not in order", seen, expected) from error


def _facts(leaf: x509.Certificate, domain: Domain) -> Certificate:
    serial = f"{leaf.serial_number:x}"
    return Certificate(
        domain=domain,
        names=_san(leaf),
        serial=serial.zfill(len(serial) + len(serial) % 2),
        issuer=_name(leaf.issuer),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        key_type=type_of(leaf.public_key()),
        fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
    )


def type_of(key: PublicKeyTypes) -> str:
    """Return the type of a public key, by certctl's name for it if there is one."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        curves = {"secp256r1": "ecdsa-p256", "secp384r1": "ecdsa-p384"}
        return curves.get(key.curve.name, f"ecdsa-{key.curve.name}")
    if isinstance(key, rsa.RSAPublicKey):
        return f"rsa-{key.key_size}"
    return type(key).__name__.removesuffix("PublicKey").lower()


def same_key(one: PublicKeyTypes, other: PublicKeyTypes) -> bool:
    """Tell whether two public keys are the same, by their SubjectPublicKeyInfo."""
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    return one.public_bytes(*form) == other.public_bytes(*form)


def _san(leaf: x509.Certificate) -> tuple[str, ...]:
    """Return every subject alternative name; one that is not a DNS name is shown with its kind."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(n.value if isinstance(n, x509.DNSName) else f"{type(n).__name__}:{n.value}" for n in names)


def _name(name: x509.Name) -> str:
    """Return the name of an issuer for people: its common name, else its organization."""
    for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        if found := name.get_attributes_for_oid(oid):
            return str(found[0].value)
    return name.rfc4514_string() or "unnamed"


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode("ascii")
