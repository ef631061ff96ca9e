"""What happens to a host in its life, on Debian 12 in mode lua: kills, reloads, moves, upgrades, a restore.

The tests share one host, which each leaves as it found it: whoever is a customer is served, and first visitors are.
The moves follow each other.
"""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from tests.host.documents import ROOT, Block, section
from tests.host.hosts import booted, first_visitor_lines
from tests.host.image import BOOKWORM, CHECKOUT, Image, check_out, installed
from tests.host.machine import Machine, machine
from tests.host.test_tutorials import (
    KEYS_OUT_OF_REACH,
    PAGE,
    application,
    journal,
    visit_by_http,
    visit_by_https,
    walk_first_visitor,
)
from tests.host.walk import CONFIG, Walk, doctor, problems

BACKUP = ROOT / "docs/how-to/backup-and-restore.md"
UPGRADE = ROOT / "docs/how-to/upgrade-and-remove.md"
KNOWN = "status.customer.com"
DAEMON = "certctl-serve.service"
_numbers = count()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    lines = [*first_visitor_lines(), "apt-get install -y sqlite3"]  # what the page on backups asks for
    return installed(BOOKWORM, lines, tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def host(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with booted(image, tmp_path_factory.mktemp("life")) as host:
        host.net.approve(KNOWN)
        application(host)
        walk_first_visitor(host, "lua", examines=True)
        yield host


def stranger(host: Machine) -> str:
    """Return a new customer, of whom nothing is known yet."""
    name = f"n{next(_numbers)}.visited.com"
    host.net.approve(name)
    return name


def is_served(host: Machine, name: str = KNOWN) -> bool:
    """Visit a page; pytest shows what was said of an assertion that failed."""
    seen = host.net.visit(f"https://{name}/")
    is_right = (seen.status, seen.page.strip()) == (200, PAGE)
    if not is_right:
        print(seen)
    return is_right


def test_a_killed_daemon_is_back_for_the_next_first_visitor(host: Machine) -> None:
    before = host.main_pid(DAEMON)
    host.must(f"kill -9 {before}")
    assert is_served(host)
    visit_by_https(host, stranger(host), "lua")
    assert host.main_pid(DAEMON) not in {0, before}
    assert "status=9/KILL" in journal(host)
    assert problems(host) == []


def test_a_daemon_that_hangs_is_ended_by_the_watchdog_and_nobody_who_is_live_waits(host: Machine) -> None:
    before = host.main_pid(DAEMON)
    host.must(f"kill -STOP {before}")
    assert is_served(host)
    host.must("systemctl reload nginx")
    assert is_served(host)
    host.until("the watchdog has bitten", lambda: host.main_pid(DAEMON) not in {0, before})
    assert "Watchdog timeout" in journal(host)
    host.until("the daemon is there again", lambda: host.run(f"systemctl is-active {DAEMON}").code == 0)
    visit_by_https(host, stranger(host), "lua")
    visit_by_http(host, stranger(host))


def test_nginx_is_reloaded_while_first_visitors_wait(host: Machine) -> None:
    names = [stranger(host) for _ in range(3)]
    with ThreadPoolExecutor() as pool:
        visits = [pool.submit(host.net.visit, f"http://{name}/") for name in names]
        host.must("systemctl reload nginx")
        seen = [visit.result() for visit in visits]
    assert [(each.status, each.page.strip()) for each in seen] == [(200, PAGE)] * 3, (seen, journal(host))


def test_a_stopped_host_starts_as_it_was(host: Machine) -> None:
    host.stop()
    host.start()
    assert is_served(host)
    visit_by_https(host, stranger(host), "lua")
    assert problems(host) == []


@pytest.mark.parametrize(
    ("old", "mode"),
    [
        ("lua", "shared"), ("shared", "blocks"), ("blocks", "lua"),
        ("lua", "blocks"), ("blocks", "shared"), ("shared", "lua"),
    ],
)  # fmt: skip
def test_a_move_to_another_mode_leaves_nobody_in_the_dark(host: Machine, old: str, mode: str) -> None:
    assert f'mode = "{old}"' in host.read(CONFIG)
    with ThreadPoolExecutor() as pool:
        moving = pool.submit(host.must, f"certctl init --mode {mode}")
        handshakes = 0
        while not moving.done():
            assert is_served(host)
            handshakes += 1
    moved = moving.result()
    assert handshakes
    for command in _next_commands(moved.out):
        host.must(command)
    assert is_served(host)
    assert problems(host) == []
    visit_by_http(host, stranger(host))
    visit_by_https(host, stranger(host), mode)


def _next_commands(said: str) -> list[str]:
    """Return the commands that the last line of ``init`` names."""
    line = next(line for line in said.splitlines() if line.lstrip().startswith("Next"))
    found = re.findall(r"certctl (?:timer install|serve --install)|systemctl restart certctl-serve", line)
    assert found, said
    return found


def test_a_killed_move_darkens_nobody_and_the_next_command_finishes_it_or_takes_it_back(host: Machine) -> None:
    mark = "/var/lib/certctl-sites/.moving"
    host.run(f"certctl init --mode blocks & until [ -e {mark} ]; do :; done; kill -9 $!; wait")
    assert host.path(mark).exists()
    assert is_served(host)
    assert any("certctl reconcile" in line for line in problems(host))
    host.must("systemctl start certctl-renew.service")  # which may not end it
    host.must("systemctl reload nginx")
    assert host.path(mark).exists()
    assert is_served(host)
    host.must("certctl reconcile")
    assert not host.path(mark).exists()
    assert is_served(host)
    host.must("certctl init --mode lua")
    host.must("certctl timer install && certctl serve --install")
    assert problems(host) == []
    assert is_served(host)
    visit_by_https(host, stranger(host), "lua")


def test_a_store_that_was_lost_takes_nobody_out_and_takes_all_in_again_without_an_order(host: Machine) -> None:
    gone = stranger(host)
    visit_by_https(host, gone, "lua")
    customers = names(host)
    orders = host.net.orders()
    host.must("mkdir -m 0700 /root/lost && mv /var/lib/certctl/certctl.db* /root/lost/")
    host.must("systemctl restart certctl-serve.service")
    host.must("systemctl start certctl-renew.service")
    assert is_served(host)
    assert "store-knows-less" in host.must("certctl reconcile", 9).text
    assert any("--adopt" in line for line in problems(host))
    assert is_served(host)
    host.must(f"certctl remove {gone}")
    assert not host.net.visit(f"https://{gone}/").page
    host.must("certctl reconcile --adopt")
    assert (problems(host), host.net.orders()) == ([], orders)
    assert is_served(host)
    assert names(host) == customers - {gone}
    host.must(f"certctl renew {KNOWN} --force")
    assert is_served(host)
    visit_by_https(host, stranger(host), "lua")


def names(host: Machine) -> set[str]:
    """Return the names in the store."""
    return {row["domain"] for row in json.loads(host.must("certctl status --json").out)["results"]}


def test_certctl_is_upgraded_over_a_running_daemon(host: Machine) -> None:
    host.path(CHECKOUT).mkdir(exist_ok=True)
    check_out(host.path(CHECKOUT))
    version = host.path(f"{CHECKOUT}/certctl/__init__.py")
    version.write_text(re.sub(r'(__version__ = "[^"]+)"', r'\1.post1"', version.read_text()))
    newer = host.must(f"sed -n 's/^__version__ = \"\\(.*\\)\"/\\1/p' {CHECKOUT}/certctl/__init__.py").out.strip()
    install, daemon = _upgrading()
    for line in install:
        host.must(f"cd {CHECKOUT} && {line}")
        assert is_served(host)
    assert host.must("certctl --version").out.split()[-1] == newer
    visit_by_https(host, stranger(host), "lua")  # the old daemon still answers, beside the new files
    for line in daemon:
        host.must(line)
    visit_by_https(host, stranger(host), "lua")
    visit_by_http(host, stranger(host))
    assert problems(host) == []


def _upgrading() -> tuple[list[str], list[str]]:
    """Return the lines that upgrade, and those for a host with a daemon."""
    first, second = [block.commands for block in section(UPGRADE, "Upgrade") if block.commands]
    return first, second


def test_units_are_taken_away_and_the_sites_stay(host: Machine) -> None:
    host.must("certctl serve --uninstall")
    host.must("certctl timer remove")
    assert host.run("systemctl list-unit-files --no-legend 'certctl-*'").out == ""
    host.must("systemctl reload nginx")
    assert is_served(host)
    assert any(f["level"] != "ok" and "timer install" in f["fix"] for f in doctor(host))
    host.must("certctl serve --install")
    host.must("certctl timer install")
    assert problems(host) == []
    visit_by_https(host, stranger(host), "lua")


def test_a_backup_is_restored_on_a_new_host(
    host: Machine, image: Image, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for line in _lines(section(BACKUP, "What to back up")):
        host.must(line)
    backups = {path.name: path.read_bytes() for path in host.path("/var/backups").iterdir()}
    orders = host.net.orders()
    host.stop()
    try:
        with machine(image, host.net, tmp_path_factory.mktemp("restored")) as restored:
            for name, content in backups.items():
                restored.path(f"/root/{name}").write_bytes(content)
            application(restored)
            _restore(restored, backups)
            assert problems(restored) == []
            assert is_served(restored)
            assert host.net.orders() == orders
    finally:
        host.start()


def _restore(host: Machine, backups: dict[str, bytes]) -> None:
    date = re.search(r"certctl-(\S+)\.db", " ".join(backups))
    assert date
    blocks = section(BACKUP, "Restore")
    for line in _lines(blocks):
        host.must(line.replace("certctl-2026-11-23", f"certctl-{date[1]}"))
    Walk(host).follow(blocks, [KEYS_OUT_OF_REACH])


def _lines(blocks: list[Block]) -> list[str]:
    """Return the lines of the shell's blocks, which have no prompt."""
    return [line for block in blocks if block.language == "sh" for line in block.text.splitlines()]
