"""Party 2 keeps its contract: on the fake, on the real facade, and against every server that misbehaves."""

import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509

from certctl.approval import ApprovalSettings, HttpOperator, Verdict
from certctl.approval.answer import Answer, Source
from certctl.approval.breaker import Breaker
from certctl.approval.endpoint import ask
from certctl.domain import Domain
from certctl.errors import CertctlError, ConfigInvalid, NotApproved, Unreachable
from certctl.ports.parties import Operator
from certctl.values import Delegation, DnsSolver, Level
from tests.fakes.dns import FakeDns
from tests.fakes.http_server import Script, ScriptedServer, reset_after, say, serving, status
from tests.fakes.operator import FakeOperator
from tests.fakes.world import FakeClock

CUSTOMER = Domain("status.example.com")
OWN = "hyperping.io"
STRANGER = Domain("status.not-a-customer.test")
START = datetime(2027, 1, 1, tzinfo=UTC)
PATIENCE = 60  # of whoever waits in these tests; no question to an endpoint may take as long


def delegation(domain: Domain) -> Delegation:
    dns = FakeDns()
    dns.cnames[domain.name] = dns.target
    return dns.verify(domain)


@dataclass
class Memory:
    answers: dict[str, datetime | None] = field(default_factory=dict)

    def remember_answer(self, domain: Domain, *, approved: bool, at: datetime) -> None:
        self.answers[domain.name] = at if approved else None

    def remembered_yes(self, domain: Domain) -> datetime | None:
        return self.answers.get(domain.name)


@dataclass
class Clock:
    """Counts seconds when a test says so."""

    moment: float = 0

    def __call__(self) -> float:
        return self.moment


class World(FakeOperator):
    """The operator's side as the suite drives it; the fake is its own world."""

    def party(self) -> Operator:
        return self

    def days_pass(self, days: int) -> None:
        self.now += timedelta(days=days)


class RealWorld:
    """The same levers on a real HTTP server behind the real facade."""

    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        self.server.script = self.answer
        self.approved: set[str] = set()
        self.outage = False
        self.time = FakeClock(START)
        self.memory = Memory()

    def answer(self, connection: socket.socket) -> None:
        known = self.server.paths[-1].rpartition("/")[2] in self.approved
        status("500 Oops" if self.outage else "200 OK" if known else "404 Not Found")(connection)

    def party(self) -> Operator:
        url = f"http://127.0.0.1:{self.server.port}/approvalendpoint/{{domain}}"
        return HttpOperator(ApprovalSettings(url, own_zones=(OWN,)), self.memory, self.time)

    def approves(self, domain: Domain) -> None:
        self.approved.add(domain.name)

    def days_pass(self, days: int) -> None:
        self.time.moment += timedelta(days=days)


@pytest.fixture(params=["fake", "real"])
def world(request: pytest.FixtureRequest) -> Iterator[World | RealWorld]:
    if request.param == "fake":
        yield World()
        return
    with serving(say(b"")) as server:
        yield RealWorld(server)


def test_a_yes_becomes_an_approval_that_carries_the_delegation(world: World | RealWorld) -> None:
    world.approves(CUSTOMER)
    approval = world.party().approve(delegation(CUSTOMER))
    assert approval.domain == CUSTOMER
    assert approval.delegation == delegation(CUSTOMER)
    assert approval.given_at == START
    assert not approval.remembered


@pytest.mark.parametrize("question", ["approve", "approve_again"])
def test_a_no_is_not_approved(world: World | RealWorld, question: str) -> None:
    with pytest.raises(NotApproved) as caught:
        getattr(world.party(), question)(delegation(STRANGER))
    assert caught.value.slug == "approval-refused"


@pytest.mark.parametrize("question", ["approve", "approve_again"])
def test_an_outage_is_neither_a_yes_nor_a_no_for_a_name_never_approved(
    world: World | RealWorld, question: str
) -> None:
    world.outage = True
    with pytest.raises(Unreachable) as caught:
        getattr(world.party(), question)(delegation(CUSTOMER))
    assert caught.value.slug == "approval-unreachable"


def test_our_own_zone_is_approved_though_nobody_answers(world: World | RealWorld) -> None:
    world.outage = True
    star = Domain(f"*.{OWN}")
    approval = world.party().approve_own(own_delegation(star))
    assert (approval.domain, approval.remembered, approval.given_at) == (star, False, START)


@pytest.mark.parametrize("name", ["*.example.com", "*.nothyperping.io", "*.io"])
def test_a_zone_that_is_not_ours_is_not_approved_whatever_the_endpoint_says(
    world: World | RealWorld, name: str
) -> None:
    world.approves(Domain(name))
    with pytest.raises(NotApproved) as caught:
        world.party().approve_own(own_delegation(Domain(name)))
    assert caught.value.slug == "approval-refused"


def own_delegation(domain: Domain) -> Delegation:
    return FakeDns().verify_own(domain, DnsSolver("manual"))


def test_a_new_name_cannot_live_on_a_remembered_yes(world: World | RealWorld) -> None:
    world.approves(CUSTOMER)
    world.party().approve(delegation(CUSTOMER))
    world.outage = True
    with pytest.raises(Unreachable):
        world.party().approve(delegation(CUSTOMER))


def test_a_live_name_survives_an_outage_for_thirty_days_and_says_so(world: World | RealWorld) -> None:
    world.approves(CUSTOMER)
    world.party().approve(delegation(CUSTOMER))
    world.outage = True
    world.days_pass(30)
    approval = world.party().approve_again(delegation(CUSTOMER))
    assert approval.remembered
    assert approval.given_at == START
    assert "still counts" in approval.summary


def test_a_remembered_yes_ends_after_thirty_days(world: World | RealWorld) -> None:
    world.approves(CUSTOMER)
    world.party().approve(delegation(CUSTOMER))
    world.outage = True
    world.days_pass(31)
    with pytest.raises(Unreachable):
        world.party().approve_again(delegation(CUSTOMER))


def test_a_yes_remembered_by_a_clock_that_was_ahead_is_none(world: World | RealWorld) -> None:
    world.approves(CUSTOMER)
    world.party().approve(delegation(CUSTOMER))
    world.outage = True
    world.days_pass(-1)
    with pytest.raises(Unreachable):
        world.party().approve_again(delegation(CUSTOMER))


def test_whether_a_name_would_be_approved_is_asked_and_not_remembered(world: World | RealWorld) -> None:
    assert world.party().would_approve(CUSTOMER) is False
    world.approves(CUSTOMER)
    assert world.party().would_approve(CUSTOMER) is True
    world.outage = True
    assert world.party().would_approve(CUSTOMER) is None
    with pytest.raises(Unreachable):
        world.party().approve_again(delegation(CUSTOMER))


def test_a_no_wipes_out_a_remembered_yes(world: World | RealWorld) -> None:
    world.approves(CUSTOMER)
    world.party().approve(delegation(CUSTOMER))
    world.approved.clear()
    with pytest.raises(NotApproved):
        world.party().approve_again(delegation(CUSTOMER))
    world.outage = True
    with pytest.raises(Unreachable):
        world.party().approve_again(delegation(CUSTOMER))


# From here on: the real facade against servers that misbehave (reliability.md C01 to C17).


def settings_for(server: ScriptedServer, scheme: str = "http") -> ApprovalSettings:
    """By its address: a bare Debian has no /etc/hosts, and no localhost."""
    url = f"{scheme}://127.0.0.1:{server.port}/approvalendpoint/{{domain}}"
    return ApprovalSettings(url, timeout_seconds=PATIENCE / 2)


HEAD = b"HTTP/1.1 200 OK\r\n"
NOT_ANSWERS: dict[str, tuple[Script, str]] = {
    "400": (status("400 Bad Request"), "400"),
    "401": (status("401 Unauthorized"), "401; is the endpoint configured"),
    "403": (status("403 Forbidden"), "403; is the endpoint configured"),
    "410": (status("410 Gone"), "410"),
    "429": (status("429 Slow Down", "Retry-After: 30"), "429"),
    "500": (status("500 Oops"), "500"),
    "502": (status("502 Bad Gateway"), "502"),
    "201": (status("201 Created"), "201"),
    "204": (status("204 No Content"), "204"),
    "103 only": (say(b"HTTP/1.1 103 Early Hints\r\n\r\n"), "103"),
    "999": (status("999 Whatever"), "999"),
    "redirect to a file": (status("302 Found", "Location: file:///etc/passwd"), "302, a redirect"),
    "redirect to metadata": (status("302 Found", "Location: http://169.254.169.254/latest"), "302, a redirect"),
    "redirect to nonsense": (status("307 Found", "Location: http://[::bad/%zz"), "307, a redirect"),
    "closes at once": (say(b""), "closed"),
    "reset in the status line": (reset_after(b"HTTP/1.1 20"), "reset"),
    "reset in the headers": (reset_after(HEAD + b"Content-Le"), "reset"),
    "status line cut short": (say(b"HTTP/1.1 2"), "not an answer in HTTP"),
    "not HTTP": (say(b"220 smtp.example.com ESMTP \x1b[2J\r\n"), "not an answer in HTTP"),
    "HTTP/0.9": (say(b"<html>yes</html>"), "not an answer in HTTP"),
    "TLS where HTTP was asked": (say(b"\x15\x03\x01\x00\x02\x02\x16"), "not an answer in HTTP"),
    "no number": (say(b"HTTP/1.1 YES OK\r\n\r\n"), "not an answer in HTTP"),
    "header of 100 kB": (say(HEAD + b"X-A: " + b"a" * 100_000 + b"\r\n\r\n"), "not an answer in HTTP"),
    "ten thousand headers": (say(HEAD + b"X-A: a\r\n" * 10_000 + b"\r\n"), "not an answer in HTTP"),
}


@pytest.mark.parametrize("name", NOT_ANSWERS)
def test_anything_but_200_and_404_is_not_an_answer(name: str) -> None:
    script, seen = NOT_ANSWERS[name]
    with serving(script) as server:
        endpoint = HttpOperator(settings_for(server), memory := Memory(), FakeClock(START))
        with pytest.raises(Unreachable) as caught:
            endpoint.approve(delegation(CUSTOMER))
    assert caught.value.slug == "approval-unreachable"
    assert seen in caught.value.seen[0]
    assert memory.answers == {}


@pytest.mark.parametrize(
    ("line", "tries"),
    [("500 Oops", 1), ("502 Bad Gateway", 3), ("503 Busy", 3), ("504 Late", 3), ("403 No", 1), ("429 Slow", 1)],
)
def test_only_a_passing_fault_is_tried_again_after_a_pause(line: str, tries: int) -> None:
    with serving(status(line)) as server:
        answer = ask(CUSTOMER, settings_for(server))
        assert answer.verdict is Verdict.UNKNOWN
        assert len(server.heads) == tries
    assert answer.milliseconds >= 200 * (tries - 1)


def test_a_yes_after_a_reset_is_a_yes() -> None:
    scripts = iter([reset_after(b""), status("200 OK")])

    def one_after_the_other(connection: socket.socket) -> None:
        next(scripts)(connection)

    with serving(one_after_the_other) as server:
        assert ask(CUSTOMER, settings_for(server)).verdict is Verdict.YES


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("30", 30), ("30 \t", 30), ("0", 0), ("999999", 999_999), ("1000000", None), ("-5", None), ("1.5", None),
        ("soon", None), ("\xb2", None), ("\xbd", None), ("", None), ("Fri, 01 Jan 2027 02:00:00 GMT", None),
    ],
)  # fmt: skip
def test_the_answer_says_when_to_come_back(value: str, wait: int | None) -> None:
    with serving(status("429 Slow Down", f"Retry-After: {value}")) as server:
        answer = ask(CUSTOMER, settings_for(server))
        with pytest.raises(Unreachable) as caught:
            answer.require_yes()
    assert (answer.status, caught.value.retry_after) == (429, wait)


def test_a_redirect_is_never_followed_and_its_body_never_read() -> None:
    """Requests reads a redirect's whole body even with allow_redirects=False; this one has no end."""
    head = b"HTTP/1.1 302 Found\r\nLocation: /again\r\nTransfer-Encoding: chunked\r\n\r\n"
    with serving(status("200 OK")) as server:
        server.script = server.drip(itertools.chain([head], itertools.repeat(b"1\r\nx\r\n")), pause=0.01)
        answer = ask(CUSTOMER, settings_for(server))
        assert answer.status == 302
        assert answer.milliseconds < 1000
        assert len(server.paths) == 1


@pytest.mark.parametrize("verdict", ["200 OK", "404 Not Found"])
def test_an_endless_body_is_not_read(verdict: str) -> None:
    head = f"HTTP/1.1 {verdict}\r\nContent-Length: 1000000000\r\nContent-Encoding: gzip\r\n\r\n".encode()
    with serving(status("200 OK")) as server:
        server.script = server.drip(itertools.chain([head], itertools.repeat(b"\0" * 1_000_000, 1000)), pause=0)
        answer = ask(CUSTOMER, settings_for(server))
        assert answer.status == int(verdict[:3])
        server.stop()
        assert server.sent < 100_000_000


def drips(head: bytes) -> Callable[[ScriptedServer], Script]:
    return lambda server: server.drip((bytes([byte]) for byte in itertools.chain(head, itertools.repeat(120))), 0.1)


def silent(server: ScriptedServer) -> Script:
    def script(_: socket.socket) -> None:
        server.ended.wait(PATIENCE)

    return script


SLOW: dict[str, Callable[[ScriptedServer], Script]] = {
    "silent": silent,
    "dripping the status line": drips(b"HTTP/1.1 2"),
    "dripping a header": drips(HEAD + b"X-Slow: "),
    "dripping 100 Continue": lambda server: server.drip(itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n"), 0.1),
}


@pytest.mark.parametrize("name", SLOW)
def test_the_deadline_is_for_the_whole_question(name: str) -> None:
    with serving(status("200 OK")) as server:
        server.script = SLOW[name](server)
        settings = replace(settings_for(server), timeout_seconds=0.6)
        started = time.monotonic()
        answer = ask(CUSTOMER, settings)
        assert time.monotonic() - started < PATIENCE / 2
        assert answer.verdict is Verdict.UNKNOWN
        assert "no answer" in answer.seen
        assert_no_thread_is_left()


def assert_no_thread_is_left() -> None:
    deadline = time.monotonic() + PATIENCE
    while any(thread.name == "approval" for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "the thread that asked is still reading"
        time.sleep(0.02)


def test_a_server_that_never_accepts_does_not_outlive_the_deadline() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):  # fills the backlog
            url = f"http://127.0.0.1:{port}/{{domain}}"
            answer = ask(CUSTOMER, ApprovalSettings(url, timeout_seconds=0.5))
    assert answer.verdict is Verdict.UNKNOWN
    assert answer.milliseconds < PATIENCE * 500
    assert_no_thread_is_left()


def test_a_closed_port_is_not_an_answer() -> None:
    with serving(status("200 OK")) as server:
        settings = settings_for(server)
    answer = ask(CUSTOMER, settings)
    assert answer.verdict is Verdict.UNKNOWN
    assert "refused" in answer.seen


# TLS.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def test_a_private_ca_is_trusted_when_configured(authority: trustme.CA, ca_file: str) -> None:
    with serving(status("200 OK"), server_context(authority.issue_cert("127.0.0.1"))) as server:
        settings = replace(settings_for(server, "https"), ca_file=ca_file)
        assert ask(CUSTOMER, settings).verdict is Verdict.YES


@pytest.mark.parametrize("fault", ["expired", "wrong name", "unknown CA"])
def test_a_certificate_that_does_not_hold_is_not_an_answer(authority: trustme.CA, ca_file: str, fault: str) -> None:
    leaf, words = {
        "expired": (authority.issue_cert("127.0.0.1", not_after=datetime(2020, 1, 1, tzinfo=UTC)), "expired"),
        "wrong name": (authority.issue_cert("other.example.com"), "mismatch"),
        "unknown CA": (trustme.CA().issue_cert("127.0.0.1"), "local issuer"),
    }[fault]
    with serving(status("200 OK"), server_context(leaf)) as server:
        answer = ask(CUSTOMER, replace(settings_for(server, "https"), ca_file=ca_file))
        assert server.heads == []
    assert answer.verdict is Verdict.UNKNOWN
    assert words in answer.seen.lower()


def test_old_tls_is_not_spoken(authority: trustme.CA, ca_file: str) -> None:
    context = server_context(authority.issue_cert("127.0.0.1"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = ssl.TLSVersion.TLSv1
    with serving(status("200 OK"), context) as server:
        answer = ask(CUSTOMER, replace(settings_for(server, "https"), ca_file=ca_file))
    assert answer.verdict is Verdict.UNKNOWN
    assert "TLS failed" in answer.seen


def test_a_slow_tls_handshake_does_not_outlive_the_deadline(ca_file: str) -> None:
    with serving(status("200 OK")) as server:
        server.script = SLOW["silent"](server)
        settings = replace(settings_for(server, "https"), ca_file=ca_file, timeout_seconds=0.5)
        assert ask(CUSTOMER, settings).milliseconds < PATIENCE * 500
        assert_no_thread_is_left()


def test_an_unreadable_ca_file_is_said_in_words(authority: trustme.CA) -> None:
    with serving(status("200 OK"), server_context(authority.issue_cert("127.0.0.1"))) as server:
        answer = ask(CUSTOMER, replace(settings_for(server, "https"), ca_file="/nonexistent.pem"))
    assert answer.verdict is Verdict.UNKNOWN
    assert "ca_file" in answer.seen


# The environment, secrets and the request itself.


def test_the_environment_cannot_redirect_or_weaken_the_question(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, authority: trustme.CA, ca_file: str
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login root password hunter2\n")
    netrc.chmod(0o600)
    with (
        serving(status("404 No")) as proxy,
        serving(status("200 OK"), server_context(authority.issue_cert("127.0.0.1"))) as server,
    ):
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent.pem")
        settings = settings_for(server, "https")
        assert ask(CUSTOMER, replace(settings, ca_file=ca_file)).verdict is Verdict.YES
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca_file)
        monkeypatch.setenv("CURL_CA_BUNDLE", ca_file)
        monkeypatch.setenv("SSL_CERT_FILE", ca_file)
        assert ask(CUSTOMER, settings).verdict is Verdict.UNKNOWN
        assert proxy.heads == []
        assert "authorization" not in server.heads[0].lower()


def test_the_name_is_one_encoded_path_segment() -> None:
    with serving(status("200 OK")) as server:
        ask(Domain("../%2f?x#y z.example.com"), settings_for(server))
        assert server.paths == ["/approvalendpoint/..%2F%252f%3Fx%23y%20z.example.com"]


def test_the_headers_are_sent_and_the_connection_is_not_kept() -> None:
    with serving(status("200 OK")) as server:
        ask(CUSTOMER, replace(settings_for(server), headers={"Authorization": "Bearer s3cret"}))
        assert "Authorization: Bearer s3cret\r\n" in server.heads[0]
        assert "Connection: close\r\n" in server.heads[0]


@pytest.mark.parametrize("name", ["403", "not HTTP", "closes at once", "redirect to nonsense"])
def test_secrets_are_never_repeated(name: str) -> None:
    with serving(NOT_ANSWERS[name][0]) as server:
        settings = ApprovalSettings(
            f"http://127.0.0.1:{server.port}/t0ken/{{domain}}?key=t0ken", headers={"X-Key": "t0ken"}
        )
        with pytest.raises(Unreachable) as caught:
            HttpOperator(settings, Memory(), FakeClock(START)).approve(delegation(CUSTOMER))
    error: CertctlError = caught.value
    assert "t0ken" not in repr((settings, error, error.message, error.seen, error.expected, error.next))


def test_a_header_that_cannot_be_sent_is_not_repeated() -> None:
    with serving(status("200 OK")) as server:
        answer = ask(CUSTOMER, replace(settings_for(server), headers={"X-Key": "t0ken\r\nX-Evil: 1"}))
        assert server.heads == []
    assert answer.verdict is Verdict.UNKNOWN
    assert "t0ken" not in repr(answer)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://api.example.net/{domain}",
        "http://127.0.0.1.example.net/{domain}",
        "http://127.0.0.2/{domain}",
        "https://user:word@api.example.net/{domain}",
        "ftp://localhost/{domain}",
        "https:///{domain}",
        "https://{domain}/",
        "https://api.example.net/",
        "https://api.example.net/?d={domain}",
        "https://api.example.net/{domain}/{domain}",
        "https://[::1/{domain}",
        "https://api.example.net:99999/{domain}",
    ],
)
def test_a_url_we_may_not_ask_is_a_mistake_in_the_configuration(url: str) -> None:
    endpoint = HttpOperator(ApprovalSettings(url), Memory(), FakeClock(START))
    with pytest.raises(ConfigInvalid):
        endpoint.approve(delegation(CUSTOMER))
    assert [finding.level for finding in endpoint.examine()] == [Level.PROBLEM]


# Local lists, memory, doctor, and the breaker.


def test_deny_wins_over_allow_and_allow_over_the_endpoint() -> None:
    with serving(status("404 No")) as server:
        settings = replace(settings_for(server), allow=(CUSTOMER.name, STRANGER.name), deny=(STRANGER.name,))
        endpoint = HttpOperator(settings, memory := Memory(), FakeClock(START))
        assert "allow list" in endpoint.approve(delegation(CUSTOMER)).summary
        for question in (endpoint.approve, endpoint.approve_again):
            with pytest.raises(NotApproved) as caught:
                question(delegation(STRANGER))
            assert caught.value.slug == "approval-denied-locally"
        assert server.heads == []
    assert memory.answers == {}


def test_every_answer_is_remembered_with_its_time() -> None:
    with serving(status("200 OK")) as server:
        endpoint = HttpOperator(settings_for(server), memory := Memory(), FakeClock(START))
        answer = endpoint.ask(CUSTOMER)
        assert answer.summary.startswith(f"http://127.0.0.1:{server.port} answered 200 in ")
        server.script = status("404 Not Found")
        endpoint.ask(STRANGER)
    assert memory.answers == {CUSTOMER.name: START, STRANGER.name: None}


@pytest.mark.parametrize(
    ("line", "level", "words"),
    [
        ("404 Not Found", Level.OK, "refuses an unknown name"),
        ("200 OK", Level.PROBLEM, "approve everything"),
        ("500 Oops", Level.PROBLEM, "neither a yes nor a no"),
    ],
)
def test_doctor_asks_for_a_name_nobody_has(line: str, level: Level, words: str) -> None:
    with serving(status(line)) as server:
        (finding,) = HttpOperator(settings_for(server), memory := Memory(), FakeClock(START)).examine()
        assert finding.level is level
        assert words in finding.text
        assert server.paths[0].startswith("/approvalendpoint/certctl-probe-")
    assert memory.answers == {}


@pytest.mark.parametrize(
    ("line", "slug"),
    [("404 Not Found", ""), ("200 OK", "approval-approves-everything"), ("500 Oops", "approval-unreachable")],
)
def test_no_name_is_taken_on_from_an_endpoint_that_approves_one_nobody_registered(line: str, slug: str) -> None:
    with serving(status(line)) as server:
        endpoint = HttpOperator(settings_for(server), memory := Memory(), FakeClock(START))
        if slug:
            with pytest.raises(CertctlError) as caught:
                endpoint.require_refusal()
            assert caught.value.slug == slug
        else:
            endpoint.require_refusal()
        assert len(server.heads) == 1
    assert memory.answers == {}


@pytest.mark.parametrize("zone", [OWN, f"status.{OWN}"])
def test_a_zone_of_ours_on_the_deny_list_is_not_approved(zone: str) -> None:
    settings = ApprovalSettings("https://api.example.net/{domain}", own_zones=(OWN,), deny=(zone,))
    with pytest.raises(NotApproved) as caught:
        HttpOperator(settings, Memory(), FakeClock(START)).approve_own(own_delegation(Domain(f"*.{zone}")))
    assert caught.value.slug == "approval-denied-locally"


def test_a_name_the_lists_decide_would_be_answered_by_them() -> None:
    with serving(status("500 Oops")) as server:
        settings = replace(settings_for(server), allow=(CUSTOMER.name,), deny=(STRANGER.name,))
        endpoint = HttpOperator(settings, Memory(), FakeClock(START))
        assert [endpoint.would_approve(name) for name in (CUSTOMER, STRANGER)] == [True, False]
        assert server.heads == []


def test_a_dead_endpoint_is_asked_again_after_a_rest_and_left_alone_again() -> None:
    asked, now = list[Domain](), Clock()

    def no_answer() -> Answer:
        asked.append(CUSTOMER)
        return Answer(CUSTOMER, Verdict.UNKNOWN, Source.ENDPOINT, "https://api.example.net", "no answer", 5000)

    breaker = Breaker(now)
    for _ in range(5):
        breaker.ask(CUSTOMER, no_answer)
    assert len(asked) == 3
    for second, questions in ((14.9, 3), (15, 4), (29.9, 4), (30, 5)):
        now.moment = second
        breaker.ask(CUSTOMER, no_answer)
        assert len(asked) == questions


def test_a_dead_endpoint_is_left_alone_after_three_questions() -> None:
    with serving(status("500 Oops")) as server:
        endpoint = HttpOperator(settings_for(server), Memory(), FakeClock(START))
        answers = [endpoint.ask(Domain(f"c{number}.example.com")) for number in range(6)]
        assert len(server.heads) == 3
    assert {answer.verdict for answer in answers} == {Verdict.UNKNOWN}
    assert answers[5].domain.name == "c5.example.com"
    assert "not asked again so soon" in answers[5].seen


def test_one_answer_makes_the_endpoint_alive_again() -> None:
    breaker = Breaker()
    with serving(status("500 Oops")) as server:
        answers = []
        for line in ("500 Oops", "500 Oops", "404 No", "500 Oops", "500 Oops", "200 OK"):
            server.script = status(line)
            answers.append(breaker.ask(CUSTOMER, lambda: ask(CUSTOMER, settings_for(server))))
    assert answers[-1].verdict is Verdict.YES


def test_the_certificate_of_trustme_expires_when_asked(authority: trustme.CA) -> None:
    """Guards the TLS tests above: were trustme to ignore not_after, the expired case would prove nothing."""
    leaf = authority.issue_cert("127.0.0.1", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    certificate = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
    assert certificate.not_valid_after_utc.year == 2020
