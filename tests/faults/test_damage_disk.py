"""Calls that fail on one place of the disk, met by each command: a quota, a sick disk, a read-only mount.

What a run says is one exit code and one slug; nobody who is live notices; the same command ends well once the disk
is well, and the CA makes nothing twice.
"""

import errno
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from itertools import count

import pytest

from tests.faults.faulty import ANY, Call, Fault, FaultyHost
from tests.faults.killing import is_this_commits

pytestmark = pytest.mark.e2e

LIVE, SITES, CONF = "var/lib/certctl/live", "var/lib/certctl-sites", "etc/nginx/certctl.d"
STATE, ACME = "var/lib/certctl", "var/lib/certctl/acme"
STORE, LOG = "var/lib/certctl/certctl.db", "var/lib/certctl/certctl.db-wal"
MADE = f"{ACME}/work/{{name}}/fullchain.pem"  # what the CA has made, before the store has it
UNWRITABLE, UNREACHABLE = "state-unwritable", "store-unreachable"
VERBS = ("issue", "renew", "reconcile", "remove")
_numbers = count()
_SHARES = 3

# Which commands fail; the others do not meet the calls, or do without.
IN_LIVE = {
    Fault(LIVE, Call.WRITE, errno.EDQUOT): "issue renew reconcile",
    Fault(LIVE, Call.FLUSH): "issue renew reconcile remove",
    Fault(f"{LIVE}/{{name}}/current", Call.RENAME): "issue renew reconcile",
    Fault(LIVE, Call.LINK, errno.EROFS): "issue renew reconcile remove",
    Fault(LIVE, Call.MKDIR, errno.EDQUOT): "issue renew reconcile",
    Fault(LIVE, ANY, errno.EROFS): "issue renew reconcile remove",
    Fault(LIVE, ANY, errno.EDQUOT, after=MADE): "issue renew",
}
IN_SITES = {
    Fault(SITES, Call.WRITE, errno.EDQUOT): "issue renew reconcile",
    Fault(SITES, Call.FLUSH): "issue renew reconcile remove",
    Fault(f"{SITES}/{{name}}/current", Call.RENAME): "issue renew reconcile",
    Fault(SITES, Call.LINK, errno.EROFS): "issue renew reconcile",
    Fault(SITES, Call.MKDIR, errno.EDQUOT): "issue renew reconcile",
    Fault(SITES, ANY, errno.EROFS): "issue renew reconcile remove",
}
IN_CONF = {
    Fault(CONF, Call.WRITE, errno.EDQUOT): "issue renew reconcile remove",
    Fault(CONF, Call.FLUSH): "issue renew reconcile remove",
    Fault(f"{CONF}/{{name}}.conf", Call.RENAME): "issue reconcile",
    Fault(f"{CONF}/{{name}}.conf", Call.UNLINK): "remove",
    Fault(CONF, Call.LINK, errno.EIO): "remove",
    Fault(CONF, ANY, errno.EROFS): "issue renew reconcile remove",
}
IN_STATE = {
    Fault(ACME, Call.WRITE, errno.EDQUOT): "issue renew",
    Fault(ACME, Call.RENAME): "issue renew",
    Fault(ACME, Call.LINK, errno.EROFS): "issue renew",
    Fault(ACME, Call.MKDIR, errno.EDQUOT): "issue renew",
    Fault(ACME, ANY, errno.EROFS): "issue renew",
}
IN_STORE = {
    Fault(STORE, ANY, errno.EROFS): "issue renew reconcile remove",
    Fault(LOG, Call.WRITE, errno.EDQUOT): "issue renew reconcile remove",
    Fault(LOG, Call.FLUSH, errno.EIO): "issue renew reconcile remove",
    Fault(LOG, Call.FLUSH, after=MADE): "issue renew",
}


@pytest.mark.parametrize(
    ("faults", "mode", "slug"),
    [
        (IN_LIVE, "shared", "state-unwritable"),
        (IN_SITES, "blocks", "state-unwritable"),
        (IN_CONF, "blocks", "state-unwritable"),
        (IN_STATE, "shared", "state-unwritable"),
        (IN_STORE, "shared", "store-unreachable"),
    ],
    ids=["pairs behind the catch-all", "pairs of server blocks", "the include directory", "the state", "the store"],
)
def test_where_calls_fail_a_run_says_so_once_and_the_next_one_ends_well(
    faulty: FaultyHost, faults: Mapping[Fault, str], mode: str, slug: str
) -> None:
    tried = {
        fault: verbs for number, (fault, verbs) in enumerate(faults.items()) if is_this_commits(number, _SHARES)
    }
    failed = {fault: life(faulty, fault, mode) for fault in tried}
    assert failed == {fault: dict.fromkeys(verbs.split(), slug) for fault, verbs in tried.items()}


def test_where_the_whole_state_is_read_only_each_name_is_told_what_it_met(faulty: FaultyHost) -> None:
    """While a daemon has the store open, others can read it (https://sqlite.org/wal.html, "Read-Only Databases").

    So a run gets as far as its first write: of a name's files where they are not in place, else of the store.
    """
    with closing(sqlite3.connect(faulty.root / STORE)) as held:
        held.execute("SELECT count(*) FROM domain").fetchone()
        failed = life(faulty, Fault(STATE, ANY, errno.EROFS), "shared")
    assert failed == {
        "issue": UNREACHABLE,
        "renew": UNWRITABLE,
        "reconcile": f"{UNWRITABLE} {UNREACHABLE}",
        "remove": UNREACHABLE,
    }


@pytest.mark.parametrize(
    ("place", "error", "fix"),
    [
        (LIVE, errno.EDQUOT, "repquota -a"),
        (SITES, errno.EIO, "dmesg"),
        (CONF, errno.EROFS, f"findmnt --target {{}}/{CONF}"),
        (ACME, errno.ENOSPC, f"df -h {{}}/{ACME}"),
    ],
)
def test_the_doctor_to_whom_such_a_run_sends_sees_the_place(
    faulty: FaultyHost, place: str, error: int, fix: str
) -> None:
    with faulty.failing(Fault(place, Call.WRITE, error)):
        found = faulty.certctl("doctor", "--json").json["data"]
    told = [f["fix"] for f in found if f["text"].startswith(f"{faulty.root / place} takes no file: ")]
    assert told == [fix.format(faulty.root)]
    assert not faulty.leftovers()


def life(host: FaultyHost, fault: Fault, mode: str) -> dict[str, str]:
    """Take one customer through all commands, each first while calls fail and then again; return what failed."""
    (name,) = host.customers(f"sick{next(_numbers)}-", 1)
    ended = {verb: sick_then_well(host, fault, name, verb, mode) for verb in VERBS}
    return {verb: slug for verb, slug in ended.items() if slug != "ok"}


def sick_then_well(host: FaultyHost, fault: Fault, name: str, verb: str, mode: str) -> str:
    when, made = f"{verb} with {fault}", host.issued
    words = {"issue": ["issue", "--mode", mode, name], "reconcile": ["reconcile"]}.get(verb, [verb, name])
    if verb == "renew":
        host.makes_due(name)
    if verb == "reconcile":
        spoil(host, name, mode)
    # A name that is dark is not asked for: to the daemon that is a first visit, and none of its calls fails.
    before = host.leaf(name) if verb == "renew" else None
    with host.failing(fault.about(name)):
        slug = host.ends(*words)
        host.nobody_is_harmed(when)
        assert verb != "renew" or host.leaf(name), f"{when}: it was live before, and is dark"
    assert host.ends(*words) == "ok", when
    assert (host.leaf(name) is None) == (verb == "remove"), when
    assert verb != "renew" or host.leaf(name) != before, when
    assert host.issued - made == (verb in {"issue", "renew"}), f"{when}: the CA made another number of certificates"
    assert not host.leftovers(), when
    assert verb != "remove" or not host.traces(name), when
    return slug


def spoil(host: FaultyHost, name: str, mode: str) -> None:
    """Damage what nginx reads of a name, for ``reconcile`` to mend."""
    home = host.root / (LIVE if mode == "shared" else SITES) / name
    shutil.rmtree(home)
    (host.sandbox.layout.conf_dir / f"{name}.conf").unlink(missing_ok=True)
