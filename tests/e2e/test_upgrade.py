"""New files are put in place under a running daemon: whatever a visit needs was loaded before the first one."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from certctl.io import unix_http
from tests.e2e.real_sandbox import Sandbox, own_host
from tests.e2e.test_first_visit import PAGE, curl, mode

pytestmark = pytest.mark.e2e

SECONDS = 120.0

# Python asks this finder first for each module that is not loaded yet. The file stays open in each process of the
# daemon, whoever that has become.
_NOTING = """
import sys
notes = open(sys.argv.pop(1), "a", buffering=1)
class Noting:
    def find_spec(self, name, *_):
        notes.write(name + "\\n")
sys.meta_path.insert(0, Noting())
sys.argv[0] = "certctl"
from certctl.cli import main
main()
"""


@pytest.fixture(scope="module", params=["lua", "shared", "blocks"])
def sandbox(
    real_parts: None,  # noqa: ARG001
    request: pytest.FixtureRequest,
) -> Iterator[Sandbox]:
    with own_host("--mode", request.param) as sandbox:
        (sandbox.layout.page / "page.html").write_text(PAGE)
        yield sandbox


@contextmanager
def serving(sandbox: Sandbox, notes: Path) -> Iterator[list[str]]:
    """Run the daemon; at the end the list holds each module that was loaded after it was ready."""
    late: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        address = sandbox.layout.root / "notify"
        told.bind(str(address))
        address.chmod(0o666)
        told.settimeout(SECONDS)
        environment = os.environ | {"NOTIFY_SOCKET": str(address), "CERTCTL_CONFIG": sandbox.addresses["config"]}
        daemon = subprocess.Popen([sys.executable, "-c", _NOTING, str(notes), "serve"], env=environment)
        try:
            while "READY=1" not in told.recv(4096).decode().split("\n"):
                pass
            before = len(notes.read_text().splitlines())
            yield late
            daemon.terminate()
            assert daemon.wait(SECONDS) == 0
            late += notes.read_text().splitlines()[before:]
        finally:
            daemon.kill()
            daemon.wait()


def test_a_daemon_that_is_ready_loads_nothing_of_ours_any_more(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.must("sandbox", "dns", "add", "wrong.customer.test", "CNAME", "statuspage.example.net")
    sandbox.must("sandbox", "dns", "add", "stranger.customer.test", "CNAME", "status.hyperping.io")
    refused = sandbox.customer("visit.blocked.example.org")
    first, second = sandbox.customer("first.customer.test"), sandbox.customer("second.customer.test")
    with serving(sandbox, tmp_path / "notes") as late:
        for name in ("wrong.customer.test", "stranger.customer.test", refused, "no name", "xn--nothing"):
            assert curl(sandbox, "http", name)[1] != 200
        assert curl(sandbox, "http", first)[1] == 200
        if mode(sandbox) == "lua":
            assert curl(sandbox, "https", second)[1] == 200
        for target in ("/status", "/metrics", "/healthz"):
            assert unix_http.get(sandbox.layout.serve_socket, target, SECONDS)
    assert [name for name in late if name.partition(".")[0] in {"certctl", "jinja2"}] == []
