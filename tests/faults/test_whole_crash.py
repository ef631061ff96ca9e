"""A run that is killed or stopped at any moment, then the next run: real certbot, real Pebble, real nginx.

Each point is a system call of certctl itself, so a test fails when its run does not die there any more.
"""

import os
import signal
import subprocess
import time

import pytest

from tests.faults.whole import KILLED, Point, Watch, command, ended, start, until

pytestmark = pytest.mark.e2e

_CONF_DIR = "etc/nginx/certctl.d"
_LIVE, _WORK = "var/lib/certctl-sites", "var/lib/certctl/acme/work/{name}"
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
    "the mirror has no place for it": Point("mkdir", path=f"{_LIVE}/{{name}}"),
    "the journal is to be written": Point("rename", 1),
    "its first version has no name yet": Point("rename", 2),
    "the link is to be swapped": Point("rename", 3),
    "the server block is to be swapped": Point("rename", 4),
    "tested, the journal is to say that all stays": Point("rename", 2, f"{_CONF_DIR}/.undo.json"),
    "nginx is to be reloaded": Point("fsync", 12),
    "reloaded, the marker says it is not": Point("unlink", 1, f"{_CONF_DIR}/.reload-pending"),
    "the time that the reload took is to be noted": Point("rename", 6),
    "all is proven, what was there before is to be forgotten": Point("unlink", 1, f"{_CONF_DIR}/.kept.json"),
    "it is served, the copy of its key is to be taken away": Point("unlink", path=f"{_WORK}/privkey.pem"),
}
REMOVING = {
    "the wish is to be stored": Point("fdatasync", 3),
    "the journal is to be written": Point("rename", 1),
    "the server block is to be taken out": Point("unlink", 1, f"{_CONF_DIR}/{{name}}.conf"),
    "tested, the journal is to say that all stays": Point("rename", 2, f"{_CONF_DIR}/.undo.json"),
    "reloaded, the mirror is to be emptied": Point("openat", 1, f"{_LIVE}/{{name}}"),
    "the store is to forget the key": Point("fdatasync", 5),
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


def test_killed_while_nginx_is_changed_the_old_state_or_the_new_and_never_a_mix(watch: Watch) -> None:
    names = watch.customers("publishing", len(PUBLISHING))
    watch.sandbox.must("obtain", *names, "--jobs", "8")
    orders = watch.sandbox.orders()
    for name, (moment, point) in zip(names, PUBLISHING.items(), strict=True):
        killed(watch, point, moment, "issue", name)
        watch.sandbox.must("issue", name)
        assert watch.is_served(name), moment
        assert not watch.leftovers(waiting=names), moment
        assert not (watch.state / "acme/work" / name).exists(), moment
    watch.all_is_well(names)
    assert watch.sandbox.orders() == orders


def test_what_one_run_left_half_made_the_run_of_another_customer_puts_right(watch: Watch) -> None:
    broken, other = watch.customers("neighbour", 2)
    watch.sandbox.must("obtain", broken, other)
    moment = "the server block is to be swapped"
    killed(watch, PUBLISHING[moment], moment, "issue", broken)
    watch.sandbox.must("issue", other)
    assert not watch.is_served(broken)
    watch.sandbox.must("issue", broken)
    watch.all_is_well([broken, other])


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


@pytest.mark.parametrize("then", ["remove", "reconcile"])
def test_killed_while_it_removes_the_next_run_takes_all_of_it_away(watch: Watch, then: str) -> None:
    begun = {moment: point for moment, point in REMOVING.items() if point.call == "unlink"}
    points = REMOVING if then == "remove" else begun  # reconcile finishes what was begun, not what was only wished
    names = watch.customers(f"removing-{then}", len(points))
    watch.sandbox.must("issue", *names, "--jobs", "8")
    for name, (moment, point) in zip(names, points.items(), strict=True):
        killed(watch, point, moment, "remove", name)
        watch.sandbox.must(then, *([name] if then == "remove" else []))
        assert not watch.is_served(name), moment
        assert not list((watch.root / "etc").rglob(f"*{name}*")), moment
    watch.sandbox.must("remove", *names)
    watch.all_is_well([])
    assert watch.stored().keys().isdisjoint(names)
    assert not [path for name in names for path in (watch.root / _LIVE).glob(name)]


def test_killed_while_it_reconciles_the_next_one_ends_well(watch: Watch) -> None:
    (name,) = watch.customers("reconciling", 1)
    watch.sandbox.must("issue", name)
    for point in [Point("rename", 1), Point("rename", 2), Point("fsync", 5)]:
        (watch.sandbox.layout.conf_dir / f"{name}.conf").unlink()
        killed(watch, point, str(point), "reconcile")
        watch.sandbox.must("reconcile")
        watch.all_is_well([name], str(point))


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
    sites = [PUBLISHING[moment] for moment in PUBLISHING if "is to be swapped" in moment or "tested" in moment]
    names = watch.customers("halfway", len(sites))
    watch.sandbox.must("obtain", *names, "--jobs", "8")
    for name, point in zip(names, sites, strict=True):
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


def killed(watch: Watch, point: Point, moment: str, *arguments: str) -> None:
    """Run until the point and die; nobody may be harmed by what is left."""
    ran = ended(begin(watch, point, *arguments))
    assert ran.code == KILLED, f"{moment}: never reached by {arguments}: {ran.code} {ran.err}"
    watch.nobody_is_harmed(moment)
