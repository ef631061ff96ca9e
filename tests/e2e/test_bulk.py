"""Many names in one run, cut short and given again: real Pebble, real certbot, real nginx."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.e2e.real_sandbox import Sandbox, own_host

pytestmark = pytest.mark.e2e

NAMES = [f"status.bulk{number}.com" for number in range(12)]


TWO_ORDERS = {"CERTCTL_CA__LIMITS": "letsencrypt", "CERTCTL_CA__LIMIT_OVERRIDES": '{"orders": 2}'}


@pytest.fixture
def fresh(real_parts: None) -> Iterator[Sandbox]:  # noqa: ARG001
    """Bring up a sandbox whose account has ordered nothing yet."""
    with own_host() as sandbox:
        yield sandbox


def start(sandbox: Sandbox, *arguments: str, **settings: str) -> subprocess.Popen[str]:
    env = {**os.environ, "CERTCTL_CONFIG": str(sandbox.addresses["config"]), **settings}
    argv = [sys.executable, "-m", "certctl", "issue", *arguments]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def test_an_interrupted_import_says_how_far_it_came_and_the_same_command_ends_it(sandbox: Sandbox) -> None:
    sandbox.customers(NAMES)
    before = sandbox.orders()
    with start(sandbox, "--jobs", "4", *NAMES) as run:
        assert run.stderr
        assert "done" in run.stderr.readline(), "the first name has arrived"
        run.send_signal(signal.SIGINT)
        said = run.stderr.read()
        code = run.wait()
    assert code == 130
    assert f"of {len(NAMES)} names done" in said
    assert "certctl issue" in said
    done = [row["domain"] for row in json.loads(sandbox.must("status", "--json").out)["results"]]
    arrived = [name for name in NAMES if name in done]
    assert 0 < len(arrived) < len(NAMES)
    document = sandbox.must("issue", "--jobs", "4", *NAMES, "--json").json
    assert document["summary"]["ok"] == len(NAMES)
    assert sandbox.orders() - before <= len(NAMES) + 4, "only what was under way may have been ordered twice"
    assert all(sandbox.served_leaf(name) for name in NAMES)


def test_names_beyond_the_cas_limit_are_told_when_and_wait_when_they_are_to(fresh: Sandbox) -> None:
    fresh.customers(NAMES[:3])
    with start(fresh, *NAMES[:3], **TWO_ORDERS) as run:
        _, said = run.communicate()
    assert run.returncode == 6, said
    assert "budget-exhausted" in said
    assert "1 had to stay behind: at the CA's limit of 2 per 3 h the rest takes until" in said
    with start(fresh, "--wait-for-limits", *NAMES[:3], **TWO_ORDERS) as run:
        assert run.stderr
        assert {run.stderr.readline().split()[1] for _ in range(2)} < set(NAMES), "those that are live"
        with pytest.raises(subprocess.TimeoutExpired):
            run.wait(3)
        run.send_signal(signal.SIGINT)
        said = run.stderr.read()
    assert run.returncode == 130
    assert "2 of 3 names done" in said
    assert fresh.orders() == 2


def test_names_that_are_live_are_left_alone_however_many(sandbox: Sandbox) -> None:
    names = NAMES[:3]
    sandbox.customers(names)
    sandbox.must("issue", "--jobs", "3", *names)
    orders, questions = sandbox.orders(), len(sandbox.must("log", "--json").json["data"])
    document = sandbox.must("issue", "--jobs", "3", *names, "--json").json
    assert (document["summary"]["changed"], sandbox.orders() - orders) == (0, 0)
    assert {step["name"] for result in document["results"] for step in result["steps"]} == {
        "publish", "reload", "confirm",
    }, "nobody is asked again"  # fmt: skip
    assert len(sandbox.must("log", "--json").json["data"]) == questions
