"""Private keys and signing requests (PKCS #10, RFC 2986), which certctl makes itself: no engine needs the key."""

from collections.abc import Callable, Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from certctl.formats import KeyType

_MAKERS: dict[KeyType, Callable[[], ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey]] = {
    "ecdsa-p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ecdsa-p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "rsa-2048": lambda: rsa.generate_private_key(65537, 2048),
    "rsa-4096": lambda: rsa.generate_private_key(65537, 4096),
}


def new_key(key_type: KeyType) -> CertificateIssuerPrivateKeyTypes:
    """Return a new private key of one of the configured types."""
    return _MAKERS[key_type]()


def key_pem(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    """Return a private key as unencrypted PKCS #8, the form nginx reads."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def signing_request(key: CertificateIssuerPrivateKeyTypes, names: Sequence[str]) -> bytes:
    """Return a signing request (PKCS #10) in PEM for exactly ``names``.

    Only subjectAltName carries names: a common name holds 64 characters at most and CAs ignore it (CA/B Forum
    Baseline Requirements §7.1.4.3).
    """
    san = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(san, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
