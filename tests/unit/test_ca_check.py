"""Whatever a CA hands over is looked at before anyone stores it."""

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec

from certctl.ca.certificate import check_issued, describe
from certctl.ca.keys import key_pem, new_key
from certctl.ca.settings import OrderRequest
from certctl.certificates import MAX_CHAIN, type_of
from certctl.domain import Domain
from certctl.errors import Refused
from certctl.formats import KeyType
from certctl.values import Issued
from tests.faults.fake_acme import Signer, pem

DOMAIN = Domain("status.example.com")
ORDER = OrderRequest("https://ca.example.org/dir", "", "ecdsa-p256", (DOMAIN.name,))
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def ca() -> Signer:
    return Signer()


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def check(
    chain: bytes, key: ec.EllipticCurvePrivateKey, now: datetime = NOW, order: OrderRequest = ORDER
) -> Issued:
    return check_issued(DOMAIN, order, chain, key_pem(key), now)


def good(ca: Signer, key: ec.EllipticCurvePrivateKey) -> bytes:
    return ca.leaf([DOMAIN.name], key.public_key()) + pem(ca.intermediate)


def test_what_we_asked_for_is_accepted(ca: Signer, key: ec.EllipticCurvePrivateKey) -> None:
    issued = check(good(ca, key), key)
    assert issued.pem.fullchain.count("BEGIN CERTIFICATE") == 2
    assert issued.certificate.issuer == "fake intermediate"
    assert issued.certificate.key_type == "ecdsa-p256"
    assert len(issued.certificate.fingerprint) == 64
    assert len(issued.certificate.serial) % 2 == 0
    assert "PRIVATE" not in repr(issued)


def test_junk_around_the_certificates_is_dropped(ca: Signer, key: ec.EllipticCurvePrivateKey) -> None:
    leaf, intermediate = ca.leaf([DOMAIN.name], key.public_key()), pem(ca.intermediate)
    noisy = b"subject=evil\r\n" + leaf.replace(b"\n", b"\r\n") + b"\x1b[2J\x00junk\n" + intermediate + b"tail"
    assert check(noisy, key).pem.fullchain.encode() == leaf + intermediate


def test_a_root_at_the_end_of_the_chain_does_no_harm(ca: Signer, key: ec.EllipticCurvePrivateKey) -> None:
    assert check(good(ca, key) + pem(ca.root), key).certificate.names == (DOMAIN.name,)


def test_everything_else_is_refused(ca: Signer, key: ec.EllipticCurvePrivateKey) -> None:
    name, public, other = [DOMAIN.name], key.public_key(), ca.key.public_key()
    middle = pem(ca.intermediate)
    wrong = {
        "empty": b"",
        "no certificate": b"<html>Welcome</html>",
        "broken": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "too large": good(ca, key) + b"x" * MAX_CHAIN,
        "too many": good(ca, key) + middle * 10,
        "another name": ca.leaf(["evil.example.com"], public) + middle,
        "one name more": ca.leaf([DOMAIN.name, "evil.example.com"], public) + middle,
        "the same name as a wildcard": ca.leaf(["*.example.com"], public) + middle,
        "another key": ca.leaf(name, other) + middle,
        "expired": ca.leaf(name, public, days=-1) + middle,
        "not yet valid": ca.leaf(name, public, since=1) + middle,
        "no chain": ca.leaf(name, public),
        "chain in the wrong order": middle + ca.leaf(name, public),
        "an issuer of somebody else": ca.leaf(name, public) + pem(ca.root),
        "an impostor with the issuer's name": ca.leaf(name, public) + pem(Signer().intermediate),
        "expired intermediate": ca.leaf(name, public) + pem(ca.expired),
    }
    for what, chain in wrong.items():
        with pytest.raises(Refused) as caught:
            check(chain, key)
        assert caught.value.slug == "ca-bad-certificate", what
        assert caught.value.quota_used, what


def test_another_type_of_key_than_asked_for_is_refused(ca: Signer, key: ec.EllipticCurvePrivateKey) -> None:
    with pytest.raises(Refused):
        check(good(ca, key), key, order=OrderRequest(ORDER.directory, "", "rsa-2048", ORDER.names))


def test_a_clock_that_is_a_little_slow_is_forgiven(ca: Signer, key: ec.EllipticCurvePrivateKey) -> None:
    chain = ca.leaf([DOMAIN.name], key.public_key(), since=0) + pem(ca.intermediate)
    since = describe(chain.decode(), DOMAIN).not_before
    assert check(chain, key, now=since - timedelta(minutes=5)).certificate.not_before == since
    with pytest.raises(Refused):
        check(chain, key, now=since - timedelta(minutes=5, seconds=1))


def test_a_certificate_is_good_until_the_second_it_ends(ca: Signer, key: ec.EllipticCurvePrivateKey) -> None:
    chain = good(ca, key)
    until = describe(chain.decode(), DOMAIN).not_after
    assert check(chain, key, now=until - timedelta(seconds=1)).certificate.not_after == until
    with pytest.raises(Refused):
        check(chain, key, now=until)


def test_a_name_in_capitals_is_the_same_name(ca: Signer, key: ec.EllipticCurvePrivateKey) -> None:
    chain = ca.leaf([DOMAIN.name.upper()], key.public_key()) + pem(ca.intermediate)
    assert check(chain, key).certificate.names == (DOMAIN.name.upper(),)


@pytest.mark.parametrize(("serial", "shown"), [(0x123, "0123"), (0xAB12, "ab12")])
def test_a_serial_is_shown_in_whole_bytes(
    ca: Signer, key: ec.EllipticCurvePrivateKey, serial: int, shown: str
) -> None:
    assert describe(ca.leaf([DOMAIN.name], key.public_key(), serial=serial).decode(), DOMAIN).serial == shown


def test_the_order_of_the_names_does_not_matter(ca: Signer, key: ec.EllipticCurvePrivateKey) -> None:
    both = OrderRequest(ORDER.directory, "", "ecdsa-p256", ("*.example.com", "example.com"))
    chain = ca.leaf(["example.com", "*.example.com"], key.public_key()) + pem(ca.intermediate)
    assert check(chain, key, order=both).certificate.names == ("example.com", "*.example.com")


def test_a_certificate_from_elsewhere_is_described_without_its_chain() -> None:
    leaf = trustme.CA(organization_name="Elsewhere").issue_cert(DOMAIN.name)
    facts = describe(leaf.cert_chain_pems[0].bytes().decode(), DOMAIN)
    assert (facts.names, facts.issuer, facts.version) == ((DOMAIN.name,), "Elsewhere", 0)
    with pytest.raises(Refused):
        describe("nothing", DOMAIN)


@pytest.mark.parametrize("key_type", get_args(KeyType))
def test_each_type_of_key_is_what_it_says(key_type: KeyType) -> None:
    assert type_of(new_key(key_type).public_key()) == key_type
