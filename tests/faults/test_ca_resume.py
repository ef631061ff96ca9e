"""kill -9 at every step of the engine ``acme``: the CA signs once, whatever moment it was; real Pebble."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.ca.authority import Authority
from certctl.ca.settings import CaSettings
from certctl.domain import Domain
from certctl.errors import Busy, ConfigInvalid, RateLimited, Unreachable
from certctl.io.locks import inheritable_lock
from tests.fakes.ca_lab import CaLab, approval, ca_lab
from tests.faults.fake_acme import Answer, FakeAcme, Faults, page, problem

pytestmark = pytest.mark.e2e

# A certctl of its own that kills itself before its Nth step: a request to the CA, or a change among its files.
VICTIM = """
import os, signal, sys
from pathlib import Path
from certctl.ca.authority import Authority
from certctl.ca.settings import CaSettings
from certctl.errors import RateLimited, Unreachable
from tests.fakes.ca_lab import approval

directory, acme_dir, challenges, ca_file, name, last = sys.argv[1:]
settings = CaSettings(directory, Path(acme_dir), Path(challenges), Path(ca_file), profile="default")
party = Authority(settings, "acme")
steps = 0

def step(event, arguments):
    global steps
    ours = event in CHANGES and any(name in str(what) or challenges in str(what) for what in arguments)
    if ours or event == "http.client.send":
        steps += 1
        if steps == int(last):
            os.kill(os.getpid(), signal.SIGKILL)

CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}
sys.addaudithook(step)
party.obtain(approval(name))
"""
MOST_STEPS = 200
NAME = "resumed.example.com"


def run_victim(settings: CaSettings, name: str, last: int = 0) -> "subprocess.Popen[bytes]":
    words = (settings.directory, settings.acme_dir, settings.challenges, settings.ca_file, name, last)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen([sys.executable, "-c", VICTIM, *map(str, words)], env=environment)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaLab]:
    with ca_lab(tmp_path_factory.mktemp("ca")) as lab:
        Authority(lab.settings, "acme").obtain(approval("account.example.com"))
        yield lab


def test_killed_before_any_step_the_ca_signs_once(lab: CaLab) -> None:
    party, ended, second_orders = Authority(lab.settings, "acme"), [], 0
    for last in range(1, MOST_STEPS, 4):
        name, orders, issued = f"step{last}.example.com", lab.orders, lab.issued
        ended.append(run_victim(lab.settings, name, last).wait(120))
        had_signed = lab.issued > issued
        assert party.obtain(approval(name)).certificate.names == (name,)
        assert lab.issued == issued + 1, f"killed before step {last}"
        second_orders += lab.orders - orders - 1
        assert not (had_signed and lab.orders > orders + 1), f"killed before step {last}"
        if ended[-1] == 0:
            break
    assert ended[-1] == 0, "the last victim lived, so every step was met"
    assert set(ended[:-1]) == {-signal.SIGKILL}
    assert len(ended) > 10
    assert second_orders <= 1, "only an order whose answer was not kept yet is made twice"
    assert not list(lab.settings.challenges.iterdir())


@pytest.fixture
def settings(server: FakeAcme, tmp_path: Path) -> CaSettings:
    server.faults, server.orders = Faults(), 0
    server.asked.clear()
    home = tmp_path / "acme", tmp_path / "challenges", server.ca_file
    return CaSettings(f"{server.base}/dir", *home, profile="default")


def until(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < give_up, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def interrupted(server: FakeAcme, settings: CaSettings, request: pytest.FixtureRequest) -> str:
    """Have a run killed while the CA works and has not answered; by default when it has just signed."""
    unheard = getattr(request, "param", "finalize")
    server.faults.withhold.add(unheard)
    victim = run_victim(settings, NAME)
    until(lambda: server.asked[unheard])
    victim.kill()
    victim.wait()
    server.faults.withhold.clear()
    assert server.orders == 1
    return unheard


@pytest.mark.parametrize("interrupted", ["chal", "finalize", "cert"], indirect=True)
def test_killed_while_the_ca_does_its_work_the_next_run_goes_on(
    server: FakeAcme, settings: CaSettings, interrupted: str
) -> None:
    assert interrupted in server.asked
    assert Authority(settings, "acme").obtain(approval(NAME)).certificate.names == (NAME,)
    assert server.orders == 1


@pytest.mark.usefixtures("interrupted")
@pytest.mark.parametrize("answer", [problem("malformed", "no such order", 404), page(404)], ids=["typed", "html"])
def test_an_order_the_ca_has_forgotten_is_made_anew(server: FakeAcme, settings: CaSettings, answer: Answer) -> None:
    server.faults.answers["/order/1"] = answer
    Authority(settings, "acme").obtain(approval(NAME))
    assert server.orders == 2


@pytest.mark.usefixtures("interrupted")
@pytest.mark.parametrize("answer", [problem("rateLimited", "later", 429), page(503)], ids=["429", "503"])
def test_a_ca_that_is_busy_keeps_its_order_for_the_run_after(
    server: FakeAcme, settings: CaSettings, answer: Answer
) -> None:
    server.faults.answers["/order/1"] = answer
    with pytest.raises((RateLimited, Unreachable)) as caught:
        Authority(settings, "acme").obtain(approval(NAME))
    assert not caught.value.quota_used
    server.faults.answers.clear()
    Authority(settings, "acme").obtain(approval(NAME))
    assert server.orders == 1


@pytest.mark.usefixtures("interrupted")
def test_what_keeps_us_from_seeing_whether_the_ca_has_signed_ends_no_order(
    server: FakeAcme, settings: CaSettings
) -> None:
    busy = Authority(replace(settings, wait=timedelta(0)), "acme")
    with inheritable_lock(settings.acme_dir / "account.lock", timedelta(0), "the account"), pytest.raises(Busy):
        busy.obtain(approval(NAME))
    with no_file_above(800), pytest.raises(ConfigInvalid, match="cannot write"):  # the chain is longer
        Authority(settings, "acme").obtain(approval(NAME))
    Authority(settings, "acme").obtain(approval(NAME))
    assert server.orders == 1


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Let no file of this process grow larger, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("interrupted")
def test_an_order_whose_key_is_gone_is_made_anew(server: FakeAcme, settings: CaSettings) -> None:
    (
        settings.work / Domain(NAME).stem / "privkey.pem"
    ).unlink()  # with it begins a removal, here one that was killed
    assert Authority(settings, "acme").obtain(approval(NAME)).certificate.names == (NAME,)
    assert server.orders == 2


@pytest.mark.usefixtures("interrupted")
def test_an_order_for_other_wishes_is_not_gone_on_with(server: FakeAcme, settings: CaSettings) -> None:
    Authority(replace(settings, key_type="ecdsa-p384"), "acme").obtain(approval(NAME))
    assert server.orders == 2


def test_an_order_that_was_too_slow_is_finished_by_the_next_run(server: FakeAcme, settings: CaSettings) -> None:
    Authority(settings, "acme").obtain(approval("before.example.com"))  # makes the account
    server.faults.status = "processing"
    with pytest.raises(Unreachable) as caught:
        Authority(replace(settings, deadline=timedelta(seconds=3)), "acme").obtain(approval(NAME))
    assert (caught.value.slug, caught.value.quota_used) == ("ca-timeout", True)
    server.faults.status = "valid"
    Authority(settings, "acme").obtain(approval(NAME))
    assert server.orders == 2
