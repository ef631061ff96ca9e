"""Asked to stop: whoever waits stops waiting, and nobody is blamed for what we ended ourselves."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certctl.ca.engines.certbot.log import read_result
from certctl.ca.engines.certbot.plugin_socket import Problem
from certctl.ca.errors import classify
from certctl.domain import Domain
from certctl.errors import Interrupted
from certctl.io.clock import SystemClock
from certctl.io.interrupt import stopping
from certctl.io.locks import HostLocks, inheritable_lock

LONG = timedelta(seconds=600)
NAME = "status.example.com"


@pytest.fixture(autouse=True)
def asked_again() -> Iterator[None]:
    yield
    stopping.clear()


def test_a_worker_that_waits_for_a_domain_stops_waiting(tmp_path: Path) -> None:
    locks = HostLocks(tmp_path, LONG)

    def wait() -> None:
        with locks.domain(Domain(NAME)):
            raise AssertionError("it is held")

    with locks.domain(Domain(NAME)), ThreadPoolExecutor() as pool:
        is_interrupted(pool.submit(wait))


def test_a_worker_that_waits_for_a_killed_runs_certbot_stops_waiting(tmp_path: Path) -> None:
    def wait() -> None:
        with inheritable_lock(tmp_path / "lock", LONG, "it"):
            raise AssertionError("it is held")

    with inheritable_lock(tmp_path / "lock", LONG, "it"), ThreadPoolExecutor() as pool:
        is_interrupted(pool.submit(wait))


def test_a_worker_that_pauses_wakes() -> None:
    with ThreadPoolExecutor() as pool:
        is_interrupted(pool.submit(SystemClock().pause, LONG))


def test_a_free_lock_is_given_also_to_a_run_that_ends_because_it_may_have_to_put_things_back(
    tmp_path: Path,
) -> None:
    stopping.set()
    with HostLocks(tmp_path, LONG).domain(Domain(NAME)), inheritable_lock(tmp_path / "lock", LONG, "it"):
        pass


@pytest.mark.parametrize("code", [1, -15, None])
def test_a_certbot_that_we_ended_is_no_failure_of_the_cas(code: int | None) -> None:
    stopping.set()
    error = classify(read_result(code, "", ""), NAME, datetime(2027, 1, 1, tzinfo=UTC))
    assert (error.slug, error.exit_code, error.quota_used) == ("interrupted", 130, False)


def test_what_the_ca_refuted_counts_although_we_were_asked_to_stop() -> None:
    stopping.set()
    found = read_result(1, "", "", failed=(Problem("dns", "NXDOMAIN", NAME),))
    error = classify(found, NAME, datetime(2027, 1, 1, tzinfo=UTC))
    assert (error.slug, error.quota_used) == ("ca-dns", True)


def is_interrupted(waiting: "Future[None]") -> None:
    """Ask this process to stop once the worker waits, and see that it hears of it soon."""
    time.sleep(0.1)  # no race: a worker that comes later is interrupted all the same
    assert not waiting.done()
    stopping.set()
    with pytest.raises(Interrupted):
        waiting.result(timeout=120)
