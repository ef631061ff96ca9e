"""``certctl doctor``: look at this host and say the fix for each fault."""

import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

import click

from certctl.cli.base import Invocation, command
from certctl.cli.init import prepare_directories
from certctl.cli.reports import Rows, open_report
from certctl.cli.wiring import House, open_house
from certctl.errors import CertctlError, ExitCode
from certctl.values import Finding, Level

_LOW_DISK_BYTES = 50_000_000


@command(
    "doctor",
    """
    certctl doctor
    certctl doctor --fix     apply the fixes that cannot hurt
    """,
)
@click.option("--fix", is_flag=True, help="Apply the safe fixes: directories, modes, nginx's base file.")
@click.pass_obj
def doctor(invocation: Invocation, fix: bool) -> int:  # noqa: FBT001
    """Check this host: configuration, state, DNS, approval endpoint, certbot, nginx, timer.

    Exit 1 if anything is broken; warnings alone are exit 0.
    """
    house, report = open_house(invocation), open_report(invocation)
    if fix:
        prepare_directories(house)
        report.note(house.web.install_base().summary)
    findings = list(examine(house))
    counts = {level: sum(f.level is level for f in findings) for level in Level}
    rows = [[f.area, f.level, f.text + (f"\n  fix: {f.fix}" if f.fix else "")] for f in findings]
    total = f"{counts[Level.OK]} ok, {counts[Level.WARNING]} warnings, {counts[Level.PROBLEM]} problems"
    broken = counts[Level.PROBLEM] > 0
    report.data([asdict(f) for f in findings], Rows(["", "", ""], _unfolded(rows), [total]), ok=not broken)
    return int(ExitCode.FAILED if broken else ExitCode.DONE)


def examine(house: House) -> Iterator[Finding]:
    """Ask every party how it is; one that fails to answer is itself a finding."""
    examinations: Sequence[tuple[str, Callable[[], Sequence[Finding]]]] = (
        ("config", lambda: _config(house)),
        ("state", lambda: _state(house)),
        ("store", lambda: _store(house)),
        ("dns", lambda: house.dns.examine()),  # noqa: PLW0108 - built inside, so that its failure is a finding
        ("approval", lambda: house.operator.examine()),  # noqa: PLW0108 - built inside, so that its failure is a finding
        ("ca", lambda: house.ca.examine()),  # noqa: PLW0108 - built inside, so that its failure is a finding
        ("nginx", lambda: house.web.examine()),  # noqa: PLW0108 - built inside, so that its failure is a finding
    )
    for area, look in examinations:
        try:
            yield from look()
        except CertctlError as error:
            yield Finding(area, Level.PROBLEM, error.message, error.next[0])


def _unfolded(rows: list[list[str]]) -> list[list[str]]:
    """Give each fix a line of its own under its fault."""
    lines = []
    for area, level, text in rows:
        first, *more = text.split("\n")
        lines += [[area, level, first], *(["", "", line] for line in more)]
    return lines


def _config(house: House) -> list[Finding]:
    if house.file.exists():
        return [Finding("config", Level.OK, f"{house.file} is valid")]
    return [Finding("config", Level.WARNING, f"no {house.file}: the defaults are in force", "certctl init")]


def _state(house: House) -> list[Finding]:
    findings = []
    for name, expected in (("", 0o711), ("live", 0o700), ("acme", 0o700), ("challenges", 0o755)):
        path = house.state / name
        if not path.is_dir():
            findings.append(Finding("state", Level.PROBLEM, f"{path} is missing", "certctl doctor --fix"))
        elif (mode := stat.S_IMODE(path.stat().st_mode)) & ~expected:
            text = f"{path} has mode {mode:04o}, wider than {expected:04o}"
            findings.append(Finding("state", Level.PROBLEM, text, f"chmod {expected:04o} {path}"))
        elif not os.access(path, os.W_OK):
            findings.append(Finding("state", Level.PROBLEM, f"{path} cannot be written", "run certctl as root"))
    if not findings:
        free = shutil.disk_usage(house.state).free
        level = Level.OK if free > _LOW_DISK_BYTES else Level.PROBLEM
        findings.append(Finding("state", level, f"{house.state}, {free / 1e9:.1f} GB free", ""))
    return findings


def _store(house: House) -> list[Finding]:
    count = len(house.store.domains())
    return [Finding("store", Level.OK, f"{house.settings.store.url}, {count} domains")]
