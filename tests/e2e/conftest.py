"""One sandbox a worker for the end-to-end tests; each test uses names of its own in it."""

import os
from collections.abc import Iterator

import pytest

from certctl.errors import ConfigInvalid
from certctl.io.process import Missing, find
from certctl.sandbox.pebble import find_pebble
from tests.e2e.real_sandbox import Sandbox, own_host


@pytest.fixture(scope="session")
def real_parts() -> None:
    """Need nginx and Pebble; without them fail where CERTCTL_E2E=required says so (./check), else skip."""
    try:
        find("nginx")
        find_pebble()
    except (Missing, ConfigInvalid) as error:
        if os.environ.get("CERTCTL_E2E") == "required":
            pytest.fail(f"a part of the end-to-end tests is missing: {error}")
        pytest.skip(f"not installed: {error}")


@pytest.fixture(scope="session")
def sandbox(real_parts: None) -> Iterator[Sandbox]:  # noqa: ARG001
    """Bring up a sandbox for all tests of this worker."""
    with own_host() as sandbox:
        yield sandbox
