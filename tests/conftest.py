"""What every test may rely on, however the suite was started."""

import signal
from collections.abc import Iterator

import click
import pytest
from hypothesis import HealthCheck, settings

# A shell makes a job in the background, and its children, ignore Ctrl-C; tests about Ctrl-C need it back.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes on a busy machine says nothing about the program.
settings.register_profile("certctl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("certctl")


@pytest.fixture(autouse=True)
def command() -> Iterator[None]:
    """Close what a test opened with ``open_context``, as the end of a command does."""
    with click.Context(click.Command("test")):
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many kill points were tried, and how to try one again (``tests/faults/test_killed.py``)."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    tried = [value for report in reports for key, value in report.user_properties if key == "killed"]
    if tried:
        chosen, found, seconds = map(sum, zip(*tried, strict=True))
        again = "CERTCTL_KILL=NUMBER .venv/bin/pytest -s tests/faults/test_killed.py -k COURSE"
        each = seconds / max(chosen, 1)
        terminalreporter.write_line(f"kill points: {chosen} of {found}, {each:.1f} s each; one again: {again}")
