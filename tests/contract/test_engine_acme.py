"""What only the engine ``acme`` does: polling of its own, nonces, profiles, ``replaces``, kept connections."""

import gc
import itertools
import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from certctl.ca.ari import identifier
from certctl.ca.authority import Authority
from certctl.ca.engines.acme.engine import Acme
from certctl.ca.settings import CaSettings
from certctl.ca.solvers.base import Challenge, HttpTokens
from certctl.ca.solvers.rfc2136 import TxtAutomation
from certctl.ca.workdir import WorkingDirectory
from certctl.errors import CertctlError, ConfigInvalid, Refused, Unreachable
from certctl.io.clock import SystemClock
from certctl.io.files import make_directory
from certctl.txt_records import OrderOrigin
from certctl.values import DnsSolver, Issued
from tests.fakes.ca import FakeCa
from tests.fakes.ca_lab import CaLab, Dark, approval, ca_lab, patient
from tests.faults.fake_acme import (
    Answer,
    FakeAcme,
    Faults,
    Signer,
    key_of,
    names_of,
    page,
    pem,
    problem,
)

pytestmark = pytest.mark.e2e

NAME = "status.example.com"
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaLab]:
    with ca_lab(tmp_path_factory.mktemp("ca")) as lab:
        yield lab


def test_both_engines_use_one_account(lab: CaLab, tmp_path: Path) -> None:
    accounts, settings = lab.accounts, lab.with_state(tmp_path)
    for engine in ("certbot", "acme", "certbot"):
        party = Authority(settings, engine)
        party.acknowledge_stored(party.obtain(approval(f"{engine}.example.com")).certificate)
    assert lab.accounts == accounts + 1


def test_a_ca_that_refuses_every_third_nonce_is_no_obstacle(tmp_path: Path) -> None:
    with ca_lab(tmp_path, nonce_reject=30) as lab, ThreadPoolExecutor(4) as pool:
        party = Authority(lab.settings, "acme")
        names = [f"nonce{number}.example.com" for number in range(12)]
        issued = list(pool.map(lambda name: party.obtain(approval(name)), names))
        assert [one.certificate.names[0] for one in issued] == names
        assert lab.orders == len(names)


def test_a_profile_the_ca_does_not_offer_is_refused_before_anything_is_spent(lab: CaLab) -> None:
    before = lab.orders
    with pytest.raises(Refused) as caught:
        Authority(replace(lab.settings, profile="nonsuch"), "acme").obtain(approval(NAME))
    assert (caught.value.slug, caught.value.quota_used) == ("ca-refused", False)
    assert "default" in caught.value.expected[0]
    assert lab.orders == before


def test_a_profile_the_ca_offers_is_what_it_signs_by(lab: CaLab) -> None:
    issued = Authority(replace(lab.settings, profile="shortlived"), "acme").obtain(approval("short.example.com"))
    assert issued.certificate.lifetime < timedelta(days=10)


def test_pebble_is_told_what_a_renewal_replaces(lab: CaLab, tmp_path: Path) -> None:
    party = Authority(lab.with_state(tmp_path), "acme")
    first = party.obtain(approval("renewed.example.com"))
    party.acknowledge_stored(first.certificate)
    second = party.obtain(approval("renewed.example.com"), replaces=first.pem)
    party.acknowledge_stored(second.certificate)
    orders = lab.orders
    again = party.obtain(approval("renewed.example.com"), replaces=first.pem)  # it was replaced already: 409
    assert again.certificate.fingerprint != second.certificate.fingerprint
    assert lab.orders == orders + 1


def test_a_ca_without_standing_records_is_told_from_one_that_refuses(tmp_path: Path) -> None:
    with ca_lab(tmp_path, program=Path("/usr/bin/pebble")) as lab:
        automation = TxtAutomation(Dark(), {}, SystemClock())
        with pytest.raises(Refused) as caught:
            Authority(lab.settings, automation=automation).obtain(approval("*.example.com"), DnsSolver("persist"))
        assert (caught.value.slug, caught.value.quota_used) == ("ca-challenge-missing", True)
        assert "dns-01" in caught.value.seen[0]
        assert lab.log.count("set INVALID") == 0


@pytest.mark.parametrize("engine", ["certbot", "acme"])
def test_an_order_is_begun_and_shown_again_whatever_the_engine(lab: CaLab, tmp_path: Path, engine: str) -> None:
    settings = lab.with_state(tmp_path)
    operator = patient()
    first, again = (
        Authority(settings, engine, operator=operator).begin(approval("*.example.com")) for _ in range(2)
    )
    assert (first.opened, again.opened) == (OrderOrigin.NEW, OrderOrigin.SAME)
    assert len(set(first.values)) == 2
    assert again.values == first.values
    assert first.until
    lab.restart()  # now the CA knows neither the order nor the account
    anew = Authority(settings, engine, operator=operator).begin(approval("*.example.com"))
    assert anew.opened is OrderOrigin.ANEW
    assert set(anew.values).isdisjoint(first.values)


def test_without_an_order_that_was_begun_nothing_is_finished(lab: CaLab, tmp_path: Path) -> None:
    operator = replace(patient(), finishes=True)
    orders = lab.orders
    with pytest.raises(ConfigInvalid) as caught:
        Authority(lab.with_state(tmp_path), "acme", operator=operator).obtain(
            approval("*.example.com"), DnsSolver("manual")
        )
    assert caught.value.slug == "wildcard-not-begun"
    assert lab.orders == orders
    assert not list((tmp_path / "acme/work").iterdir())


# A CA of our own making.


@pytest.fixture
def party(server: FakeAcme, acme_dir: Path) -> Iterator[Authority]:
    server.faults = Faults(answers={"ari": Answer(404)}, proven=True)  # then nobody waits for a CA that looks
    server.orders, server.replaced, server.connections = 0, None, 0
    server.asked.clear()
    directory = f"{server.base}/dir"
    settings = CaSettings(directory, acme_dir, acme_dir.parent / "challenges", server.ca_file)
    yield Authority(replace(settings, deadline=timedelta(seconds=10)), "acme")
    server.faults = Faults()


@pytest.fixture(scope="module")
def old() -> Issued:
    return FakeCa().obtain(approval(NAME))


def obtain(party: Authority, name: str = "", old: Issued | None = None) -> Issued:
    """Get a certificate, by default for a name of which no order is left over."""
    name = name or f"n{next(NUMBERS)}.example.com"
    issued = party.obtain(approval(name), replaces=old.pem if old else None)
    party.acknowledge_stored(issued.certificate)
    return issued


def test_a_renewal_names_what_it_replaces(server: FakeAcme, party: Authority, old: Issued) -> None:
    obtain(party, old=old)
    assert server.replaced == identifier(old.pem)
    obtain(party)
    assert server.replaced is None


def test_a_ca_without_renewal_information_is_not_told(server: FakeAcme, party: Authority, old: Issued) -> None:
    server.faults.answers.clear()
    obtain(party, old=old)
    assert (server.replaced, server.orders) == (None, 1)


def test_a_certificate_that_does_not_name_its_issuers_key_is_renewed_all_the_same(
    server: FakeAcme, party: Authority
) -> None:
    nameless = obtain(party)  # this CA's leaves have no authority key identifier, and so no name in ARI
    obtain(party, old=nameless)
    assert (server.replaced, server.orders) == (None, 2)
    asked = server.asked["ari"]
    assert party.suggestion(nameless.certificate, nameless.pem).renew_at is None
    assert server.asked["ari"] == asked


@pytest.mark.parametrize(
    "refusal",
    [
        problem("alreadyReplaced", "it was replaced", 409),
        problem("malformed", "no such certificate", 400),
        problem("unauthorized", "another account's", 403),
        problem("serverInternal", "no such serial", 404),
        problem("serverInternal", "could not find order resulting in the given certificate serial number", 500),
        page(409),
    ],
    ids=["already", "malformed", "unauthorized", "internal", "failed", "html"],
)
def test_what_the_ca_does_not_like_to_hear_is_left_out(
    server: FakeAcme, party: Authority, old: Issued, refusal: Answer
) -> None:
    server.faults.refuses_replacing = refusal
    obtain(party, old=old)
    assert (server.replaced, server.orders) == (None, 1)


@pytest.mark.parametrize(
    ("kind", "status", "slug"),
    [
        ("rateLimited", 429, "ca-rate-limited"),
        ("rateLimited", 403, "ca-rate-limited"),
        ("malformed", 429, "ca-refused"),
        ("malformed", 500, "ca-unreachable"),
        ("malformed", 503, "ca-unreachable"),
        ("serverInternal", 503, "ca-unreachable"),
        ("userActionRequired", 403, "ca-account"),
        ("badNonce", 400, "ca-bad-nonce"),
        ("accountDoesNotExist", 400, "ca-account"),
    ],
)
def test_what_has_nothing_to_do_with_replacing_is_no_reason_to_order_without_what_lifts_the_limits(
    server: FakeAcme, party: Authority, old: Issued, kind: str, status: int, slug: str
) -> None:
    server.faults.refuses_replacing = problem(kind, "not now", status, Retry_After="120")
    with pytest.raises(CertctlError) as caught:
        obtain(party, old=old)
    assert (caught.value.slug, caught.value.quota_used, server.orders) == (slug, False, 0)


@pytest.mark.parametrize(("resource", "orders"), [("authz", 2), ("chal", 2), ("finalize", 1), ("cert", 1)])
def test_an_order_is_kept_from_when_the_ca_may_have_signed_and_not_before(
    server: FakeAcme, party: Authority, resource: str, orders: int
) -> None:
    server.faults.proven = False
    server.faults.answers[resource] = page(503)
    with pytest.raises(Unreachable):
        obtain(party, name := f"n{next(NUMBERS)}.example.com")
    del server.faults.answers[resource]
    server.faults.proven = True
    obtain(party, name)
    assert server.orders == orders


@pytest.fixture
def unfinished(server: FakeAcme, party: Authority) -> str:
    """Return a name whose order the CA has fulfilled, of which we have not heard."""
    server.faults.answers["cert"] = page(503)
    with pytest.raises(Unreachable):
        obtain(party, name := f"n{next(NUMBERS)}.example.com")
    del server.faults.answers["cert"]
    return name


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_an_order_the_ca_says_it_does_not_have_is_made_anew(
    server: FakeAcme, party: Authority, unfinished: str, status: int
) -> None:
    server.faults.answers["/order/1"] = problem("malformed", "no such order", status)
    obtain(party, unfinished)
    assert server.orders == 2


@pytest.mark.parametrize(
    ("kind", "status", "slug"),
    [
        ("malformed", 405, "ca-refused"),
        ("rateLimited", 429, "ca-rate-limited"),
        ("serverInternal", 500, "ca-unreachable"),
        ("badNonce", 400, "ca-bad-nonce"),
        ("accountDoesNotExist", 400, "ca-account"),
    ],
)
def test_any_other_answer_about_an_order_is_no_reason_for_a_second_one(
    server: FakeAcme, party: Authority, unfinished: str, kind: str, status: int, slug: str
) -> None:
    server.faults.answers["/order/1"] = problem(kind, "not now", status)
    with pytest.raises(CertctlError) as caught:
        obtain(party, unfinished)
    assert (caught.value.slug, server.orders) == (slug, 1)


@pytest.mark.parametrize(
    ("left", "lifetime", "hours", "orders"),
    [(20, 30, 48, 1), (11, 31, 48, 2), (11, 31, 23, 1), (11, 31, 25, 2)],
    ids=["a certificate as good as new", "one half used up", "an order of today", "an order of yesterday"],
)
def test_what_a_run_left_is_taken_up_while_it_is_of_use(  # noqa: PLR0913, PLR0917 - a row of the table
    server: FakeAcme, party: Authority, acme_dir: Path, left: int, lifetime: int, hours: int, orders: int
) -> None:
    def sign(ca: Signer, asked: x509.CertificateSigningRequest) -> bytes:
        return ca.leaf(names_of(asked), key_of(asked), days=left, since=left - lifetime) + pem(ca.intermediate)

    server.faults.sign = sign
    name = f"n{next(NUMBERS)}.example.com"
    party.obtain(approval(name))  # and is killed before the store has it
    workdir = WorkingDirectory(acme_dir / "work" / name)
    begun = workdir.begun()
    assert begun
    workdir.note_begun(replace(begun, since=begun.since - timedelta(hours=hours)))
    obtain(party, name)
    assert server.orders == orders


@pytest.mark.parametrize("is_begun", [False, True])
def test_what_a_killed_run_left_on_show_is_taken_away(
    server: FakeAcme, party: Authority, acme_dir: Path, *, is_begun: bool
) -> None:
    name = f"n{next(NUMBERS)}.example.com"
    server.faults.answers["cert" if is_begun else "/order"] = page(503)
    with pytest.raises(Unreachable):
        obtain(party, name)
    server.faults = Faults(proven=True)
    left = Challenge(name, "http-01", "left" * 11, "left.thumbprint")
    HttpTokens(acme_dir.parent / "challenges").present([left])
    workdir = WorkingDirectory(acme_dir / "work" / name)
    make_directory(workdir.root, 0o700)
    workdir.key.touch()
    workdir.note_presented([left])
    obtain(party, name)
    assert list((acme_dir.parent / "challenges").iterdir()) == []


def test_a_ca_that_is_not_ready_for_the_request_is_handed_it_once_more(server: FakeAcme, party: Authority) -> None:
    server.faults.first["finalize"] = problem("orderNotReady", "a moment")
    obtain(party)
    assert (server.asked["finalize"], server.orders) == (2, 1)


def test_a_request_the_ca_refuses_is_not_handed_in_twice(server: FakeAcme, party: Authority) -> None:
    server.faults.first["finalize"] = problem("badCSR", "that key is on a list")
    with pytest.raises(Refused) as caught:
        obtain(party)
    assert (caught.value.slug, server.asked["finalize"]) == ("ca-refused", 1)


@pytest.mark.parametrize("end", [{"status": "valid"}, {"status": "invalid", "certificate": "/cert/1"}])
def test_an_order_that_ends_without_a_certificate_is_a_failure(
    server: FakeAcme, party: Authority, end: dict[str, str]
) -> None:
    order = end | {name: server.base + path for name, path in end.items() if name == "certificate"}
    server.faults.answers["finalize"] = Answer(200, order)
    with pytest.raises(CertctlError) as caught:
        obtain(party)
    assert (caught.value.slug, server.asked["cert"]) == ("ca-unrecognised", 0)


@pytest.mark.parametrize(
    ("answer", "slug"),
    [
        (Answer(200, {}), ""),
        (problem("alreadyRevoked", "it is", 400), ""),
        (problem("unauthorized", "not your key", 403), "ca-account"),
        (page(503), "ca-unreachable"),
    ],
)
def test_a_revocation_is_done_once_the_ca_says_so_and_leaves_no_key_behind(
    server: FakeAcme, party: Authority, acme_dir: Path, answer: Answer, slug: str
) -> None:
    issued = obtain(party)
    server.faults.answers["revoke"] = answer
    if slug:
        with pytest.raises(CertctlError) as caught:
            party.revoke(issued.certificate, issued.pem)
        assert caught.value.slug == slug
    else:
        party.revoke(issued.certificate, issued.pem)
    assert server.asked["revoke"] == 1
    assert list((acme_dir / "revocation").iterdir()) == []


def test_nothing_is_ordered_while_the_clocks_do_not_agree(server: FakeAcme, party: Authority) -> None:
    server.faults.clock = timedelta(days=2)
    with pytest.raises(ConfigInvalid) as caught:
        obtain(party)
    assert (caught.value.slug, server.orders) == ("clock-wrong", 0)


def test_nothing_is_ordered_that_could_not_be_kept(
    server: FakeAcme, party: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    obtain(party, "account.example.com")
    full = os.statvfs_result((4096, 4096, 10**6, 10**6, 400, 10**6, 10**6, 10**6, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    with pytest.raises(ConfigInvalid, match="too little room") as caught:
        obtain(party)
    assert (caught.value.slug, server.orders) == ("state-unwritable", 1)


def test_one_thread_keeps_its_connection_and_all_ask_for_the_directory_once(
    server: FakeAcme, party: Authority
) -> None:
    obtain(party, "account.example.com")
    server.connections = 0
    for number in range(3):
        obtain(party, f"kept{number}.example.com")
    assert server.connections == 0
    for number in range(2):  # one after the other: this CA knows one order at a time
        with ThreadPoolExecutor(1) as pool:
            pool.submit(obtain, party, f"thread{number}.example.com").result()
    assert server.connections == 2
    assert server.asked["dir"] <= 2  # certbot, which made the account, asks for itself


def test_a_ca_that_names_no_wait_is_asked_sooner_from_the_second_order_on(lab: CaLab, party: Authority) -> None:
    patient_one = Authority(lab.settings, "acme")
    patient_one.obtain(approval("waits.example.com"))
    obtain(party)
    engines = [one._engines["acme"] for one in (patient_one, party)]
    assert [isinstance(engine, Acme) and engine._mine.session.names_waits for engine in engines] == [True, False]


def test_after_a_failure_the_directory_and_the_connection_are_new(server: FakeAcme, party: Authority) -> None:
    obtain(party, "before.example.com")
    server.faults.answers["/order"] = page(502)
    with pytest.raises(CertctlError):
        obtain(party)
    del server.faults.answers["/order"]
    server.connections, asked = 0, server.asked["dir"]
    obtain(party)
    assert (server.connections, server.asked["dir"] - asked) == (1, 1)


def test_what_is_not_used_again_is_closed_at_once(server: FakeAcme, party: Authority) -> None:
    obtain(party, "before.example.com")
    gc.disable()  # whatever it would find some day stays open until then
    try:
        server.faults.answers["/order"] = page(502)
        before = sockets()
        for _ in range(5):
            with pytest.raises(CertctlError):
                obtain(party)
        until_none_is_left = time.monotonic() + 60
        while sockets() > before and time.monotonic() < until_none_is_left:
            time.sleep(0.01)  # the CA's own end is in this process too, and follows
        assert sockets() <= before
    finally:
        gc.enable()


def sockets() -> int:
    """Count the sockets this process has open."""
    open_files = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return sum(file.startswith("socket:") for file in open_files)


@pytest.mark.parametrize(
    "nonsense",
    [Answer(200, []), Answer(200, {"newOrder": 7}), Answer(200, {"meta": []}), Answer(200, "text"), Answer(200)],
    ids=["list", "number", "meta", "text", "empty"],
)
def test_a_directory_of_another_shape_is_no_answer(server: FakeAcme, party: Authority, nonsense: Answer) -> None:
    obtain(party, "account.example.com")
    server.faults.answers["dir"] = page(502)
    server.faults.answers["/order"] = page(502)
    with pytest.raises(CertctlError):
        obtain(party)  # forgets the directory
    server.faults.answers["dir"] = nonsense
    with pytest.raises(CertctlError) as caught:
        obtain(party)
    assert caught.value.slug == "ca-unreachable"


NONSENSE: list[object] = [[], {}, {"status": 7}, {"status": "new"}, "text", b""]


@pytest.mark.parametrize("resource", ["/order", "authz", "finalize"])
@pytest.mark.parametrize("body", NONSENSE, ids=range(len(NONSENSE)))
def test_a_resource_of_another_shape_is_no_answer(
    server: FakeAcme, party: Authority, resource: str, body: object
) -> None:
    server.faults.proven = False
    server.faults.answers[resource] = Answer(200, body, headers={"Location": f"{server.base}/order/1"})
    with pytest.raises(CertctlError) as caught:
        obtain(party)
    assert caught.value.slug == "ca-unreachable"


@pytest.mark.parametrize(
    "order", [{"authorizations": 7}, {"authorizations": [7]}, {"status": "ready", "finalize": 7}]
)
def test_an_order_that_leads_nowhere_is_no_order(
    server: FakeAcme, party: Authority, order: dict[str, object]
) -> None:
    body = {"status": "pending"} | order
    server.faults.answers["/order"] = Answer(201, body, headers={"Location": f"{server.base}/order/1"})
    with pytest.raises(CertctlError) as caught:
        obtain(party)
    assert caught.value.slug == "ca-unreachable"


def test_an_answer_without_an_end_is_cut(server: FakeAcme, party: Authority) -> None:
    server.faults.sign = lambda *_: b"x" * 10_000_000
    with pytest.raises(Refused) as caught:
        obtain(party)
    assert caught.value.slug == "ca-bad-certificate"
    assert "larger than" in caught.value.message


def test_a_ca_that_is_away_for_a_moment_costs_a_person_no_order(server: FakeAcme, tmp_path: Path) -> None:
    operator = patient()
    settings = CaSettings(f"{server.base}/dir", tmp_path / "acme", tmp_path / "challenges", server.ca_file)
    resources = {"newNonce": "nonce", "newAccount": "acct", "newOrder": "order"}
    offers = {name: f"{server.base}/{path}" for name, path in resources.items()}
    there = Answer(200, offers | {"meta": {"profiles": {"classic": "orders live for a week"}}})
    server.faults, server.orders = Faults(answers={"dir": there}), 0
    with pytest.raises(Refused, match="dns-01"):  # this CA offers no such challenge, but its order is there
        Authority(settings, operator=operator).begin(approval("*.example.com"))
    server.faults.answers["dir"] = page(502)
    with pytest.raises(Unreachable):
        Authority(settings, operator=operator).begin(approval("*.example.com"))
    server.faults.answers["dir"] = there
    assert Authority(settings, operator=operator).begin(approval("*.example.com")).opened is OrderOrigin.SAME
    assert server.orders == 1


def test_nothing_secret_is_logged(party: Authority, acme_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    issued = obtain(party, "secret.example.com")
    (key,) = acme_dir.glob("accounts/*/*/*/private_key.json")
    for secret in (issued.pem.private_key.splitlines()[1], key.read_text()[20:60]):
        assert secret not in caplog.text
