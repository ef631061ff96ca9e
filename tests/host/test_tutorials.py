"""Both tutorials, from their first line to their last, on real hosts in every mode."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.host.documents import FIRST_DOMAIN, FIRST_VISITOR, section
from tests.host.hosts import booted
from tests.host.image import BOOKWORM, TRIXIE, Image
from tests.host.machine import Machine
from tests.host.walk import Walk, doctor, problems, serial

PAGE = "All systems operational"
CUSTOMER = "status.customer.com"
KEYS_OUT_OF_REACH = 10


@pytest.mark.parametrize("mode", ["blocks", "shared", "lua"])
@pytest.mark.parametrize("suite", [BOOKWORM, TRIXIE])
def test_both_tutorials_from_the_first_line_to_the_last(
    suite: str, mode: str, by_first_visitor: Callable[[str], Image], tmp_path: Path
) -> None:
    with booted(by_first_visitor(suite), tmp_path, retry_after=suite == BOOKWORM) as host:
        host.net.approve(CUSTOMER)
        walk_first_domain(host)
        application(host)
        walk_first_visitor(host, mode)
        renewed_by_the_unit(host)
        stopped_and_started(host)


def walk_first_domain(host: Machine) -> None:
    walk = Walk(host)
    ran = walk.follow(section(FIRST_DOMAIN, "2. On a server"))
    assert any("Ready in" in each.out for each in ran), [each.text for each in ran]
    assert problems(host) == []
    page = host.net.visit(f"https://{CUSTOMER}/")
    assert (page.status, page.page.strip()) == (200, PAGE), page


def walk_first_visitor(host: Machine, mode: str, *, examines: bool = False) -> None:
    walk = Walk(host, {"lua": mode}, examines=examines)
    walk.follow(section(FIRST_VISITOR, "2. Say who you are"))
    doctor(host)
    if mode != "blocks":
        walk.follow(section(FIRST_VISITOR, "3. One server block"), [KEYS_OUT_OF_REACH])
        doctor(host)
    walk.follow(section(FIRST_VISITOR, "4. The daemon"))
    assert problems(host) == []
    host.net.approve("first.visited.com", "second.visited.com")
    visit_by_http(host, "first.visited.com")
    visit_by_https(host, "second.visited.com", mode)
    walk.follow(section(FIRST_VISITOR, "5. The first visitor"))
    walk.follow(section(FIRST_VISITOR, "6. For real"))
    assert problems(host) == []


def application(host: Machine) -> None:
    """Run the operator's application where the page says that it listens."""
    host.write("/srv/application/index.html", PAGE)
    unit = (
        "[Service]\nExecStart=/usr/bin/python3 -m http.server 3000 --bind 127.0.0.1 --directory /srv/application\n"
    )
    host.write("/etc/systemd/system/application.service", f"{unit}[Install]\nWantedBy=multi-user.target\n")
    host.must("systemctl enable --now application")
    host.must("curl --silent --fail --retry 60 --retry-delay 1 --retry-all-errors http://127.0.0.1:3000/")


def visit_by_http(host: Machine, name: str) -> None:
    seen = host.net.visit(f"http://{name}/")
    assert (seen.status, seen.page.strip(), seen.url) == (200, PAGE, f"https://{name}/"), (seen, journal(host))
    assert f"issued domain={name}" in journal(host)


def visit_by_https(host: Machine, name: str, mode: str) -> None:
    """Come by TLS first: it waits in mode lua, the second try works in shared, and blocks has nobody to tell."""
    seen = host.net.visit(f"https://{name}/")
    if mode == "lua":
        assert (seen.ok, seen.page.strip()) == (True, PAGE), (seen, journal(host))
        return
    assert not seen.ok, seen
    if mode == "shared":
        host.until(f"{name} is served", lambda: host.net.visit(f"https://{name}/").page.strip() == PAGE)
    else:
        visit_by_http(host, name)


def renewed_by_the_unit(host: Machine) -> None:
    """The CA wants one certificate renewed since yesterday; the timer's service does it, and nginx shows it."""
    before = serial(host, CUSTOMER)
    leaf = host.must(f"cat {live(host)}").out
    now = datetime.now(UTC)
    window = {"start": (now - timedelta(days=2)).isoformat(), "end": (now - timedelta(days=1)).isoformat()}
    host.net.suggest_renewal(leaf, json.dumps({"suggestedWindow": window}))
    host.must("systemctl start certctl-renew.service")
    assert serial(host, CUSTOMER) != before, host.journal("certctl-renew")
    host.must(f"certctl confirm {CUSTOMER}")
    assert f"renewed domain={CUSTOMER}" in host.journal("certctl-renew")


def live(host: Machine) -> str:
    """Return where the chain of the first customer lies."""
    place = f"{CUSTOMER}/current/fullchain.pem"
    return host.run(f"ls /var/lib/certctl/live/{place} /var/lib/certctl-sites/{place} 2>/dev/null").out.split()[0]


def stopped_and_started(host: Machine) -> None:
    host.must("systemctl stop certctl-serve.service")
    assert host.run("systemctl is-failed certctl-serve.service").out.strip() == "inactive", journal(host)
    assert "stopping: no new names" in journal(host)
    host.stop()
    host.start()
    assert problems(host) == []
    for name in (CUSTOMER, "first.visited.com"):
        seen = host.net.visit(f"https://{name}/")
        assert (seen.status, seen.page.strip()) == (200, PAGE), seen
    host.net.approve("third.visited.com")
    visit_by_http(host, "third.visited.com")


def journal(host: Machine) -> str:
    return host.journal("certctl-serve")
