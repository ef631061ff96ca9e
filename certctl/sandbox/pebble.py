"""Pebble, the CA of the sandbox: its files, its command line, and when it is ready. The caller starts it.

One configuration serves Pebble 2.4.0 (Debian 12) and 2.10: what the older does not know it ignores, so both
``profiles`` and the older ``certificateValidityPeriod`` are written.
"""

import json
import shutil
import ssl
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.client import HTTPException, HTTPSConnection
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certctl.errors import ConfigInvalid
from certctl.io import process
from certctl.io.clock import SystemClock
from certctl.io.files import PRIVATE, PUBLIC, make_directory, write_atomic, writing
from certctl.slugs import Slug

HOST = "127.0.0.1"
DEFAULT_PROFILE = "default"
SHORT_PROFILE = "shortlived"
NINETY_DAYS = timedelta(days=90)
_SHORT = timedelta(hours=160)
_VALID = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Pebble:
    """One Pebble: where its files are and where it listens.

    Attributes:
        root: The directory of its files.
        acme_port: Where it speaks ACME.
        management_port: Where it serves its roots, and tests control it.
        http_port: Where it looks for HTTP-01 challenges: the port of the sandbox's nginx.
        tls_port: Where it would look for TLS-ALPN-01 challenges.
        dns: ``ip:port`` of the DNS server it asks.
        nonce_reject: Percentage of good nonces it refuses, to exercise clients.
        blocklist: Names it refuses to sign.
        lifetime: How long its certificates live.
    """

    root: Path
    acme_port: int
    management_port: int
    http_port: int
    tls_port: int
    dns: str
    nonce_reject: int = 0
    blocklist: tuple[str, ...] = ()
    lifetime: timedelta = NINETY_DAYS

    @property
    def directory_url(self) -> str:
        """Return the URL of its ACME directory."""
        return f"https://{HOST}:{self.acme_port}/dir"

    @property
    def management_url(self) -> str:
        """Return the base URL of its management interface."""
        return f"https://{HOST}:{self.management_port}"

    @property
    def ca_file(self) -> Path:
        """Return the CA file to trust for Pebble's own HTTPS."""
        return self.root / "https-ca.pem"

    @property
    def key(self) -> Path:
        """Return the private key of its own HTTPS, which only Pebble's user may read."""
        return self.root / "https.key"

    @property
    def issuer_root(self) -> Path:
        """Return the root to trust for the certificates it signs; new at every start, see ``wait_ready``."""
        return self.root / "issuer-root.pem"

    @property
    def issuer_intermediate(self) -> Path:
        """Return the intermediate it signs with, kept apart: a server must send it itself."""
        return self.root / "issuer-intermediate.pem"

    @property
    def config(self) -> Path:
        """Return its configuration file."""
        return self.root / "pebble.json"


def find_pebble() -> Path:
    """Return the newest Pebble at hand: beside our interpreter first, then the system's.

    Raises:
        ConfigInvalid: ``missing-program``.
    """
    beside = process.beside_python("pebble")
    found = shutil.which(beside)
    try:
        return Path(found or process.find("pebble"))
    except process.Missing as error:
        raise ConfigInvalid(Slug.MISSING_PROGRAM, "pebble is not installed", next=["apt install pebble"]) from error


def argv(pebble: Pebble, program: Path) -> list[str]:
    """Return the argv that runs it in the foreground."""
    return [str(program), "-config", str(pebble.config), "-dnsserver", pebble.dns]


def environment(pebble: Pebble) -> dict[str, str]:
    """Return its environment: no random sleeps, and every order is validated anew (Pebble README)."""
    return {
        "PEBBLE_VA_NOSLEEP": "1",
        "PEBBLE_AUTHZREUSE": "0",
        "PEBBLE_WFE_NONCEREJECT": str(pebble.nonce_reject),
    }


def configuration(pebble: Pebble) -> dict[str, object]:
    """Return its configuration as a JSON object."""
    return {
        "pebble": {
            "listenAddress": f"{HOST}:{pebble.acme_port}",
            "managementListenAddress": f"{HOST}:{pebble.management_port}",
            "certificate": str(pebble.root / "https.pem"),
            "privateKey": str(pebble.key),
            "httpPort": pebble.http_port,
            "tlsPort": pebble.tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
            "domainBlocklist": list(pebble.blocklist),
            "retryAfter": {"authz": 1, "order": 1},
            "keyAlgorithm": "ecdsa",
            "certificateValidityPeriod": int(pebble.lifetime.total_seconds()),
            "profiles": {
                DEFAULT_PROFILE: _profile(f"{pebble.lifetime}", pebble.lifetime),
                SHORT_PROFILE: _profile("160 hours, as Let's Encrypt's shortlived", _SHORT),
            },
        }
    }


def write_files(pebble: Pebble) -> None:
    """Write its configuration and, unless they are there, the certificates of its own HTTPS.

    Raises:
        ConfigInvalid: ``state-unwritable``.
    """
    with writing(pebble.root):
        make_directory(pebble.root, 0o755)
        write_atomic(pebble.config, json.dumps(configuration(pebble), indent=2), PUBLIC)
        if not pebble.ca_file.exists():
            ca, leaf, key = _https_certificates(SystemClock().now())
            write_atomic(pebble.key, key, PRIVATE)
            write_atomic(pebble.root / "https.pem", leaf, PUBLIC)
            write_atomic(pebble.ca_file, ca, PUBLIC)


def wait_ready(pebble: Pebble, deadline: timedelta = timedelta(seconds=20)) -> None:
    """Wait until it answers, then write its root and intermediate to files: they are new at every start.

    Raises:
        ConfigInvalid: ``sandbox-failed``: it does not answer.
    """
    give_up = time.monotonic() + deadline.total_seconds()
    while (failure := _not_ready(pebble)) is not None:
        if time.monotonic() >= give_up:
            seen = [pebble.directory_url, str(failure)]
            raise ConfigInvalid(Slug.SANDBOX_FAILED, "Pebble does not answer", seen=seen) from failure
        time.sleep(0.05)
    with writing(pebble.root):
        write_atomic(pebble.issuer_root, fetch(pebble, pebble.management_port, "/roots/0"), PUBLIC)
        intermediate = fetch(pebble, pebble.management_port, "/intermediates/0")
        write_atomic(pebble.issuer_intermediate, intermediate, PUBLIC)


def _not_ready(pebble: Pebble) -> Exception | None:
    try:
        fetch(pebble, pebble.acme_port, "/dir")
        fetch(pebble, pebble.management_port, "/roots/0")
    except (OSError, HTTPException) as error:
        return error
    return None


def fetch(pebble: Pebble, port: int, path: str) -> bytes:
    """Return the body of one of Pebble's URLs.

    Raises:
        OSError, HTTPException: no answer, or not 200.
    """
    return _request(pebble, port, "GET", path)


def set_renewal_info(pebble: Pebble, certificate: str, answer: str) -> None:
    """Set Pebble's answer about a certificate's renewal (ARI, RFC 9773), JSON or not; 2.10 only.

    Raises:
        OSError, HTTPException: it refused, or did not answer.
    """
    body = json.dumps({"Certificate": certificate, "ARIResponse": answer})
    _request(pebble, pebble.management_port, "POST", "/set-renewal-info/", body)


def _request(pebble: Pebble, port: int, method: str, path: str, body: str | None = None) -> bytes:
    trust = ssl.create_default_context(cafile=pebble.ca_file)
    connection = HTTPSConnection(HOST, port, timeout=5, context=trust)
    try:
        connection.request(method, path, body, {"User-Agent": "certctl-sandbox"})  # RFC 8555 §6.1: a must
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    if response.status != 200:  # noqa: PLR2004 - HTTP OK
        raise HTTPException(f"{path}: HTTP {response.status}")
    return content


def _profile(description: str, validity: timedelta) -> dict[str, object]:
    return {"description": description, "validityPeriod": int(validity.total_seconds())}


def _https_certificates(now: datetime) -> tuple[bytes, bytes, bytes]:
    """Return a new CA, a certificate for this host and its key, all PEM; the CA's key is not kept."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "certctl sandbox HTTPS")])
    ca = (
        _builder(ca_name, ca_key.public_key(), ca_key.public_key(), now)
        .subject_name(ca_name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    here = [x509.DNSName("localhost"), x509.IPAddress(ip_address(HOST)), x509.IPAddress(ip_address("::1"))]
    leaf = (
        _builder(ca_name, key.public_key(), ca_key.public_key(), now)
        .subject_name(x509.Name([]))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(here), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return ca.public_bytes(Encoding.PEM), leaf.public_bytes(Encoding.PEM), pem


def _builder(
    issuer: x509.Name, key: ec.EllipticCurvePublicKey, issuer_key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    """Return a builder with the extensions that RFC 5280 and OpenSSL's strict mode (Python 3.13) require."""
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
