"""kill -9 in the middle of an issue, crowds, and what lies open while certbot runs: real certbot, real Pebble."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.ca.authority import Authority
from certctl.ca.settings import CaSettings
from certctl.errors import Busy
from tests.fakes.ca_lab import CaLab, approval, ca_lab

pytestmark = pytest.mark.e2e

# A certctl of its own: it obtains, or with "wait" as its last word stops for ever before the CA is told to look.
VICTIM = """
import sys, threading
from pathlib import Path
from certctl.ca.authority import Authority
from certctl.ca.settings import CaSettings
from certctl.ca.solvers.base import HttpTokens
from tests.fakes.ca_lab import approval

class Waiting(HttpTokens):
    def wait(self, challenges):
        threading.Event().wait()

directory, acme_dir, challenges, ca_file, name, engine, how = sys.argv[1:]
settings = CaSettings(directory, Path(acme_dir), Path(challenges), Path(ca_file), profile="default")
solver = (Waiting if how == "wait" else HttpTokens)(settings.challenges)
Authority(settings, engine, solver=solver).obtain(approval(name))
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[CaLab]:
    with ca_lab(tmp_path) as lab:
        yield lab


@pytest.fixture(params=["certbot", "acme"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def start_victim(
    settings: CaSettings, name: str, how: str = "go", engine: str = "certbot"
) -> "subprocess.Popen[bytes]":
    words = (settings.directory, settings.acme_dir, settings.challenges, settings.ca_file, name, engine, how)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen([sys.executable, "-c", VICTIM, *map(str, words)], env=environment)


def kill(victim: "subprocess.Popen[bytes]") -> None:
    victim.send_signal(signal.SIGKILL)
    victim.wait()


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def certbots(settings: CaSettings) -> list[Path]:
    """Return the /proc directories of every certbot that works for these settings."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if f"--work-dir={settings.acme_dir}".encode() in words:
            found.append(process)
    return found


def test_killed_while_the_ca_looks_the_next_run_takes_up_the_same_certificate(lab: CaLab, engine: str) -> None:
    lab.tokens.hold = threading.Event()
    victim = start_victim(lab.settings, "killed.example.com", engine=engine)
    until(lambda: lab.tokens.asked)
    kill(victim)
    lab.tokens.hold.set()
    issued = Authority(lab.settings, engine).obtain(approval("killed.example.com"))
    assert issued.certificate.names == ("killed.example.com",)
    assert (lab.orders, lab.issued) == (1, 1)
    assert not list(lab.settings.challenges.iterdir()), "the killed run's token is taken away"


def test_killed_before_the_ca_was_told_to_look_nothing_is_validated(lab: CaLab, engine: str) -> None:
    victim = start_victim(lab.settings, "early.example.com", "wait", engine)
    until(lambda: list(lab.settings.challenges.glob("[!.]*")))
    kill(victim)
    until(lambda: not certbots(lab.settings))
    assert (lab.orders, lab.tokens.asked, lab.log.count("/chalZ/")) == (1, [], 0)
    assert Authority(lab.settings, engine).obtain(approval("early.example.com")).certificate.version == 0
    assert lab.issued == 1
    assert not list(lab.settings.challenges.iterdir())


def test_killed_at_any_moment_the_ca_signs_once(lab: CaLab) -> None:
    Authority(lab.settings).obtain(approval("account.example.com"))
    moments = {f"at{number}.example.com": 0.4 + 0.5 * number for number in range(8)}
    began = time.monotonic()
    victims = [(start_victim(lab.settings, name), moment) for name, moment in moments.items()]
    for victim, moment in victims:
        time.sleep(max(0.0, began + moment - time.monotonic()))
        kill(victim)
    with ThreadPoolExecutor(len(moments)) as pool:
        issued = list(pool.map(lambda name: Authority(lab.settings).obtain(approval(name)), moments))
    assert [made.certificate.names[0] for made in issued] == list(moments)
    assert lab.issued == 1 + len(moments)
    assert lab.accounts == 1


def test_a_certbot_that_outlives_a_killed_run_keeps_others_out_for_a_bounded_time(lab: CaLab) -> None:
    lab.tokens.hold = threading.Event()
    victim = start_victim(lab.settings, "busy.example.com")
    until(lambda: lab.tokens.asked)
    kill(victim)
    impatient = Authority(replace(lab.settings, wait=timedelta(seconds=0.2)))
    with pytest.raises(Busy):
        impatient.obtain(approval("busy.example.com"))
    lab.tokens.hold.set()
    until(lambda: not certbots(lab.settings))


def test_half_of_a_result_is_no_result(lab: CaLab, engine: str) -> None:
    party = Authority(lab.settings, engine)
    first = party.obtain(approval("half.example.com"))
    chain = lab.settings.work / "half.example.com" / "fullchain.pem"
    chain.write_bytes(chain.read_bytes()[:700])
    again = party.obtain(approval("half.example.com"))
    assert again.pem.fullchain.count("BEGIN CERTIFICATE") == first.pem.fullchain.count("BEGIN CERTIFICATE")
    # certbot has to order it anew; the other engine knows the order and downloads it again.
    assert (again == first, lab.orders) == ((False, 2) if engine == "certbot" else (True, 1))


def test_a_result_for_other_wishes_is_no_result(lab: CaLab, engine: str) -> None:
    Authority(lab.settings, engine).obtain(approval("wish.example.com"))
    changed = Authority(replace(lab.settings, profile="shortlived"), engine)
    issued = changed.obtain(approval("wish.example.com"))
    if lab.program != Path("/usr/bin/pebble"):  # Pebble 2.4 has no profiles
        assert issued.certificate.lifetime < timedelta(days=10)
    assert lab.orders == 2


def test_twenty_at_once_share_one_account_and_make_twenty_orders(lab: CaLab, engine: str) -> None:
    party = Authority(lab.settings, engine)
    names = [f"c{number}.example.com" for number in range(20)]
    with ThreadPoolExecutor(20) as pool:
        issued = list(pool.map(lambda name: party.obtain(approval(name)), names))
    assert [made.certificate.names for made in issued] == [(name,) for name in names]
    assert (lab.accounts, lab.orders, lab.issued) == (1, 20, 20)


def test_two_at_once_for_one_name_make_one_order(lab: CaLab, engine: str) -> None:
    party = Authority(lab.settings, engine)
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda _: party.obtain(approval("same.example.com")), range(2))
    assert one == two
    assert lab.orders == 1


def test_nothing_secret_lies_open_while_certbot_runs(lab: CaLab) -> None:
    lab.tokens.hold = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(Authority(lab.settings).obtain, approval("secret.example.com"))
        until(lambda: lab.tokens.asked)
        (process,) = certbots(lab.settings)
        words, variables = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        workdir = lab.settings.work / "secret.example.com"
        modes = {path.name: path.stat().st_mode & 0o777 for path in (workdir, *workdir.glob("*"))}
        log = (workdir / "logs" / "letsencrypt.log").read_text()
        secret = (workdir / "privkey.pem").read_text().splitlines()[1]
        lab.tokens.hold.set()
        issued = running.result()
    assert modes["secret.example.com"] == 0o700
    assert modes["privkey.pem"] == 0o600
    assert set(lab.tokens.modes) == {0o644}
    for text in (words.decode(), variables.decode(), log, lab.log, repr(issued)):
        assert secret not in text
        assert "PRIVATE KEY" not in text
    assert b"\0HOME=" not in b"\0" + variables


def test_an_account_with_an_empty_file_is_set_aside_and_made_anew(lab: CaLab, engine: str) -> None:
    party = Authority(lab.settings, engine)
    party.acknowledge_stored(party.obtain(approval("first.example.com")).certificate)
    (account,) = lab.settings.accounts.glob("*/*/*")
    (account / "regr.json").write_bytes(b"")
    assert party.obtain(approval("second.example.com")).certificate.version == 0
    assert lab.accounts == 2
    assert [path.stem for path in (lab.settings.acme_dir / "quarantine").iterdir()] == [account.name]
