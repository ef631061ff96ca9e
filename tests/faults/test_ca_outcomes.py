"""What a CA can do to us, through the real certbot: every outcome keeps its slug, its price and its wait."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from certctl.ca.authority import Authority
from certctl.ca.settings import CaSettings
from certctl.ca.workdir import WorkingDirectory
from certctl.errors import CertctlError
from certctl.io.escape import one_line
from tests.fakes.ca_lab import CaLab, approval, ca_lab
from tests.faults.fake_acme import Answer, FakeAcme, Faults, key_of, names_of, page, pem, problem

pytestmark = pytest.mark.e2e

NAME = "status.example.com"


@pytest.fixture
def settings(server: FakeAcme, acme_dir: Path) -> CaSettings:
    server.faults = Faults()
    server.asked.clear()
    return CaSettings(
        directory=f"{server.base}/dir",
        acme_dir=acme_dir,
        challenges=acme_dir.parent / "challenges",
        ca_file=server.ca_file,
        deadline=timedelta(seconds=30),
    )


@pytest.fixture(params=["certbot", "acme"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def failure(settings: CaSettings, engine: str, name: str = NAME, *, unfinished: bool = False) -> CertctlError:
    """Obtain, and return the error; whatever went wrong, nothing half is left behind but an unfinished order."""
    with pytest.raises(CertctlError) as caught:
        Authority(settings, engine).obtain(approval(name))
    assert (settings.work / name).exists() == (unfinished and engine == "acme")
    assert not list(settings.challenges.glob("*"))
    WorkingDirectory(settings.work / name).remove()
    return caught.value


def test_the_fake_ca_signs_when_nothing_is_wrong_with_it(settings: CaSettings, engine: str) -> None:
    party = Authority(settings, engine)
    issued = party.obtain(approval("honest.example.com"))
    party.acknowledge_stored(issued.certificate)
    assert issued.certificate.issuer == "fake intermediate"


@pytest.mark.parametrize(
    ("answer", "slug", "wait"),
    [
        (problem("rateLimited", "too many", 429, Retry_After="3600"), "ca-rate-limited", 3600),
        (problem("rateLimited", "too many", 429, Retry_After="1"), "ca-rate-limited", 60),
        (problem("rateLimited", "too many", 429), "ca-rate-limited", None),
        (page(503, Retry_After="120"), "ca-unreachable", 120),
        (page(200), "ca-unreachable", None),
        (problem("serverInternal", "oops", 500), "ca-unreachable", None),
        (problem("unauthorized", "account is deactivated", 403), "ca-account", None),
        (problem("malformed", "no such profile", 400), "ca-refused", None),
        (problem("caa", "CAA record forbids", 403), "ca-caa", None),
        (problem("userActionRequired", "new terms", 403), "ca-account", None),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_refused_order_is_told_apart_and_costs_nothing(
    server: FakeAcme, settings: CaSettings, answer: Answer, slug: str, wait: int | None, engine: str
) -> None:
    server.faults.answers["order"] = answer
    error = failure(settings, engine)
    assert (error.slug, error.retry_after, error.quota_used) == (slug, wait, False)
    assert server.asked["order"] == 1


def test_a_retry_after_that_is_a_date_is_understood(server: FakeAcme, settings: CaSettings, engine: str) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)
    server.faults.answers["order"] = problem("rateLimited", "too many", 429, Retry_After=later)
    wait = failure(settings, engine).retry_after
    assert wait is not None
    assert 7100 < wait <= 7200


def test_a_paused_name_shows_where_to_unpause_it(server: FakeAcme, settings: CaSettings, engine: str) -> None:
    where = "https://portal.example.org/sfe/v1/unpause?jwt=abc"
    server.faults.answers["order"] = problem("rateLimited", f"Your account is paused. Visit {where}", 429)
    error = failure(settings, engine)
    assert error.slug == "ca-paused"
    assert any(where in line for line in error.seen)


def test_a_captive_portal_in_place_of_the_directory_is_no_acme_server(
    server: FakeAcme, settings: CaSettings, engine: str
) -> None:
    server.faults.answers["dir"] = page(200)
    assert failure(settings, engine).slug == "ca-unreachable"


def test_a_ca_that_hangs_is_given_up_at_the_deadline(server: FakeAcme, settings: CaSettings, engine: str) -> None:
    server.faults.hang.add("order")
    assert failure(replace(settings, deadline=timedelta(seconds=2)), engine).slug == "ca-timeout"


def test_an_order_that_is_never_ready_times_out_and_was_paid_for(
    server: FakeAcme, settings: CaSettings, engine: str
) -> None:
    server.faults.status = "processing"
    error = failure(replace(settings, deadline=timedelta(seconds=8)), engine, unfinished=True)
    assert error.slug == "ca-timeout"
    assert error.quota_used


@pytest.mark.parametrize(
    ("kind", "slug"),
    [
        ("dns", "ca-dns"),
        ("tls", "ca-connection"),
        ("caa", "ca-caa"),
    ],
)
def test_a_failed_challenge_comes_back_typed_and_was_paid_for(
    server: FakeAcme, settings: CaSettings, kind: str, slug: str, engine: str
) -> None:
    server.faults.validation = kind
    error = failure(settings, engine)
    assert (error.slug, error.quota_used) == (slug, True)
    assert error.seen == (f"{NAME}: as the test wants it ({kind})",)


def test_terminal_escapes_of_the_ca_are_harmless_once_shown(
    server: FakeAcme, settings: CaSettings, engine: str
) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07 \u202e gnihton\r\nCongratulations! Your certificate"
    server.faults.answers["order"] = problem("malformed", evil, 400)
    error = failure(settings, engine)
    shown = [one_line(line) for line in (error.message, *error.seen)]
    assert error.slug == "ca-refused"
    assert any("\\x1b[2J" in line for line in shown)
    assert not any(bad in line for line in shown for bad in ("\x1b", "\x07", "\u202e", "\n", "\r"))


@pytest.mark.parametrize("token", ["../../etc/cron.d/evil", "a/b/c/d/e/f/g/h/i/j", "short", "x" * 4000])
def test_a_token_that_is_no_token_never_becomes_a_path(
    server: FakeAcme, settings: CaSettings, token: str, engine: str
) -> None:
    server.faults.token = token
    error = failure(settings, engine)
    assert error.slug in {"ca-challenge-aborted", "ca-unreachable"}
    assert server.asked["chal"] == 0
    assert not (settings.challenges.parent / "etc").exists()


def test_giving_up_before_the_ca_looks_spends_no_validation(
    server: FakeAcme, settings: CaSettings, engine: str
) -> None:
    blocked = settings.acme_dir.parent / "a-file"
    blocked.touch()
    error = failure(replace(settings, challenges=blocked / "challenges"), engine)
    assert error.slug == "state-unwritable"
    assert server.asked["order"] == 1
    assert server.asked["chal"] == 0


SIGNERS: dict[str, Callable[..., bytes]] = {
    "another name": lambda ca, asked: ca.leaf(["evil.example.com"], key_of(asked)) + pem(ca.intermediate),
    "another key": lambda ca, asked: ca.leaf(names_of(asked), ca.key.public_key()) + pem(ca.intermediate),
    "expired intermediate": lambda ca, asked: ca.leaf(names_of(asked), key_of(asked)) + pem(ca.expired),
}


@pytest.mark.parametrize("fault", SIGNERS)
def test_a_certificate_we_did_not_ask_for_never_gets_in(
    server: FakeAcme, settings: CaSettings, fault: str, engine: str
) -> None:
    server.faults.sign = SIGNERS[fault]
    error = failure(settings, engine)
    assert (error.slug, error.quota_used) == ("ca-bad-certificate", True)


def test_a_ca_that_is_not_there_is_unreachable(settings: CaSettings, engine: str) -> None:
    error = failure(replace(settings, directory="https://127.0.0.1:1/dir"), engine)
    assert (error.slug, error.quota_used) == ("ca-unreachable", False)


def test_a_ca_whose_https_we_do_not_trust_is_unreachable(settings: CaSettings, engine: str) -> None:
    assert failure(replace(settings, ca_file=None), engine, "untrusted.example.com").slug == "ca-unreachable"


def test_acme_over_plain_http_is_refused_before_anything_is_sent(settings: CaSettings) -> None:
    error = failure(replace(settings, directory="http://acme.example.org/dir"), "certbot")
    assert error.slug == "config-invalid"


def test_a_certbot_that_is_missing_or_too_old_is_named_with_the_way_to_get_one(
    settings: CaSettings, tmp_path: Path
) -> None:
    missing = failure(replace(settings, certbot=tmp_path / "certbot"), "certbot")
    old = tmp_path / "old-certbot"
    old.write_text("#!/bin/sh\necho certbot 2.1.0\n")
    old.chmod(0o755)
    too_old = failure(replace(settings, certbot=old), "certbot")
    for error in (missing, too_old):
        assert error.slug == "missing-program"
        assert error.next[0].startswith(f"{sys.executable} -m pip install ")


def test_a_certbot_that_fails_in_an_unknown_way_shows_its_last_words(settings: CaSettings, tmp_path: Path) -> None:
    strange = tmp_path / "certbot"
    strange.write_text(
        "#!/bin/sh\n"
        'case "$*" in *--version*) echo certbot 5.9.0; exit;; esac\n'
        'for word; do case "$word" in --logs-dir=*) echo 42 > "${word#*=}/letsencrypt.log";; esac; done\n'
        "echo 'the moon is in the wrong phase' >&2; exit 3\n"
    )
    strange.chmod(0o755)
    error = failure(replace(settings, certbot=strange), "certbot")
    assert error.slug == "ca-unrecognised"
    assert "the moon is in the wrong phase" in error.seen
    assert (settings.acme_dir / "logs" / f"{NAME}.log").read_text() == "42\n"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaLab]:
    with ca_lab(tmp_path_factory.mktemp("ca")) as lab:
        yield lab


def test_pebble_says_connection_when_port_80_is_closed(lab: CaLab, engine: str) -> None:
    lab.dns("add-a", host="closed.example.com.", addresses=["127.0.0.2"])
    error = failure(lab.settings, engine, "closed.example.com")
    assert (error.slug, error.quota_used) == ("ca-connection", True)


def test_pebble_cannot_resolve_a_name_whose_servers_fail(lab: CaLab, engine: str) -> None:
    lab.dns("set-servfail", host="servfail.example.com.")
    error = failure(lab.settings, engine, "servfail.example.com")
    assert error.slug in {"ca-dns", "ca-connection"}
    assert error.quota_used


def test_a_restarted_pebble_knows_no_account_and_gets_one_new_one(lab: CaLab, tmp_path: Path, engine: str) -> None:
    party = Authority(lab.with_state(tmp_path), engine)
    party.acknowledge_stored(party.obtain(approval("before.example.com")).certificate)
    lab.restart()
    party.acknowledge_stored(party.obtain(approval("after.example.com")).certificate)
    assert (lab.accounts, lab.orders, lab.issued) == (1, 1, 1)


def test_refused_nonces_are_ridden_out(server: FakeAcme, settings: CaSettings, engine: str) -> None:
    server.faults.bad_nonces = 3  # certbot gives up at the second; we try once more, and it meets the third
    party = Authority(settings, engine)
    issued = party.obtain(approval("nonces.example.com"))
    party.acknowledge_stored(issued.certificate)
    assert server.faults.bad_nonces == 0


def test_nonces_that_are_always_refused_end_in_one_clear_error(tmp_path: Path, engine: str) -> None:
    with ca_lab(tmp_path, nonce_reject=100) as lab:
        error = failure(lab.settings, engine)
        assert (error.slug, error.quota_used) == ("ca-bad-nonce", False)


def test_the_pebble_of_debian_12_serves_as_well(tmp_path: Path, engine: str) -> None:
    with ca_lab(tmp_path, program=Path("/usr/bin/pebble")) as lab:
        issued = Authority(lab.settings, engine).obtain(approval(NAME))
    assert issued.certificate.lifetime == pytest.approx(timedelta(days=90), abs=timedelta(minutes=1))
