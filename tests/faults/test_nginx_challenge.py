"""Whether nginx answers the CA's challenges is asked of nginx: what else may answer, and what nobody can see."""

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.domain import CHECK_DOMAIN, Domain
from certctl.errors import CertctlError
from certctl.nginx.challenge import ask
from certctl.nginx.handshake import outward_address
from certctl.nginx.master import Master
from certctl.nginx.server import Nginx
from certctl.serve.miss_socket import missed_name
from certctl.values import Level, Mode
from tests.fakes.http_server import listening_at, serving, status
from tests.real_nginx import RealNginx, environment, need, put_live, real_nginx, wait_for

pytestmark = pytest.mark.e2e

NAME = Domain("status.example.com")
EVERYONE = "server_name ~^(.+)$;"


@pytest.fixture(params=list(Mode))
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RealNginx]:
    with real_nginx(tmp_path, mode=request.param) as nginx:
        yield nginx
        assert list(nginx.settings.challenges.iterdir()) == []


@pytest.fixture
def blocks(tmp_path: Path) -> Iterator[RealNginx]:
    with real_nginx(tmp_path) as nginx:
        yield nginx


def refusal(web: Nginx, name: Domain = NAME) -> CertctlError:
    with pytest.raises(CertctlError) as caught:
        web.require_challenge(name)
    return caught.value


def foreign(host: RealNginx, names: str, *lines: str) -> Path:
    """Put a server block of the operator's in front of ours."""
    listen = f"listen 127.0.0.1:{host.settings.http_port};"
    place = host.foreign("\n".join(["# theirs", "server {", listen, names, *lines, "}", ""]))
    host.web.force_reload()
    return place


def test_nginx_answers_for_a_name_that_it_has_never_heard_of(host: RealNginx) -> None:
    assert host.web.require_challenge(NAME).summary == f"port {host.settings.http_port} answers the challenge"
    assert host.web.require_tls().summary == f"port {host.settings.https_port} answers TLS"


def test_a_stopped_nginx_is_not_running(host: RealNginx) -> None:
    host.stop()
    error = refusal(host.web)
    assert (error.slug, error.next[0]) == ("nginx-not-running", "systemctl start nginx")
    assert "nobody listens" in error.seen[0]
    with pytest.raises(CertctlError):
        host.web.require_tls()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("return 301 https://$host$request_uri;", "answered 301 to https://status.example.com/.well-known/"),
        ("return 200 'Welcome';", "answered 200 with another body: 'Welcome'"),
        ("return 404;", "answered 404"),
        ("return 444;", "closed the connection without an answer"),
        ("return 200;", "answered 200 with another body: ''"),
    ],
)
def test_another_answer_is_told_with_the_block_that_gives_it(blocks: RealNginx, line: str, said: str) -> None:
    place = foreign(blocks, EVERYONE, line)
    error = refusal(blocks.web)
    assert (error.slug, error.exit_code, error.kind.who) == ("nginx-challenge-intercepted", 7, "operator")
    assert said in error.seen[0]
    assert error.seen[1] == f"the server block at {place}:2 answers, by server_name ~^(.+)$"
    assert f"{place}:2" in error.next[0]
    assert list(blocks.settings.challenges.iterdir()) == []


def test_a_block_for_some_names_stands_in_the_way_of_those_alone(blocks: RealNginx) -> None:
    foreign(blocks, "server_name .example.com;", "return 301 https://$host$request_uri;")
    assert refusal(blocks.web).slug == "nginx-challenge-intercepted"
    blocks.web.require_challenge(Domain("status.example.org"))


def test_a_block_that_passes_challenges_on_is_in_nobodys_way(blocks: RealNginx) -> None:
    """As docs/how-to/when-nginx-refuses.md shows it."""
    challenges = blocks.settings.challenges
    passing = f"location ^~ /.well-known/acme-challenge/ {{ alias {challenges}/; }}"
    foreign(blocks, EVERYONE, passing, "location / { return 301 https://$host$request_uri; }")
    blocks.web.require_challenge(NAME)


def test_what_stands_before_every_location_is_looked_for_in_the_http_block(tmp_path: Path) -> None:
    with real_nginx(tmp_path, extra="auth_request /auth;") as host:
        error = refusal(host.web)
        assert error.slug == "nginx-challenge-intercepted"
        assert str(host.settings.base_path) in error.seen[1]
        assert f"http block of {host.settings.config}" in error.next[0]


def test_an_nginx_that_takes_connections_and_never_answers_is_not_running(blocks: RealNginx) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = replace(blocks.settings, http_port=silent.getsockname()[1])
        answer = ask(settings, NAME.name, patience=timedelta(milliseconds=100))
        assert (answer.is_silence, answer.refused, "no answer in time" in answer.text) == (True, False, True)


def test_whoever_cannot_see_the_master_is_answered_all_the_same(host: RealNginx) -> None:
    """As a unit with ProtectProc=invisible, where nobody sees the processes of others."""
    if os.geteuid() != 0:
        pytest.skip("NOT PROVED: a user who cannot see nginx's master; only root can become one: run as root")
    host.settings.challenges.chmod(0o777)
    host.settings.live.mkdir(exist_ok=True)
    os.chown(host.settings.live, 33, 33)  # as the owner of the state has it: what is ordered must go there
    code = (
        "import pickle, sys; from certctl.domain import Domain; from certctl.nginx.server import Nginx; "
        "web = Nginx(pickle.loads(bytes.fromhex(sys.argv[1]))); "
        f"print(web._master.pid(), web.require_challenge(Domain('{NAME}')).changed, web.require_tls().changed)"
    )
    hidden = 'mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid=33 --regid=33 --clear-groups "$@"'
    argv = [need("unshare"), "--mount", "sh", "-c", hidden, "sh", sys.executable, "-c", code]
    run = subprocess.run(
        [*argv, pickle.dumps(host.settings).hex()], check=False, capture_output=True, text=True, env=environment()
    )
    assert (run.stdout.split(), run.stderr) == (["None", "False", "False"], "")


def test_what_a_killed_run_left_is_taken_away_by_the_next_and_no_link_is_followed(blocks: RealNginx) -> None:
    challenges, elsewhere = blocks.settings.challenges, blocks.root / "elsewhere"
    elsewhere.write_text("theirs")
    old, new = challenges / "certctl-probe-old", challenges / "certctl-probe-of-another-run"
    old.symlink_to(elsewhere)
    os.utime(old, (0, 0), follow_symlinks=False)
    new.write_text("x")
    blocks.web.require_challenge(NAME)
    assert [path.name for path in challenges.iterdir()] == [new.name]
    assert elsewhere.read_text() == "theirs"


def test_doctor_says_what_nginx_answers_and_for_whom(host: RealNginx) -> None:
    put_live(host, host.site("live.test"))
    texts = {finding.text: finding.level for finding in host.web.examine([Domain("live.test")])}
    port, tls = host.settings.http_port, host.settings.https_port
    tried = "tried for 2 names that are nobody's and 1 of customers"
    assert texts[f"port {port} answers the challenge: {tried}"] == "ok"
    assert texts[f"port {tls} answers TLS"] == "ok"


@pytest.mark.parametrize("names", [EVERYONE, "server_name .live.test;", "server_name *.example.com;"])
def test_doctor_is_not_content_where_a_foreign_block_takes_challenges(blocks: RealNginx, names: str) -> None:
    put_live(blocks, blocks.site("a.live.test"))
    place = foreign(blocks, names, "return 301 https://$host$request_uri;")
    (found,) = [each for each in blocks.web.examine([Domain("b.live.test")]) if each.level is not Level.OK]
    assert found.level is Level.PROBLEM
    assert f"{place}:2" in found.text
    assert f"{place}:2" in found.fix


def test_doctor_of_a_stopped_nginx_says_so_once(blocks: RealNginx) -> None:
    blocks.stop()
    found = [each for each in blocks.web.examine() if each.level is not Level.OK]
    assert [(each.fix, "nobody listens" in each.text) for each in found] == [("systemctl start nginx", True)]


def test_doctor_sees_an_nginx_that_answers_and_could_not_be_reloaded(blocks: RealNginx) -> None:
    (blocks.root / "nginx.pid").write_text("")
    if os.geteuid() == 0:
        (found,) = [each for each in blocks.web.examine() if each.level is not Level.OK]
        assert (found.level, "names no nginx master" in found.text) == (Level.WARNING, True)
    assert Master(blocks.settings, blocks.web._command).pid() is None
    blocks.web.require_challenge(NAME)


def test_doctor_without_rights_on_the_challenges_says_that_it_was_not_tried(blocks: RealNginx) -> None:
    settings = replace(blocks.settings, challenges=blocks.root / "no" / "such")
    texts = [each.text for each in Nginx(settings).examine() if "was not tried" in each.text]
    assert len(texts) == 1
    assert not (blocks.root / "no").exists()


def test_our_own_handshake_is_no_first_visit_for_the_lua_of_nginx(tmp_path: Path) -> None:
    with real_nginx(tmp_path, mode=Mode.LUA) as host:
        host.settings.socket.parent.mkdir(exist_ok=True)
        with serving(status("404 Not Found"), listener=listening_at(host.settings.socket)) as daemon:
            host.web.require_tls()
            assert host.look("stranger.example.com") is None
            wait_for(lambda: len(daemon.paths) == 1)
        assert daemon.paths == ["/certificate/stranger.example.com"]


def test_our_own_handshake_is_no_miss_for_the_daemon() -> None:
    line = 'cannot load certificate "/var/lib/certctl/live/{}/current/fullchain.pem": BIO_new_file() failed'
    assert missed_name(line.format(NAME).encode()) == NAME.name
    assert missed_name(line.format(CHECK_DOMAIN).encode()) is None


def test_a_block_of_the_loopback_alone_is_in_nobodys_way(tmp_path: Path) -> None:
    """As monitoring asks for it; the CA does not come there, and is answered by the block for all addresses."""
    with real_nginx(tmp_path, base=False, start=False) as host:
        host.settings = replace(host.settings, listen=("*",))
        if outward_address(host.settings) is None:
            pytest.skip("NOT PROVED: what answers on this host's own address; it needs a network")
        foreign_text = f"server {{ listen 127.0.0.1:{host.settings.http_port}; location / {{ return 404; }} }}\n"
        host.foreign(foreign_text)
        for preview in host.web.preview_base():
            preview.path.write_text(preview.text)
        host.start()
        host.web.require_challenge(NAME)
        host.foreign(f"server {{ listen {host.settings.http_port}; {EVERYONE} return 404; }}\n{foreign_text}")
        host.web.force_reload()
        assert refusal(host.web).slug == "nginx-challenge-intercepted"


def test_whoever_is_asked_to_slow_down_asks_again(tmp_path: Path) -> None:
    """All probes come from one address, of which an operator's limit lets five through in a second."""
    with real_nginx(tmp_path, extra="limit_req zone=theirs;") as host:
        for _ in range(3):
            host.web.require_challenge(NAME)
