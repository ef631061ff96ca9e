"""What an error calls next, typed on a host: for the errors that take a real nginx, its unit and its workers."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.host.documents import README, section
from tests.host.hosts import booted
from tests.host.image import BOOKWORM, Image
from tests.host.machine import Machine
from tests.host.walk import Walk, problems

CUSTOMER = "status.customer.com"
FOREIGN = "/etc/nginx/conf.d/foreign.conf"


@pytest.fixture(scope="module")
def host(by_readme: Callable[[str], Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with booted(by_readme(BOOKWORM), tmp_path_factory.mktemp("next")) as host:
        host.net.approve(CUSTOMER, "stopped.visited.com", "taken.visited.com")
        Walk(host).follow(section(README, "On your server"))
        host.write("/var/www/statuspage/index.html", "All systems operational")
        yield host


def refused(host: Machine, line: str, code: int, slug: str) -> dict[str, Any]:
    """Type a line that has to end with an error, and return the error."""
    document = json.loads(host.must(f"{line} --json", code).out)
    error: dict[str, Any] = document.get("error") or document["results"][0]["error"]
    assert error["code"] == slug, error
    assert error["next"][-1] == f"certctl explain {slug}"
    host.must(error["next"][-1])
    return error


def steps(error: dict[str, Any]) -> list[str]:
    """Return what the error calls next, without its explanation."""
    return [str(step) for step in error["next"][:-1]]


def test_nginx_not_running_leads_to_a_running_one(host: Machine) -> None:
    host.must("systemctl stop nginx")
    for step in steps(refused(host, "certctl issue stopped.visited.com", 7, "nginx-not-running")):
        host.must(step)
    host.must("certctl issue stopped.visited.com")
    assert problems(host) == []


def test_nginx_challenge_intercepted_leads_to_the_file_that_does_it(host: Machine) -> None:
    host.write(FOREIGN, "server { listen 80; server_name ~^(.+)$; return 301 https://$host$request_uri; }\n")
    host.must("systemctl reload nginx")
    error = refused(host, "certctl issue taken.visited.com", 7, "nginx-challenge-intercepted")
    assert any(FOREIGN in line for line in error["seen"]), error
    assert [step for step in steps(error) if step == "certctl doctor"], error
    assert FOREIGN in host.must("certctl doctor", 1).out
    host.must(f"rm {FOREIGN} && systemctl reload nginx")
    host.must("certctl issue taken.visited.com")


def test_keys_out_of_reach_leads_through_the_line_it_shows_to_the_move(host: Machine) -> None:
    error = refused(host, "certctl init --mode shared", 10, "keys-out-of-reach")
    (line,) = [line for line in error["expected"] if line.startswith("user ")]
    Walk(host).edit_nginx(line)
    for step in steps(error)[1:]:  # the first was to put the line there
        host.must(step)
    host.must(f"certctl confirm {CUSTOMER}")
