"""Party 3 keeps its contract: on the fake, and by both engines with real Pebble."""

import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from certctl.ca.authority import Authority
from certctl.certificates import same_key
from certctl.domain import Domain
from certctl.errors import Refused, Unreachable
from certctl.ports.parties import CertificateAuthority
from certctl.txt_records import OrderOrigin
from certctl.values import Certificate, Issued
from tests.fakes.ca import FakeCa
from tests.fakes.ca_lab import CaLab, approval, ca_lab, patient

BLOCKED = "blocked.example.com"


class World(Protocol):
    """What the suite needs to see and to change of a CA."""

    def batch(self) -> CertificateAuthority: ...
    @property
    def orders(self) -> int: ...
    @property
    def root_pem(self) -> str: ...
    def set_outage(self, *, outage: bool) -> None: ...
    def set_lying(self, name: str, *, lying: bool) -> None: ...
    def is_revoked(self, certificate: Certificate) -> bool: ...


class FakeWorld:
    def __init__(self) -> None:
        self.ca = FakeCa(blocked={BLOCKED})

    def batch(self) -> CertificateAuthority:
        return self.ca

    @property
    def orders(self) -> int:
        return self.ca.orders

    @property
    def root_pem(self) -> str:
        return self.ca.root_pem

    def set_outage(self, *, outage: bool) -> None:
        self.ca.outage = outage

    def set_lying(self, name: str, *, lying: bool) -> None:
        if lying:
            self.ca.broken.add(name)
        else:
            self.ca.broken.discard(name)

    def is_revoked(self, certificate: Certificate) -> bool:
        return certificate.fingerprint in self.ca.revoked


@dataclass
class RealWorld:
    lab: CaLab
    engine: str

    def batch(self) -> CertificateAuthority:
        return Authority(self.lab.with_state(self.lab.root / self.engine), self.engine, operator=patient())

    @property
    def orders(self) -> int:
        return self.lab.orders

    @property
    def root_pem(self) -> str:
        return self.lab.pebble.issuer_root.read_text()

    def set_outage(self, *, outage: bool) -> None:
        if outage:
            self.lab.stop()
        else:
            self.lab.start()

    def set_lying(self, name: str, *, lying: bool) -> None:  # noqa: ARG002 - one liar at a time
        self.lab.tokens.lie = b"somebody else's answer" if lying else None

    def is_revoked(self, certificate: Certificate) -> bool:
        return self.lab.is_revoked(certificate.serial)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaLab]:
    with ca_lab(tmp_path_factory.mktemp("ca"), blocklist=(BLOCKED,)) as lab:
        yield lab


REAL = [pytest.param(engine, marks=pytest.mark.e2e) for engine in ("certbot", "acme")]


@pytest.fixture(params=["fake", *REAL])
def world(request: pytest.FixtureRequest) -> World:
    return FakeWorld() if request.param == "fake" else RealWorld(request.getfixturevalue("lab"), request.param)


def handshake(issued: Issued, name: str, root_pem: str, directory: Path) -> bytes:
    """Serve the certificate to a client that trusts only the root, and return the leaf it accepted."""
    chain, key = directory / "chain.pem", directory / "key.pem"
    chain.write_text(issued.pem.fullchain)
    key.write_text(issued.pem.private_key)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(chain, key)
    trusting = ssl.create_default_context(cadata=root_pem)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    client = trusting.wrap_bio(to_client, to_server, server_hostname=name)
    for side in (client, server, client):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return client.getpeercert(binary_form=True) or b""


def test_an_approved_name_gets_a_certificate_a_browser_trusts(world: World, tmp_path: Path) -> None:
    before = world.orders
    issued = world.batch().obtain(approval("happy.example.com"))
    assert world.orders == before + 1
    assert issued.certificate.names == ("happy.example.com",)
    seen = handshake(issued, "happy.example.com", world.root_pem, tmp_path)
    assert sha256(seen).hexdigest() == issued.certificate.fingerprint


def test_the_facts_of_a_certificate_are_those_of_its_leaf(world: World) -> None:
    issued = world.batch().obtain(approval("facts.example.com"))
    leaf = x509.load_pem_x509_certificate(issued.pem.fullchain.encode())
    facts = issued.certificate
    assert int(facts.serial, 16) == leaf.serial_number
    assert (facts.not_before, facts.not_after) == (leaf.not_valid_before_utc, leaf.not_valid_after_utc)
    assert facts.key_type.startswith("ecdsa-p256")
    assert facts.version == 0
    key = load_pem_private_key(issued.pem.private_key.encode(), None)
    assert same_key(key.public_key(), leaf.public_key())
    assert "PRIVATE" not in repr(issued)


def test_a_certificate_the_store_never_saw_is_handed_out_again_without_a_new_order(world: World) -> None:
    first = world.batch().obtain(approval("again.example.com"))
    before = world.orders
    assert world.batch().obtain(approval("again.example.com")).certificate == first.certificate
    assert world.orders == before


def test_after_the_store_has_it_the_next_one_is_a_new_one(world: World) -> None:
    batch = world.batch()
    first = batch.obtain(approval("renewed.example.com"))
    batch.acknowledge_stored(first.certificate)
    batch.acknowledge_stored(first.certificate)
    before = world.orders
    second = batch.obtain(approval("renewed.example.com"))
    assert second.certificate.fingerprint != first.certificate.fingerprint
    assert second.pem.private_key != first.pem.private_key
    assert world.orders == before + 1


def test_settling_an_older_certificate_keeps_the_unsettled_one(world: World) -> None:
    batch = world.batch()
    old = batch.obtain(approval("older.example.com"))
    batch.acknowledge_stored(old.certificate)
    new = batch.obtain(approval("older.example.com"))
    batch.acknowledge_stored(old.certificate)
    assert batch.obtain(approval("older.example.com")).certificate == new.certificate


def test_what_is_left_of_making_one_is_known_until_it_is_settled_or_the_domain_leaves(
    world: World,
) -> None:
    batch = world.batch()
    kept = batch.obtain(approval("kept.example.com"))
    batch.obtain(approval("leaving.example.com"))
    assert {"kept.example.com", "leaving.example.com"} <= set(batch.unacknowledged())
    batch.abandon(Domain("leaving.example.com"))
    batch.abandon(Domain("leaving.example.com"))
    batch.acknowledge_stored(kept.certificate)
    assert not {"kept.example.com", "leaving.example.com"} & set(batch.unacknowledged())
    before = world.orders
    batch.obtain(approval("leaving.example.com"))
    assert world.orders == before + 1


def test_a_wildcard_is_begun_once_and_shown_again(world: World) -> None:
    before = world.orders
    first, again = (world.batch().begin(approval("*.begun.example.com")) for _ in range(2))
    assert (first.opened, again.opened) == (OrderOrigin.NEW, OrderOrigin.SAME)
    assert (again.values, again.until) == (first.values, first.until)
    assert len(set(first.values)) == 2
    assert first.sight.asked == "_acme-challenge.begun.example.com"
    assert world.orders == before + 1


def test_a_name_the_ca_does_not_sign_is_refused_before_anything_is_spent(world: World) -> None:
    before = world.orders
    with pytest.raises(Refused) as caught:
        world.batch().obtain(approval(BLOCKED))
    assert caught.value.slug == "ca-rejected-identifier"
    assert not caught.value.quota_used
    assert world.orders == before


def test_a_wrong_answer_to_the_challenge_is_refused_and_costs_and_can_be_tried_again(world: World) -> None:
    world.set_lying("liar.example.com", lying=True)
    with pytest.raises(Refused) as caught:
        world.batch().obtain(approval("liar.example.com"))
    world.set_lying("liar.example.com", lying=False)
    assert caught.value.slug == "ca-unauthorized"
    assert caught.value.quota_used
    assert world.batch().obtain(approval("liar.example.com")).certificate.names == ("liar.example.com",)


def test_a_ca_that_is_away_is_unreachable_and_no_refusal(world: World) -> None:
    world.set_outage(outage=True)
    try:
        with pytest.raises(Unreachable) as caught:
            world.batch().obtain(approval("later.example.com"))
    finally:
        world.set_outage(outage=False)
    assert caught.value.slug == "ca-unreachable"
    assert not caught.value.quota_used
    assert world.batch().obtain(approval("later.example.com")).certificate.version == 0


def test_a_revoked_certificate_is_revoked_at_the_ca_and_twice_is_fine(world: World) -> None:
    batch = world.batch()
    issued = batch.obtain(approval("revoked.example.com"))
    assert not world.is_revoked(issued.certificate)
    batch.revoke(issued.certificate, issued.pem)
    batch.revoke(issued.certificate, issued.pem)
    assert world.is_revoked(issued.certificate)
