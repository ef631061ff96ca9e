"""Choose the report of a run: JSON, lines for the journal, or text for people, which alone imports rich."""

from certctl.app.report import Report
from certctl.cli.framework import Invocation


def open_report(invocation: Invocation) -> Report:
    """Return the report that the options ask for; without one the journal's when stderr is systemd's journal."""
    if invocation.json:
        from certctl.cli.output.json import JsonReport

        return JsonReport(invocation)
    from certctl.cli.output.journal import JournalReport, is_journal
    from certctl.cli.output.text import TextReport

    text = TextReport(invocation)
    return JournalReport(invocation, text, shows_results=not is_journal(1)) if is_journal(2) else text
