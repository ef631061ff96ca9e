"""Many names in one run, cut short and given again: real Pebble, real certbot, real nginx."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.e2e.real_sandbox import Sandbox

pytestmark = pytest.mark.e2e

NAMES = [f"status.bulk{number}.com" for number in range(12)]


def start(sandbox: Sandbox) -> subprocess.Popen[str]:
    env = {**os.environ, "CERTCTL_CONFIG": str(sandbox.addresses["config"])}
    argv = [sys.executable, "-m", "certctl", "issue", "--jobs", "4", *NAMES]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def test_an_interrupted_import_says_how_far_it_came_and_the_same_command_ends_it(sandbox: Sandbox) -> None:
    sandbox.customers(NAMES)
    before = sandbox.orders()
    with start(sandbox) as run:
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
