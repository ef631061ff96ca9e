"""The small parts of party 3: command lines, settings, the solver, the talk with the plugin, the account."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from certctl.ca.account import MOST_REPLACED, ensure_account
from certctl.ca.account_files import account_directory, find_accounts
from certctl.ca.authority import Authority
from certctl.ca.directory import Directory
from certctl.ca.doctor import examine
from certctl.ca.engines.certbot import argv
from certctl.ca.engines.certbot.plugin_socket import (
    PluginSocket,
    Problem,
    challenges_message,
    encode,
    failed_message,
)
from certctl.ca.keys import new_key, signing_request
from certctl.ca.settings import CaSettings, order_request_for, require_safe_directory
from certctl.ca.solvers.base import Challenge, HttpTokens, Look, unseen
from certctl.ca.solvers.run import Solving
from certctl.ca.state_copy import copy_state
from certctl.ca.workdir import BegunOrder, WorkingDirectory
from certctl.domain import Domain
from certctl.errors import Busy, CertctlError, ConfigInvalid, Refused, Unreachable
from certctl.io.clock import SystemClock
from certctl.io.locks import inheritable_lock
from certctl.sandbox import pebble
from certctl.slugs import Slug
from tests.fakes.ca import FakeCa
from tests.fakes.ca_lab import approval

TOKEN = "a" * 43
CHALLENGE = Challenge("status.example.com", "http-01", TOKEN, f"{TOKEN}.thumbprint")


@pytest.fixture
def settings(tmp_path: Path) -> CaSettings:
    return CaSettings("https://ca.example.org/acme/dir", tmp_path / "acme", tmp_path / "challenges")


def test_every_option_is_one_word_so_no_value_can_become_an_option(settings: CaSettings) -> None:
    workdir = WorkingDirectory(Path("/s"))
    tricky = replace(settings, email="--pre-hook=evil", profile="--deploy-hook=evil")
    commands = [
        argv.certonly(Path("/bin/certbot"), tricky, workdir, "--account", ["--authenticator=certctl"]),
        argv.register(Path("/bin/certbot"), tricky, workdir),
        argv.revoke(Path("/bin/certbot"), tricky, workdir),
    ]
    for program, verb, *options in commands:
        assert (program, verb) in {("/bin/certbot", v) for v in ("certonly", "register", "revoke")}
        assert all(option.startswith("--") for option in options)
        assert not any(option.startswith(("--pre-hook", "--deploy-hook")) for option in options)


def test_a_profile_is_required_of_the_ca_only_when_one_is_configured(settings: CaSettings) -> None:
    def profiles(settings: CaSettings) -> list[str]:
        words = argv.certonly(
            Path("certbot"), settings, WorkingDirectory(Path("/s")), "id", ["--authenticator=certctl"]
        )
        return [word for word in words if "profile" in word]

    assert profiles(settings) == []
    assert profiles(replace(settings, profile="shortlived")) == ["--required-profile=shortlived"]


def test_an_account_without_an_email_says_so(settings: CaSettings) -> None:
    words = argv.register(Path("certbot"), settings, WorkingDirectory(Path("/s")))
    assert "--register-unsafely-without-email" in words
    words = argv.register(Path("certbot"), replace(settings, email="ops@example.org"), WorkingDirectory(Path("/s")))
    assert "--email=ops@example.org" in words


@pytest.mark.parametrize(
    "url", ["https://acme-v02.api.letsencrypt.org/directory", "http://127.0.0.1:4001/dir", "http://[::1]/dir"]
)
def test_https_and_this_host_are_safe(url: str) -> None:
    require_safe_directory(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "dir",
        "http://ca.example.org/dir",
        "http://127.0.0.1.example.org/dir",
        "http://127.0.0.2/dir",
        "ftp://ca/dir",
        "file:///dir",
        "https:///dir",
        "https://ca.example.org/../../etc",
        "https://user@ca.example.org/dir",
    ],
)
def test_any_other_directory_is_refused(url: str) -> None:
    with pytest.raises(ConfigInvalid):
        require_safe_directory(url)


def test_a_ca_file_that_cannot_be_read_is_a_fault_of_the_configuration_and_not_the_cas(
    settings: CaSettings,
) -> None:
    private = replace(settings, ca_file=settings.acme_dir / "ca.pem")
    for step in (Authority(private).obtain, Authority(private).begin):
        with pytest.raises(ConfigInvalid, match=r"\[ca\] ca_file: cannot read .*ca\.pem: No such file"):
            step(approval("status.example.com"))
    assert "ca_file" in examine(private, Directory(private, SystemClock()))[0].text
    assert not settings.acme_dir.exists()


def test_a_wildcard_is_asked_for_together_with_its_zone(settings: CaSettings) -> None:
    assert order_request_for(Domain("*.example.com"), settings).names == ("*.example.com", "example.com")
    assert order_request_for(Domain("a.example.com"), settings).names == ("a.example.com",)


def test_a_request_names_only_what_is_asked_for_also_when_it_is_long() -> None:
    name = ".".join(["a" * 60] * 4)
    request = x509.load_pem_x509_csr(signing_request(new_key("ecdsa-p256"), [name]))
    san = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.DNSName) == [name]
    assert not list(request.subject)


def test_a_token_is_shown_to_nginx_and_taken_away(tmp_path: Path) -> None:
    solver = HttpTokens(tmp_path / "challenges")
    solver.present([CHALLENGE])
    shown = tmp_path / "challenges" / TOKEN
    assert shown.read_text() == CHALLENGE.validation
    assert shown.stat().st_mode & 0o777 == 0o644
    assert shown.parent.stat().st_mode & 0o777 == 0o755
    solver.clean_up([CHALLENGE])
    solver.clean_up([CHALLENGE])
    assert list(shown.parent.iterdir()) == []


@pytest.mark.parametrize(
    "token", ["", "short", "../" * 8, "a/" * 20, "a" * 257, "a" * 20 + "\n", "a" * 20 + "\0", "ä" * 20]
)
def test_a_token_that_is_not_base64url_reaches_no_path(tmp_path: Path, token: str) -> None:
    solver = HttpTokens(tmp_path / "challenges")
    evil = replace(CHALLENGE, token=token)
    with pytest.raises(Refused) as caught:
        solver.present([CHALLENGE, evil])
    assert caught.value.slug == "ca-challenge-aborted"
    solver.clean_up([evil])
    assert list(tmp_path.rglob("*")) == []


@dataclass
class Memory:
    """A solver that remembers, and refuses when told to."""

    refusal: CertctlError | None = None
    shown: list[Challenge] = field(default_factory=list)
    challenge_type: str = "http-01"

    def present(self, challenges: Sequence[Challenge]) -> None:
        self.shown += challenges

    def wait(self, challenges: Sequence[Challenge]) -> None:
        assert list(challenges) == self.shown
        if self.refusal:
            raise self.refusal

    def watched(self, challenges: Sequence[Challenge]) -> AbstractContextManager[Look]:  # noqa: ARG002
        return unseen()

    def clean_up(self, challenges: Sequence[Challenge]) -> None:
        self.shown = [one for one in self.shown if one not in challenges]


def talk(plugin_socket: PluginSocket, *messages: dict[str, object]) -> list[object]:
    """Play certbot's side: say these things, close, and return what was answered."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for message in messages:
            theirs.sendall(encode(message))
        theirs.shutdown(socket.SHUT_WR)
        plugin_socket.serve(ours, time.monotonic() + 10)
        ours.shutdown(socket.SHUT_WR)
        with theirs.makefile("rb") as answers:
            return [json.loads(line) for line in answers]


def plugin_socket(solver: Memory, noted: list[Challenge] | None = None) -> PluginSocket:
    return PluginSocket(Solving(solver, {"status.example.com"}, (noted if noted is not None else []).extend))


def test_solved_challenges_are_answered_with_ok_and_noted_before_they_are_shown() -> None:
    noted: list[Challenge] = []
    solver = Memory()
    side = plugin_socket(solver, noted)
    assert talk(side, challenges_message([CHALLENGE])) == [{"ok": True}]
    assert noted == [CHALLENGE]
    assert solver.shown == [], "the end of the talk takes the challenges away"


def test_a_solver_that_gives_up_aborts_the_order_with_its_reason() -> None:
    side = plugin_socket(Memory(Refused(Slug.CA_CHALLENGE_ABORTED, "the TXT record never showed up")))
    assert talk(side, challenges_message([CHALLENGE])) == [{"abort": "the TXT record never showed up"}]
    assert side.aborted is not None


@pytest.mark.parametrize("other", [{"domain": "evil.example.com"}, {"type": "dns-01"}])
def test_a_challenge_that_belongs_to_no_name_of_ours_is_not_shown(other: dict[str, str]) -> None:
    solver = Memory()
    side = plugin_socket(solver)
    (answer,) = talk(side, challenges_message([replace(CHALLENGE, **other)]))
    assert isinstance(answer, dict)
    assert "abort" in answer
    assert not solver.shown


def test_failed_challenges_arrive_typed() -> None:
    side = plugin_socket(Memory())
    failed = Problem("caa", "forbidden", "status.example.com")
    assert talk(side, failed_message([failed]), {"done": True}) == []
    assert side.failed == [failed]


def test_a_plugin_that_says_nothing_is_not_waited_for_longer_than_the_deadline() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        began = time.monotonic()
        plugin_socket(Memory()).serve(ours, began + 0.2)


def test_a_certbot_that_died_while_we_solved_is_no_failure_of_the_talk() -> None:
    solver, (ours, theirs) = Memory(), socket.socketpair()
    with ours:
        theirs.sendall(encode(challenges_message([CHALLENGE])))
        theirs.close()
        plugin_socket(solver).serve(ours, time.monotonic() + 10)
    assert not solver.shown


def test_a_line_without_an_end_is_cut_off() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        flood = threading.Thread(target=pour, args=(theirs,), daemon=True)
        flood.start()
        plugin_socket(Memory()).serve(ours, time.monotonic() + 10)
        ours.close()
        flood.join(5)
        assert not flood.is_alive()


def pour(into: socket.socket) -> None:
    with suppress(OSError):
        while True:
            into.sendall(b"x" * 50_000)


def account(settings: CaSettings, name: str) -> Path:
    path = account_directory(settings) / name
    path.mkdir(parents=True)
    for file, key in (("private_key.json", "kty"), ("regr.json", "uri"), ("meta.json", "creation_dt")):
        (path / file).write_text(json.dumps({key: "x"}))
    return path


def test_a_removal_that_was_cut_short_is_finished_and_a_certbot_at_work_left_alone(
    settings: CaSettings, tmp_path: Path
) -> None:
    issued = FakeCa().obtain(approval("status.example.com"))
    workdir = WorkingDirectory(settings.work / "status.example.com")
    (tmp_path / "acme").mkdir()
    workdir.make(settings)
    workdir.ask(order_request_for(Domain("status.example.com"), settings))
    Authority(settings).acknowledge_stored(issued.certificate)
    assert workdir.key.exists()
    workdir.key.unlink()
    Authority(settings).acknowledge_stored(issued.certificate)
    assert not workdir.root.exists()


def test_a_copy_that_may_go_does_not_go_while_another_run_has_the_name(settings: CaSettings) -> None:
    issued = FakeCa().obtain(approval("status.example.com"))
    hasty = Authority(replace(settings, wait=timedelta(0)))
    workdir = WorkingDirectory(settings.work / "status.example.com")
    settings.acme_dir.mkdir(exist_ok=True)
    workdir.make(settings)
    workdir.ask(order_request_for(Domain("status.example.com"), settings))
    workdir.keep(issued.pem.fullchain.encode())
    with inheritable_lock(settings.acme_dir / "locks/status.example.com.lock", timedelta(0), "it"):
        with pytest.raises(Busy):
            hasty.acknowledge_stored(issued.certificate)
        assert workdir.result()
        workdir.key.unlink()
        Authority(settings).acknowledge_stored(issued.certificate)  # nobody waits to tidy up: the other run does it
        assert workdir.root.exists()
    Authority(settings).acknowledge_stored(issued.certificate)
    assert not workdir.root.exists()


@pytest.mark.parametrize("ends", [None, datetime(2027, 1, 8, tzinfo=UTC)])
@pytest.mark.parametrize("handed_in", [False, True])
def test_an_order_is_noted_as_it_is_until_it_is_let_go(
    settings: CaSettings, ends: datetime | None, *, handed_in: bool
) -> None:
    workdir = WorkingDirectory(settings.work / "status.example.com")
    workdir.make(settings)
    assert (workdir.begun(), workdir.presented(), workdir.result()) == (None, [], None)
    begun = BegunOrder(
        "https://ca.example.org/order/1", datetime(2027, 1, 1, tzinfo=UTC), ends, is_handed_in=handed_in
    )
    workdir.note_begun(begun)
    workdir.note_presented([CHALLENGE])
    assert (workdir.begun(), workdir.presented()) == (begun, [CHALLENGE])
    workdir.forget_begun()
    assert workdir.begun() is None


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_where_keys_are_made_nobody_else_may_look(
    settings: CaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    monkeypatch.chdir(tmp_path)
    here = replace(settings, acme_dir=Path("acme"))
    workdir, before = WorkingDirectory(here.work / "status.example.com"), os.umask(umask)
    try:
        workdir.make(here)
        workdir.ask(order_request_for(Domain("status.example.com"), here))
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if not path.is_symlink()}
    assert modes == {0o700, 0o600}
    assert (workdir.config / "accounts").resolve() == tmp_path / "acme/accounts"


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_the_directory_of_accounts_and_keys_is_closed_to_others_whatever_comes_of_the_order(
    settings: CaSettings, umask: int
) -> None:
    away, before = replace(settings, directory="https://127.0.0.1:1/dir"), os.umask(umask)
    try:
        with pytest.raises(Unreachable):
            Authority(away, "acme").obtain(approval("status.example.com"))
    finally:
        os.umask(before)
    places = [settings.acme_dir, *settings.acme_dir.rglob("*")]
    assert {place.stat().st_mode & 0o777 for place in places if place.is_dir()} == {0o700}
    assert {place.stat().st_mode & 0o777 for place in places if place.is_file()} <= {0o600}


CHANGES: dict[str, Callable[[WorkingDirectory, CaSettings], object]] = {
    "make": lambda workdir, settings: workdir.make(settings),
    "ask": lambda workdir, settings: workdir.ask(order_request_for(Domain("status.example.com"), settings)),
    "note an order": lambda workdir, _: workdir.note_begun(BegunOrder("https://ca/1", datetime.now(UTC), None)),
    "let an order go": lambda workdir, _: workdir.forget_begun(),
    "note challenges": lambda workdir, _: workdir.note_presented([CHALLENGE]),
    "keep a chain": lambda workdir, _: workdir.keep(b"chain"),
    "try again": lambda workdir, _: workdir.forget_result(),
    "flush": lambda workdir, _: workdir.flush(),
    "remove": lambda workdir, _: workdir.remove(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_working_directory_that_cannot_be_written_is_a_fault_of_this_host(
    settings: CaSettings, tmp_path: Path, change: str
) -> None:
    (tmp_path / "acme").touch()
    with pytest.raises(ConfigInvalid) as caught:
        CHANGES[change](WorkingDirectory(settings.work / "status.example.com"), settings)
    assert caught.value.slug == "state-unwritable"


def test_what_a_run_left_to_go_on_with_is_taken_over_whole_and_nothing_else(
    settings: CaSettings, tmp_path: Path
) -> None:
    kept = {
        "privkey.pem", "request.pem", "cert.pem", "chain.pem", "fullchain.pem", "order.json", "begun.json",
        "presented.json",
    }  # fmt: skip
    left = settings.work / "status.example.com"
    left.mkdir(parents=True)
    for name in kept | {"cli.ini", "planted"}:
        (left / name).write_text(name)
    copy_state(settings.acme_dir, tmp_path / "fresh")
    made = tmp_path / "fresh" / left.relative_to(settings.acme_dir)
    assert {path.name: path.read_text() for path in made.iterdir() if path.is_file()} == {
        name: name for name in kept
    }


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", "null"])
@pytest.mark.parametrize("name", ["private_key.json", "regr.json", "meta.json"])
def test_an_account_with_a_damaged_file_is_no_account(settings: CaSettings, name: str, damage: str) -> None:
    path = account(settings, "one")
    assert find_accounts(settings) == ["one"]
    (path / name).write_text(damage)
    assert find_accounts(settings) == []


def test_accounts_that_keep_getting_lost_stop_being_replaced(settings: CaSettings) -> None:
    now = datetime.now(UTC)
    for number in range(MOST_REPLACED):
        account(settings, f"lost{number}")
        account(settings, "spare")
        assert ensure_account(settings, now, lost=f"lost{number}") == "spare"
        for file in (account_directory(settings) / "spare").iterdir():
            file.unlink()
        (account_directory(settings) / "spare").rmdir()
    account(settings, "once-more")
    with pytest.raises(Refused) as caught:
        ensure_account(settings, now, lost="once-more")
    assert caught.value.slug == "ca-account"


def test_accounts_that_a_clock_a_year_ahead_set_aside_are_not_counted(settings: CaSettings) -> None:
    ahead = time.time_ns() + timedelta(days=365) // timedelta(microseconds=1) * 1000
    for number in range(MOST_REPLACED):
        (settings.acme_dir / "quarantine" / f"lost.{ahead + number}").mkdir(parents=True)
    account(settings, "lost")
    account(settings, "spare")
    assert ensure_account(settings, datetime.now(UTC), lost="lost") == "spare"


def test_an_account_somebody_else_replaced_already_is_not_replaced_again(settings: CaSettings) -> None:
    account(settings, "new")
    assert ensure_account(settings, datetime.now(UTC), lost="old") == "new"


def test_pebbles_files_are_private_and_fit_both_of_its_versions(tmp_path: Path) -> None:
    plan = pebble.Pebble(tmp_path / "ca", 1, 2, 3, 4, "127.0.0.1:53", blocklist=("blocked.test",))
    umask = os.umask(0)
    try:
        pebble.write_files(plan)
    finally:
        os.umask(umask)
    key = plan.root / "https.key"
    before = key.read_bytes()
    pebble.write_files(plan)
    assert key.read_bytes() == before
    assert key.stat().st_mode & 0o777 == 0o600
    content = json.loads(plan.config.read_text())["pebble"]
    assert (content["httpPort"], content["tlsPort"]) == (3, 4)
    assert content["domainBlocklist"] == ["blocked.test"]
    assert content["certificateValidityPeriod"] == content["profiles"]["default"]["validityPeriod"] == 90 * 86400
    assert timedelta(seconds=content["profiles"]["shortlived"]["validityPeriod"]) < timedelta(days=10)
    assert pebble.environment(plan)["PEBBLE_AUTHZREUSE"] == "0"
