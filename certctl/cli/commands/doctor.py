"""``certctl doctor``: check this host and show the fix for each fault."""

from collections.abc import Sequence
from dataclasses import asdict

import click

from certctl.app.health import examine, mended
from certctl.app.report import Rows
from certctl.cli.framework import Invocation, command
from certctl.cli.opening import inspect_context, open_context
from certctl.cli.output.choose import open_report
from certctl.errors import ExitCode
from certctl.values import Finding, Level


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
    context = open_context(invocation, alone=True) if fix else inspect_context(invocation)
    report = open_report(invocation)
    findings = [*(mended(context, report) if fix else ()), *examine(context)]
    counts = {level: sum(f.level is level for f in findings) for level in Level}
    total = f"{counts[Level.OK]} ok, {counts[Level.WARNING]} warnings, {counts[Level.PROBLEM]} problems"
    broken = counts[Level.PROBLEM] > 0
    report.data([asdict(f) for f in findings], Rows(["", "", ""], _rows(findings), [total]), ok=not broken)
    return int(ExitCode.FAILED if broken else ExitCode.DONE)


def _rows(findings: Sequence[Finding]) -> list[list[str]]:
    """Return the rows of the table; the fix of a finding is a row of its own below it."""
    rows = []
    for finding in findings:
        rows.append([finding.area, finding.level, finding.text])
        if finding.fix:
            rows.append(["", "", f"  fix: {finding.fix}"])
    return rows
