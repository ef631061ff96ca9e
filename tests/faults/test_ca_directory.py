"""What is looked at before an order: the CA's directory, and whether its clock is ours. Both engines alike."""

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from certctl.ca.authority import Authority
from certctl.ca.directory import Directory
from certctl.ca.doctor import examine
from certctl.ca.settings import CaSettings
from certctl.errors import CertctlError
from certctl.io.clock import SystemClock
from certctl.values import Level
from tests.fakes.ca_lab import approval, patient
from tests.faults.fake_acme import FakeAcme, Faults, page

pytestmark = pytest.mark.e2e


@dataclass
class Turned:
    """The host's clock, off by as much as a test says."""

    by: timedelta = timedelta(0)

    def now(self) -> datetime:
        return datetime.fromtimestamp(SystemClock().now().timestamp(), UTC) + self.by

    def pause(self, duration: timedelta) -> None:
        raise AssertionError(duration)


@pytest.fixture
def settings(server: FakeAcme, tmp_path: Path) -> CaSettings:
    server.faults = Faults()
    server.asked.clear()
    server.orders = 0
    return CaSettings(
        directory=f"{server.base}/dir",
        acme_dir=tmp_path / "acme",
        challenges=tmp_path / "challenges",
        ca_file=server.ca_file,
        deadline=timedelta(seconds=30),
    )


def refusal(directory: Directory) -> CertctlError:
    with pytest.raises(CertctlError) as caught:
        directory.require_ready()
    return caught.value


def test_the_directory_is_asked_for_once_and_again_when_somebody_sets_the_clock(
    server: FakeAcme, settings: CaSettings
) -> None:
    clock = Turned()
    directory = Directory(settings, clock)
    for _ in range(3):
        assert "the CA's directory answers" in directory.require_ready().summary
    assert (server.asked["dir"], server.asked["nonce"]) == (1, 1)
    clock.by = timedelta(hours=3)
    assert refusal(directory).slug == "clock-wrong"
    assert refusal(directory).slug == "clock-wrong"
    assert (server.asked["dir"], server.asked["nonce"]) == (2, 2)


@pytest.mark.parametrize("ours", [timedelta(minutes=4), timedelta(minutes=-4)])
def test_a_clock_that_is_minutes_off_is_good_enough(settings: CaSettings, ours: timedelta) -> None:
    Directory(settings, Turned(ours)).require_ready()


@pytest.mark.parametrize(
    ("theirs", "said"), [(timedelta(hours=3), "behind the CA's"), (timedelta(days=-400), "ahead of the CA's")]
)
@pytest.mark.parametrize("engine", ["certbot", "acme"])
def test_by_a_wrong_clock_no_engine_makes_an_account_or_an_order(
    server: FakeAcme, settings: CaSettings, engine: str, theirs: timedelta, said: str
) -> None:
    server.faults.clock = theirs
    with pytest.raises(CertctlError) as caught:
        Authority(settings, engine).obtain(approval("status.example.com"))
    error = caught.value
    assert (error.slug, error.exit_code, error.kind.who, error.quota_used) == ("clock-wrong", 10, "operator", False)
    assert said in error.message
    assert (server.orders, server.asked["acct"], server.asked["order"]) == (0, 0, 0)
    server.faults.clock = timedelta(0)
    Authority(settings, engine).obtain(approval("status.example.com"))
    assert server.orders == 1


def test_by_a_wrong_clock_no_order_is_begun_by_hand(server: FakeAcme, settings: CaSettings) -> None:
    server.faults.clock = timedelta(hours=1)
    with pytest.raises(CertctlError) as caught:
        Authority(settings, "acme", operator=patient()).begin(approval("*.example.com"))
    assert (caught.value.slug, server.orders) == ("clock-wrong", 0)


@pytest.mark.parametrize("engine", ["certbot", "acme"])
def test_a_directory_that_cannot_be_reached_costs_nothing_and_no_engine_is_started(
    server: FakeAcme, settings: CaSettings, engine: str
) -> None:
    away = replace(settings, directory="https://127.0.0.1:1/dir", certbot=Path("/no/such/certbot"))
    with pytest.raises(CertctlError) as caught:
        Authority(away, engine).obtain(approval("status.example.com"))
    assert (caught.value.slug, caught.value.exit_code, caught.value.quota_used) == ("ca-unreachable", 9, False)
    assert server.asked.total() == 0


def test_a_directory_that_is_none_is_not_usable(server: FakeAcme, settings: CaSettings) -> None:
    server.faults.answers["dir"] = page(200)
    assert refusal(Directory(settings, SystemClock())).slug == "ca-unreachable"
    server.faults.answers["dir"] = page(503, Retry_After="120")
    error = refusal(Directory(settings, SystemClock()))
    assert (error.slug, error.retry_after) == ("ca-unreachable", 120)
    server.faults.answers["dir"] = replace(server.faults.answers["dir"], status=200, body={"newNonce": "x"})
    assert "newAccount, newOrder" in refusal(Directory(settings, SystemClock())).seen[0]


def test_a_ca_whose_tls_is_not_trusted_is_not_believed(server: FakeAcme, settings: CaSettings) -> None:
    error = refusal(Directory(replace(settings, ca_file=None), SystemClock()))
    assert error.slug == "ca-unreachable"
    assert "certificate verify failed" in error.seen[0]
    assert server.asked.total() == 0


@pytest.mark.parametrize(("by", "slug"), [(timedelta(days=-400), "clock-wrong"), (timedelta(0), "ca-unreachable")])
def test_a_tls_certificate_out_of_date_by_our_clock_alone_is_the_clocks_fault(
    server: FakeAcme, settings: CaSettings, tmp_path: Path, by: timedelta, slug: str
) -> None:
    """A host a year ahead sees every certificate of the CA's as ended."""
    authority, tls = trustme.CA(), server.tls
    ended = authority.issue_cert("127.0.0.1", not_after=datetime.now(UTC) - timedelta(days=1))
    root = tmp_path / "root.pem"
    authority.cert_pem.write_to_path(root)
    server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ended.configure_cert(server.tls)
    server.faults.clock = by
    try:
        error = refusal(Directory(replace(settings, ca_file=root), SystemClock()))
    finally:
        server.tls = tls
    assert error.slug == slug


def test_doctor_says_how_the_directory_is(server: FakeAcme, settings: CaSettings) -> None:
    def said(settings: CaSettings) -> list[tuple[Level, str, str]]:
        found = examine(settings, Directory(settings, SystemClock()))
        return [(each.level, each.text, each.fix) for each in found if "directory is" not in each.text][:1]

    assert said(settings)[0][:2] == (Level.OK, "the CA's directory answers, and its clock agrees with ours")
    server.faults.clock = timedelta(hours=2)
    ((level, text, fix),) = said(settings)
    assert (level, fix, "behind the CA's" in text) == (Level.PROBLEM, "timedatectl set-ntp true", True)
    ((level, text, fix),) = said(replace(settings, directory="https://127.0.0.1:1/dir"))
    assert (level, "no usable answer" in text, "[ca] ca_file" in fix) == (Level.PROBLEM, True, True)


def test_doctor_says_that_the_ca_does_not_have_the_profile(server: FakeAcme, settings: CaSettings) -> None:
    server.faults.answers["dir"] = replace(
        page(200),
        type="application/json",
        body={
            **dict.fromkeys(("newNonce", "newAccount", "newOrder"), f"{server.base}/nonce"),
            "meta": {"profiles": {"classic": "the default"}},
        },
    )
    for profile, lacks in (("classic", False), ("", False), ("shortlived", True)):
        asked = replace(settings, profile=profile)
        texts = [finding.text for finding in examine(asked, Directory(asked, SystemClock()))]
        assert any("does not offer the profile" in text for text in texts) is lacks


def test_all_who_wait_for_a_silent_ca_have_the_answer_of_one_look(settings: CaSettings) -> None:
    """Else each of many names would wait in turn for as long as the first."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        away = replace(settings, directory=f"https://127.0.0.1:{silent.getsockname()[1]}/dir")
        directory = Directory(away, SystemClock())
        with ThreadPoolExecutor() as pool:
            refusals = list(pool.map(lambda _: refusal(directory).slug, range(3)))
        silent.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert refusals == ["ca-unreachable"] * 3
