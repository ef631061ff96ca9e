"""The end-to-end sandbox with one live customer in it, for faults of the whole product."""

import pytest

from tests.e2e.conftest import real_parts, sandbox
from tests.e2e.real_sandbox import Sandbox
from tests.faults.whole import Watch

__all__ = ["real_parts", "sandbox"]


@pytest.fixture(scope="session")
def watch(sandbox: Sandbox) -> Watch:
    """Let a customer be live who must never notice anything."""
    canary = sandbox.customer("canary.example.com")
    sandbox.must("issue", canary)
    return Watch(sandbox, canary)
