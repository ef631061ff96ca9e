"""The end-to-end sandbox with one live customer in it, for faults of the whole product."""

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import real_parts, sandbox
from tests.e2e.real_sandbox import Sandbox, own_host
from tests.faults.fake_acme import acme_dir, server
from tests.faults.faulty import FaultyHost, live
from tests.faults.whole import Watch

__all__ = ["acme_dir", "real_parts", "sandbox", "server"]


@pytest.fixture(scope="session")
def watch(sandbox: Sandbox) -> Watch:
    """Let a customer be live who must never notice anything."""
    canary = sandbox.customer("canary.example.com")
    sandbox.must("issue", canary)
    return Watch(sandbox, canary)


@pytest.fixture(scope="session")
def faulty(real_parts: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyHost]:  # noqa: ARG001
    """Bring up a host on which calls can be made to fail."""
    with own_host("--mode", "shared", "--serve") as sandbox:
        host = live(sandbox, tmp_path_factory.mktemp("faulty"))
        try:
            yield host
        finally:
            host.close()
