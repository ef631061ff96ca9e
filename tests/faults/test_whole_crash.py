"""A run that is stopped, or killed while what it has started lives on: real certbot, real Pebble, real nginx.

``test_killed.py`` kills all of a run at once, and at every point.
"""

import os
import signal
import subprocess
import time

import pytest

from tests.faults.whole import KILLED, Point, Watch, command, ended, start, until

pytestmark = pytest.mark.e2e

_CONF_DIR = "etc/nginx/certctl.d"
_WORK = "var/lib/certctl/acme/work/{name}"
MAKING = {
    "the working directory is to be made": Point("mkdir", path=_WORK),
    "no account in it yet": Point("symlink"),
    "what is asked for is to be written": Point("openat", path=f"{_WORK}/order.json"),
    "certbot waits, the token is to be noted": Point("rename"),
    "the token is on show, certbot does not know": Point("fsync", 6),
    "the CA has signed, the token is to be taken away": Point("unlink", 7),
    "the store is taking the certificate": Point("fdatasync", 4),
}
PUBLISHING = {
    "the link is to be swapped": Point("rename", 3),
    "the server block is to be swapped": Point("rename", 4),
    "tested, the journal is to say that all stays": Point("rename", 1, f"{_CONF_DIR}/.undo.json"),
}


def test_killed_while_a_certificate_is_made_the_next_run_ends_well_and_the_ca_signs_once(watch: Watch) -> None:
    names = watch.customers("making", len(MAKING))
    issued = watch.issued
    victims = [begin(watch, point, "issue", name) for name, point in zip(names, MAKING.values(), strict=True)]
    assert {moment: ended(victim).code for moment, victim in zip(MAKING, victims, strict=True)} == dict.fromkeys(
        MAKING, KILLED
    )
    watch.nobody_is_harmed()
    assert not any(watch.is_served(name) for name in names)
    watch.sandbox.must("issue", *names, "--jobs", "8")
    watch.all_is_well(names)
    assert watch.issued - issued == len(names)


def test_killed_by_the_clock_the_next_run_ends_well_and_the_ca_signs_once(watch: Watch) -> None:
    moments = [0.2, 0.7, 1.2, 1.7, 2.2, 2.7]
    names = watch.customers("clock", len(moments))
    issued = watch.issued
    began = time.monotonic()
    victims = [start(watch.sandbox, "issue", name) for name in names]
    for victim, moment in zip(victims, moments, strict=True):
        time.sleep(max(0.0, began + moment - time.monotonic()))
        victim.kill()
        ended(victim)
    watch.nobody_is_harmed()
    watch.sandbox.must("issue", *names, "--jobs", "8")
    watch.all_is_well(names)
    assert watch.issued - issued == len(names)


def test_killed_while_it_renews_a_site_keeps_its_old_leaf_or_has_the_new_one(watch: Watch) -> None:
    points = [Point("rename", 1), Point("unlink", 7), Point("rename", 3), Point("fsync", 9)]
    names = watch.customers("renewing", len(points))
    watch.sandbox.must("issue", *names, "--jobs", "8")
    old = {name: watch.served(name) for name in names}
    victims = [begin(watch, point, "renew", name, "--force") for name, point in zip(names, points, strict=True)]
    assert [ended(victim).code for victim in victims] == [KILLED] * len(points)
    watch.nobody_is_harmed()
    stored = watch.stored()
    assert all(watch.served(name) in {old[name], stored[name]} for name in names)
    watch.sandbox.must("renew")
    assert {name: watch.served(name) for name in names} == {name: stored[name] for name in names}, "the timer's run"
    watch.sandbox.must("renew", *names, "--force", "--jobs", "8")
    watch.all_is_well(names)
    assert all(watch.served(name) != old[name] for name in names)


@pytest.mark.parametrize(
    "signals",
    [[signal.SIGTERM], [signal.SIGHUP], [signal.SIGINT, signal.SIGINT]],
    ids=["SIGTERM", "SIGHUP", "SIGINT twice"],
)
def test_stopped_while_the_ca_looks_the_token_is_taken_away(watch: Watch, signals: list[signal.Signals]) -> None:
    (name,) = watch.customers("stopped" + "-".join(str(int(s)) for s in signals) + "-", 1)
    run = start(watch.sandbox, "issue", name, "--json")
    until(lambda: run.poll() is not None or any(watch.challenges.iterdir()))
    for number in signals:
        run.send_signal(number)
    ran = ended(run)
    assert (ran.code, ran.error["code"]) == (130, "interrupted"), ran.err
    assert "Traceback" not in ran.err
    assert not list(watch.challenges.iterdir())
    assert not watch.is_served(name)
    watch.nobody_is_harmed()
    watch.sandbox.must("issue", name)  # a run that was stopped has failed nobody: no rest follows


def test_stopped_while_nginx_is_changed_what_was_in_force_is_back(watch: Watch) -> None:
    names = watch.customers("halfway", len(PUBLISHING))
    watch.sandbox.must("obtain", *names, "--jobs", "8")
    for name, point in zip(names, PUBLISHING.values(), strict=True):
        prefix = point.prefix(watch.root, name, signal.SIGINT)
        ran = ended(start(watch.sandbox, "issue", name, "--json", prefix=prefix))
        assert (ran.code, ran.error["code"]) == (130, "interrupted"), ran.out + ran.err
        assert not watch.is_served(name)
        assert not (watch.sandbox.layout.conf_dir / f"{name}.conf").exists()
        watch.nobody_is_harmed()
    watch.sandbox.must("issue", *names)
    watch.all_is_well(names)


@pytest.mark.parametrize("unread", ["stdout", "stderr"])
def test_a_reader_who_has_gone_does_not_stop_the_work_half_way(watch: Watch, unread: str) -> None:
    (name,) = watch.customers(f"unread-{unread}", 1)
    argv, env = command(watch.sandbox, "issue", name)
    reader, writer = os.pipe()
    os.close(reader)
    out, err = (writer, subprocess.DEVNULL) if unread == "stdout" else (subprocess.DEVNULL, writer)
    ran = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err, check=False, timeout=240)
    os.close(writer)
    assert ran.returncode == 0
    watch.all_is_well([name])


def begin(watch: Watch, point: Point, *arguments: str) -> "subprocess.Popen[str]":
    """Start a run that will die at the point."""
    return start(watch.sandbox, *arguments, prefix=point.prefix(watch.root, "".join(arguments[1:2])))
