"""What docs/how-to/when-something-was-lost.md says to type, typed after the damage that each part is about."""

import errno
import shlex
import shutil
import subprocess
from datetime import timedelta
from itertools import count

import pytest

from tests.faults.faulty import Call, Fault, FaultyHost
from tests.host.documents import ROOT, commands

pytestmark = pytest.mark.e2e

PAGE = ROOT / "docs/how-to/when-something-was-lost.md"
_numbers = count()


def typed(host: FaultyHost, title: str) -> None:
    """Type the commands of a part of the page, each of which must end well."""
    for line in commands(PAGE, title):
        first, *rest = shlex.split(line)
        if first == "certctl":
            ran = host.certctl(*rest)
            assert ran.code == 0, f"{line}: {ran.out}{ran.err}"
        else:
            here = line.replace("/var/lib/certctl", str(host.state))
            subprocess.run(["sh", "-ec", here], check=True)


def fresh(host: FaultyHost) -> str:
    """Make a name a customer's."""
    (name,) = host.customers(f"lost{next(_numbers)}-", 1)
    return name


def test_a_store_that_is_no_database_any_more_is_made_anew_of_what_nginx_serves(faulty: FaultyHost) -> None:
    before, orders = faulty.stored(), faulty.sandbox.orders()
    for part in faulty.state.glob("certctl.db*"):
        part.unlink()
    (faulty.state / "certctl.db").write_bytes(b"no database" * 10_000)
    assert faulty.ends("status") == "store-unreachable"
    typed(faulty, "The store")
    served = {name: leaf for name, leaf in before.items() if faulty.leaf(name)}
    assert faulty.stored() == served
    assert faulty.sandbox.orders() == orders
    faulty.nobody_is_harmed()


def spoil_mirror(host: FaultyHost) -> None:
    link = host.state / "live" / host.canary / "current"
    (link / "privkey.pem").chmod(0o644)
    shutil.rmtree(host.root / "var/lib/certctl-sites" / host.neighbour)
    (host.sandbox.layout.conf_dir / f"{host.neighbour}.conf").unlink()


def test_deleted_pairs_and_blocks_and_open_keys_are_put_right(faulty: FaultyHost) -> None:
    orders = faulty.sandbox.orders()
    spoil_mirror(faulty)
    assert faulty.open_keys()
    typed(faulty, "Pairs, server blocks or their rights")
    assert (faulty.sandbox.layout.conf_dir / f"{faulty.neighbour}.conf").exists()
    assert faulty.sandbox.orders() == orders
    faulty.nobody_is_harmed()


@pytest.mark.parametrize("title", ["The disk", "The clock"])
def test_what_a_sick_disk_or_a_wrong_clock_kept_from_being_renewed_is_renewed_after_it(
    faulty: FaultyHost, title: str
) -> None:
    name = fresh(faulty)
    assert faulty.ends("issue", name) == "ok"
    assert faulty.ends("renew") == "ok", "nothing else is due"
    faulty.makes_due(name)
    made, before = faulty.issued, faulty.leaf(name)
    if title == "The disk":
        with faulty.failing(Fault("var/lib/certctl/live", Call.WRITE, errno.EDQUOT)):
            assert faulty.ends("renew", name) == "state-unwritable"
    else:
        with faulty.by_the_clock(timedelta(days=365)):
            assert faulty.ends("renew", name) == "clock-wrong"
    typed(faulty, title)
    assert faulty.leaf(name) != before
    assert faulty.issued - made == 1
    faulty.nobody_is_harmed()


def test_after_the_repair_of_a_file_that_broke_nginx_everybody_is_published(faulty: FaultyHost) -> None:
    name, theirs = fresh(faulty), faulty.sandbox.layout.conf_dir / "theirs.conf"
    theirs.write_text("server { no such directive\n")
    try:
        assert faulty.ends("issue", "--mode", "blocks", name) == "nginx-already-broken"
    finally:
        theirs.unlink()
    typed(faulty, "nginx")
    assert faulty.leaf(name)
    faulty.nobody_is_harmed()


def test_without_its_account_the_next_order_registers_one(faulty: FaultyHost) -> None:
    shutil.rmtree(faulty.state / "acme/accounts")
    name = fresh(faulty)
    assert faulty.ends("issue", name) == "ok"
    assert faulty.leaf(name)


def test_where_no_move_was_cut_short_what_would_end_it_changes_nothing(faulty: FaultyHost) -> None:
    typed(faulty, "A move between modes")
    faulty.nobody_is_harmed()
