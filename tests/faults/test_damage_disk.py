"""Calls that fail on one place of the disk, met by each command: a quota, a sick disk, a read-only mount.

What a run says is one exit code and one slug; nobody who is live notices; the same command ends well once the disk
is well, and the CA makes nothing twice.
"""

import errno
import shutil
from collections.abc import Mapping
from itertools import count

import pytest

from tests.faults.faulty import ANY, Call, Fault, FaultyHost

pytestmark = pytest.mark.e2e

LIVE, SITES, CONF = "var/lib/certctl/live", "var/lib/certctl-sites", "etc/nginx/certctl.d"
ACME, STORE, LOG = "var/lib/certctl/acme", "var/lib/certctl/certctl.db", "var/lib/certctl/certctl.db-wal"
UNWRITABLE, UNREACHABLE = "state-unwritable", "store-unreachable"
VERBS = ("issue", "renew", "reconcile", "remove")
_numbers = count()


def only(place: str, number: int, calls: Call, error: int = errno.EIO) -> Fault:
    """Let one call fail, such as of a disk with a bad sector."""
    return Fault(place, calls, error, number, number)


# Which commands fail; the others do not meet the calls, or do without.
IN_LIVE = {
    Fault(LIVE, Call.WRITE, errno.EDQUOT): "issue renew reconcile",
    only(LIVE, 3, Call.FLUSH): "issue renew",
    only(LIVE, 2, Call.RENAME): "issue renew",
    Fault(LIVE, Call.LINK, errno.EROFS): "issue renew reconcile remove",
    Fault(LIVE, Call.MKDIR, errno.EDQUOT): "issue renew reconcile",
    Fault(LIVE, ANY, errno.EROFS): "issue renew reconcile remove",
}
IN_SITES = {
    Fault(SITES, Call.WRITE, errno.EDQUOT): "issue renew reconcile",
    only(SITES, 2, Call.FLUSH): "issue renew",
    only(SITES, 2, Call.RENAME): "issue renew",
    Fault(SITES, Call.LINK, errno.EROFS): "issue renew reconcile",
    Fault(SITES, Call.MKDIR, errno.EDQUOT): "issue renew reconcile",
    Fault(SITES, ANY, errno.EROFS): "issue renew reconcile remove",
}
IN_CONF = {
    Fault(CONF, Call.WRITE, errno.EDQUOT): "issue renew reconcile remove",
    only(CONF, 3, Call.FLUSH): "issue renew remove",
    only(CONF, 2, Call.RENAME): "issue renew remove",
    Fault(CONF, Call.LINK, errno.EIO): "remove",
    Fault(CONF, ANY, errno.EROFS): "issue renew reconcile remove",
}
IN_STATE = {
    Fault(ACME, Call.WRITE, errno.EDQUOT): "issue renew",
    only(ACME, 4, Call.WRITE): "issue renew",
    only(ACME, 2, Call.RENAME): "issue renew",
    Fault(ACME, Call.LINK, errno.EROFS): "issue renew",
    Fault(ACME, Call.MKDIR, errno.EDQUOT): "issue renew",
    Fault(ACME, ANY, errno.EROFS): "issue renew",
}
IN_STORE = {
    Fault(STORE, ANY, errno.EROFS): "issue renew reconcile remove",
    Fault(LOG, Call.WRITE, errno.EDQUOT): "issue renew reconcile remove",
    Fault(LOG, Call.FLUSH, errno.EIO): "issue renew reconcile remove",
    only(LOG, 6, Call.FLUSH): "issue",
    Fault("var/lib/certctl", ANY, errno.EROFS): "issue renew reconcile remove",
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
    failed = {fault: life(faulty, fault, mode) for fault in faults}
    assert failed == {fault: dict.fromkeys(verbs.split(), slug) for fault, verbs in faults.items()}


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
    before = host.leaf(name)
    with host.failing(fault):
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
