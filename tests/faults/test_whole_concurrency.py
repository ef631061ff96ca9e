"""Many runs at once on one host: the same name, many names, opposite wishes, and a lock that is not let go."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.app.result import exit_code
from certctl.io.locks import HostLocks
from certctl.stories.issue import issue
from tests.fakes.world import FakeWorld
from tests.faults.whole import Watch, ended, slowed, start, until

pytestmark = pytest.mark.e2e


def test_two_runs_for_one_name_make_one_order_and_both_end_well(watch: Watch) -> None:
    (name,) = watch.customers("twice", 1)
    orders = watch.sandbox.orders()
    runs = [ended(run) for run in [start(watch.sandbox, "issue", name, "--json") for _ in range(2)]]
    assert [run.code for run in runs] == [0, 0], [run.err for run in runs]
    assert sorted(run.json["results"][0]["changed"] for run in runs) == [False, True]
    assert watch.sandbox.orders() - orders == 1
    watch.all_is_well([name])


def test_twenty_names_in_one_run_all_go_live(watch: Watch) -> None:
    names = watch.customers("crowd", 20)
    orders = watch.sandbox.orders()
    ran = watch.sandbox.must("issue", *names, "--jobs", "8", "--json")
    assert ran.json["summary"] == {"total": 20, "ok": 20, "failed": 0, "changed": 20}
    assert watch.sandbox.orders() - orders == 20
    watch.all_is_well(names)


def test_what_was_removed_while_it_was_renewed_stays_removed(watch: Watch) -> None:
    (name,) = watch.customers("contested", 1)
    watch.sandbox.must("issue", name)
    work = watch.state / "acme/work" / name
    late = slowed("openat", watch.root / "run/certctl/locks/nginx.lock", 2)
    renewing = start(watch.sandbox, "renew", name, "--force", "--json", prefix=late)
    until(work.exists)
    assert watch.sandbox.must("remove", name, "--json").json["results"][0]["changed"], "it waited for the CA"
    ran = ended(renewing)
    assert (ran.code, ran.error["code"]) == (10, "unknown-domain"), ran.out
    assert not watch.is_served(name)
    assert name not in watch.stored()
    watch.all_is_well([])


def test_a_run_waits_for_a_lock_and_goes_on_when_it_is_let_go(watch: Watch) -> None:
    (name,) = watch.customers("patient", 1)
    orders = watch.sandbox.orders()
    with held(watch.root / f"run/certctl/locks/domains/{name}.lock"):
        run = start(watch.sandbox, "issue", name)
        until(lambda: threads(run.pid) > 1)
        assert run.poll() is None
        assert watch.sandbox.orders() == orders
    assert ended(run).code == 0
    watch.all_is_well([name])


def test_a_lock_that_is_not_let_go_is_exit_8_and_names_the_process(tmp_path: Path) -> None:
    fake = FakeWorld(tmp_path)
    domain = fake.customer("status.example.com")
    world = replace(fake.world, locks=HostLocks(tmp_path, timedelta(seconds=0.2)))
    (journey,) = fake.journeys(domain)
    with held(tmp_path / f"{domain.stem}.lock"):
        issue([journey], world)
    assert exit_code([journey.result]) == 8
    assert journey.error
    assert f"process {os.getpid()}" in journey.error.message
    assert fake.ca.orders == 0
    (again,) = fake.journeys(domain)
    issue([again], world)
    assert again.error is None


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock file as another run would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def threads(pid: int) -> int:
    """Count the threads of a process: a name has set out when there are two."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))
