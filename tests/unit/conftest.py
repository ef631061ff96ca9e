"""The fake world that most unit tests turn."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from certctl.io.clock import SystemClock
from tests.fakes.world import FakeWorld


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeWorld]:
    fake = FakeWorld(tmp_path)
    yield fake
    fake.store.close()


@pytest.fixture
def fake_today(tmp_path: Path) -> Iterator[FakeWorld]:
    """The same where commands with ``--root`` find its store, and by the real clock, as they use it."""
    (tmp_path / "var/lib/certctl").mkdir(parents=True)
    fake = FakeWorld(tmp_path / "var/lib/certctl")
    fake.clock.moment = SystemClock().now()
    fake.days_pass(0)
    yield fake
    fake.store.close()
