"""When the CA would like renewals (RFC 9773): on the fake, on real Pebble, and on CAs that answer nonsense."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Protocol

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from certctl.ca.ari import RenewalInfo
from certctl.ca.authority import Authority
from certctl.ca.settings import CaSettings
from certctl.domain import Domain
from certctl.io.clock import SystemClock
from certctl.ports.parties import CertificateAuthority
from certctl.sandbox import pebble
from certctl.values import Certificate, Issued, Suggestion
from tests.fakes.ca import FakeCa
from tests.fakes.ca_lab import CaLab, approval, ca_lab
from tests.fakes.http_server import ScriptedServer, say, serving
from tests.faults.fake_acme import Answer, FakeAcme, Faults, fake_acme, page, problem

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def now() -> datetime:
    return datetime.now(UTC)


def is_nothing(suggestion: Suggestion) -> bool:
    """Tell whether a suggestion says no more than to ask again in some hours."""
    return suggestion.renew_at is None and HOUR < suggestion.ask_at - now() <= DAY


# The contract, on the fake and on the real facade.


class World(Protocol):
    """What the suite needs of a CA."""

    def party(self) -> CertificateAuthority: ...
    def wants(self, issued: Issued, start: datetime, end: datetime) -> None: ...
    def outage(self) -> Callable[[], None]: ...


class FakeWorld:
    def __init__(self) -> None:
        self.ca = FakeCa()

    def party(self) -> CertificateAuthority:
        return self.ca

    def wants(self, issued: Issued, start: datetime, end: datetime) -> None:
        self.ca.suggested[issued.certificate.domain] = start + (end - start) / 2

    def outage(self) -> Callable[[], None]:
        self.ca.outage = True
        return lambda: None


@dataclass
class RealWorld:
    lab: CaLab

    def party(self) -> CertificateAuthority:
        return Authority(self.lab.settings)

    def wants(self, issued: Issued, start: datetime, end: datetime) -> None:
        pebble.set_renewal_info(self.lab.pebble, issued.pem.fullchain, json.dumps(window(start, end)))

    def outage(self) -> Callable[[], None]:
        self.lab.stop()
        return self.lab.start


def window(start: datetime, end: datetime) -> dict[str, object]:
    return {"suggestedWindow": {"start": start.isoformat(), "end": end.isoformat()}}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaLab]:
    with ca_lab(tmp_path_factory.mktemp("ca")) as lab:
        yield lab


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.e2e)])
def world(request: pytest.FixtureRequest) -> World:
    return FakeWorld() if request.param == "fake" else RealWorld(request.getfixturevalue("lab"))


def test_a_renewal_pulled_forward_is_suggested_for_a_moment_in_the_past(world: World) -> None:
    issued = world.party().obtain(approval("pulled.example.com"))
    start, end = now() - 2 * DAY, now() - DAY
    world.wants(issued, start, end)
    suggestion = world.party().suggestion(issued.certificate, issued.pem)
    assert suggestion.renew_at
    assert start <= suggestion.renew_at <= end
    assert suggestion.ask_at > now()


def test_a_ca_that_is_away_suggests_nothing_and_is_asked_again_later(world: World) -> None:
    issued = world.party().obtain(approval("away.example.com"))
    world.wants(issued, now() - 2 * DAY, now() - DAY)
    party, back = world.party(), world.outage()
    try:
        assert is_nothing(party.suggestion(issued.certificate, issued.pem))
    finally:
        back()


# Real Pebble.


@pytest.mark.e2e
def test_a_fresh_certificate_gets_a_moment_inside_its_life(lab: CaLab) -> None:
    party = Authority(lab.settings)
    issued = party.obtain(approval("fresh.example.com"))
    suggestion = party.suggestion(issued.certificate, issued.pem)
    assert suggestion.renew_at
    assert now() < suggestion.renew_at < issued.certificate.not_after
    assert suggestion.ask_at.tzinfo is not None
    assert timedelta(minutes=1) <= suggestion.ask_at - now() <= DAY


@pytest.mark.e2e
@pytest.mark.parametrize("nonsense", ["{}", "null", "[1]", "not json", '{"suggestedWindow": "soon"}'])
def test_pebble_made_to_talk_nonsense_suggests_nothing(lab: CaLab, nonsense: str) -> None:
    party = Authority(lab.settings)
    issued = party.obtain(approval("nonsense.example.com"))
    pebble.set_renewal_info(lab.pebble, issued.pem.fullchain, nonsense)
    assert is_nothing(party.suggestion(issued.certificate, issued.pem))


@pytest.mark.e2e
def test_the_older_pebble_has_no_renewal_information(tmp_path: Path) -> None:
    with ca_lab(tmp_path, program=Path("/usr/bin/pebble")) as lab:
        party = Authority(replace(lab.settings, profile=""))
        issued = party.obtain(approval("older.example.com"))
        assert is_nothing(party.suggestion(issued.certificate, issued.pem))


# CAs of our own making.


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeAcme]:
    with fake_acme(tmp_path_factory.mktemp("fake-acme")) as server:
        yield server


@pytest.fixture(scope="module")
def issued() -> Issued:
    return FakeCa().obtain(approval("status.example.com"))


@pytest.fixture
def ca(server: FakeAcme, tmp_path: Path) -> Authority:
    server.faults = Faults(answers={"ari": tomorrow()})
    server.asked.clear()
    return at(f"{server.base}/dir", tmp_path, server.ca_file)


def at(directory: str, home: Path, ca_file: Path | None = None) -> Authority:
    return Authority(CaSettings(directory, home / "acme", home / "challenges", ca_file))


def tomorrow(**headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(200, window(now() + DAY, now() + 2 * DAY), headers=named)


def test_an_honest_answer_is_understood(ca: Authority, issued: Issued) -> None:
    renew_at = ca.suggestion(issued.certificate, issued.pem).renew_at
    assert renew_at
    assert now() < renew_at < now() + 2 * DAY


def test_moments_are_spread_over_the_window(ca: Authority, issued: Issued) -> None:
    moments = {ca.suggestion(issued.certificate, issued.pem).renew_at for _ in range(5)}
    assert len(moments) == 5


@pytest.mark.parametrize(
    ("said", "wait"),
    [
        ("21600", 6 * HOUR),
        ("0", timedelta(minutes=1)),
        ("1", timedelta(minutes=1)),
        ("1000000000000", DAY),
        ("-5", 6 * HOUR),
        ("soon", 6 * HOUR),
        ("٣٦٠٠", 6 * HOUR),
        (2 * HOUR, 2 * HOUR),
        (-400 * DAY, timedelta(minutes=1)),
        (400 * DAY, DAY),
        ("Sun, 99 Nov 2026 08:49:37 GMT", 6 * HOUR),
        ("Sun, 06 Nov 99999999 08:49:37 GMT", 6 * HOUR),
    ],
    ids=range(12),
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/New_York"])
def test_when_to_ask_again_is_the_cas_to_say_within_a_minute_and_a_day(  # noqa: PLR0913, PLR0917
    server: FakeAcme, ca: Authority, issued: Issued, said: str | timedelta, wait: timedelta, zone: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    text = format_datetime(now() + said, usegmt=True) if isinstance(said, timedelta) else said
    server.faults.answers["ari"] = tomorrow(Retry_After=text.encode().decode("latin-1"))
    try:
        suggestion = ca.suggestion(issued.certificate, issued.pem)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert suggestion.renew_at
    assert abs(suggestion.ask_at - now() - wait) < timedelta(seconds=10)


def test_without_a_word_from_the_ca_it_is_asked_again_in_six_hours(ca: Authority, issued: Issued) -> None:
    assert abs(ca.suggestion(issued.certificate, issued.pem).ask_at - now() - 6 * HOUR) < timedelta(seconds=10)


@pytest.mark.parametrize(
    "answer",
    [
        problem("malformed", "no such certificate", 404),
        problem("serverInternal", "oops", 500),
        problem("rateLimited", "slow down", 429, Retry_After="1"),
        page(503),
        page(200),
        page(404),
        Answer(302, headers={"Location": "https://127.0.0.1:1/"}),
        Answer(409, headers={"Location": "elsewhere"}),
        Answer(200, b"{" * 5000),
        Answer(200, b"\xff\xfe"),
        Answer(200, []),
        Answer(200, {"suggestedWindow": None}),
        Answer(200, {"suggestedWindow": {}}),
        Answer(200, {"suggestedWindow": {"start": "2026-01-01T00:00:00Z"}}),
        Answer(200, {"suggestedWindow": {"start": 1, "end": 2}}),
        Answer(200, {"suggestedWindow": {"start": "yesterday", "end": "tomorrow"}}),
        Answer(200, window(now() - DAY, now() - 2 * DAY)),
        Answer(200, window(NOON, NOON)),
        Answer(200, window(now() + 4000 * DAY, now() + 4001 * DAY)),
        Answer(200, {"suggestedWindow": {"start": "0000-00-00T00:00:00Z", "end": "9999-99-99T00:00:00Z"}}),
        Answer(200, window(now() - DAY, now()) | {"filler": "x" * 100_000}),
    ],
    ids=range(21),
)
def test_an_answer_that_is_none_suggests_nothing_and_is_no_error(
    server: FakeAcme, ca: Authority, issued: Issued, answer: Answer
) -> None:
    server.faults.answers["ari"] = answer
    assert is_nothing(ca.suggestion(issued.certificate, issued.pem))


@pytest.mark.parametrize(
    "answer",
    [page(200), page(500), Answer(200, []), Answer(200, {"renewalInfo": 7}), Answer(200, b"\x00"), Answer(200, {})],
    ids=range(6),
)
def test_a_directory_that_is_none_is_read_once_for_all_certificates(
    server: FakeAcme, ca: Authority, issued: Issued, answer: Answer
) -> None:
    server.faults.answers["dir"] = answer
    assert all(is_nothing(ca.suggestion(issued.certificate, issued.pem)) for _ in range(3))
    assert server.asked["dir"] == 1


def test_a_ca_without_renewal_information_is_asked_for_its_directory_only(
    server: FakeAcme, ca: Authority, issued: Issued
) -> None:
    del server.faults.answers["ari"]
    assert all(is_nothing(ca.suggestion(issued.certificate, issued.pem)) for _ in range(3))
    assert server.asked == {"dir": 1}


def test_renewal_information_over_plain_http_is_not_asked_for(
    server: FakeAcme, ca: Authority, issued: Issued
) -> None:
    with serving(say(b"")) as other:
        base = f"http://0.0.0.0:{other.port}/ari"  # this host, but not by a name that says so
        server.faults.answers["dir"] = Answer(200, {"renewalInfo": base})
        assert is_nothing(ca.suggestion(issued.certificate, issued.pem))
        assert not other.heads


def test_a_ca_whose_own_certificate_we_do_not_trust_is_not_believed(
    server: FakeAcme, issued: Issued, tmp_path: Path
) -> None:
    server.faults = Faults(answers={"ari": tomorrow()})
    server.asked.clear()
    assert is_nothing(at(f"{server.base}/dir", tmp_path).suggestion(issued.certificate, issued.pem))
    assert not server.asked


def test_a_certificate_is_named_as_in_the_rfcs_example(server: FakeAcme, ca: Authority, issued: Issued) -> None:
    key_identifier = bytes.fromhex("69885B6B87464041E1B37B847BA0AE2CDE01C8D4")  # RFC 9773 §4.1
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(server.signer.key.public_key())
        .serial_number(0x87654321)
        .not_valid_before(NOON)
        .not_valid_after(NOON + DAY)
        .add_extension(x509.AuthorityKeyIdentifier(key_identifier, None, None), critical=False)
        .sign(server.signer.key, SHA256())
    )
    fullchain = leaf.public_bytes(Encoding.PEM).decode()
    assert ca.suggestion(issued.certificate, replace(issued.pem, fullchain=fullchain)).renew_at
    assert server.paths[-1] == "/ari/aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"


def test_an_expired_certificate_is_not_asked_about(server: FakeAcme, ca: Authority, issued: Issued) -> None:
    expired = replace(issued.certificate, not_after=now() - HOUR)
    assert is_nothing(ca.suggestion(expired, issued.pem))
    assert not server.asked


def test_a_certificate_that_does_not_name_its_issuers_key_is_not_asked_about(
    server: FakeAcme, ca: Authority, issued: Issued
) -> None:
    leaf = server.signer.leaf(["a.example.com"], server.signer.key.public_key())
    assert is_nothing(ca.suggestion(issued.certificate, replace(issued.pem, fullchain=leaf.decode())))
    assert not server.asked["ari"]


def test_sixteen_threads_may_ask_at_once(server: FakeAcme, ca: Authority, issued: Issued) -> None:
    with ThreadPoolExecutor(16) as pool:
        said = list(pool.map(lambda _: ca.suggestion(issued.certificate, issued.pem), range(100)))
    assert all(suggestion.renew_at for suggestion in said)
    assert server.asked == {"dir": 1, "ari": 100}


# A CA that is silent. Over plain HTTP, which the facade speaks on this very host, so that every byte is scripted.


@contextmanager
def silent(home: Path, script: Callable[[ScriptedServer], Iterator[bytes]]) -> Iterator[RenewalInfo]:
    """Run a CA whose directory is in order and which answers everything else in the script's way, byte by byte."""
    with serving(say(b"")) as ca:
        base = f"http://127.0.0.1:{ca.port}"
        body = json.dumps({"renewalInfo": f"{base}/ari"}).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
        directory = say(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)

        def answer(connection: socket.socket) -> None:
            (directory if ca.paths[-1] == "/dir" else ca.drip(script(ca), 0.1))(connection)

        ca.script = answer
        yield impatient(ca, home)


def impatient(ca: ScriptedServer, home: Path) -> RenewalInfo:
    settings = CaSettings(f"http://127.0.0.1:{ca.port}/dir", home / "acme", home / "challenges")
    return RenewalInfo(settings, SystemClock(), seconds=1)


def never(_: ScriptedServer) -> Iterator[bytes]:
    while True:
        yield b""


def for_ever(_: ScriptedServer) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
    while True:
        yield b" "


@pytest.mark.parametrize("script", [never, for_ever], ids=["hangs", "drips"])
def test_a_silent_ca_costs_a_few_deadlines_however_many_certificates_there_are(
    script: Callable[[ScriptedServer], Iterator[bytes]], issued: Issued, tmp_path: Path
) -> None:
    began = time.monotonic()
    with silent(tmp_path, script) as party:
        with ThreadPoolExecutor(16) as pool:
            said = list(pool.map(lambda _: party.suggestion(issued.certificate, issued.pem), range(1000)))
        took = time.monotonic() - began
    assert all(map(is_nothing, said))
    assert took < 50  # a deadline each for sixteen at once would be more than a minute


def test_a_silent_directory_costs_one_deadline(issued: Issued, tmp_path: Path) -> None:
    began = time.monotonic()
    with serving(say(b"")) as ca:
        ca.script = ca.drip(never(ca), 0.1)
        party = impatient(ca, tmp_path)
        with ThreadPoolExecutor(16) as pool:
            said = list(pool.map(lambda _: party.suggestion(issued.certificate, issued.pem), range(100)))
        took = time.monotonic() - began
    assert all(map(is_nothing, said))
    assert took < 5


def test_one_lost_answer_does_not_end_the_asking(server: FakeAcme, ca: Authority, issued: Issued) -> None:
    certificate: Certificate = replace(issued.certificate, domain=Domain("other.example.com"))
    server.faults.answers["ari"] = page(500)
    for _ in range(10):
        assert is_nothing(ca.suggestion(certificate, issued.pem))
    server.faults.answers["ari"] = tomorrow()
    assert ca.suggestion(certificate, issued.pem).renew_at
