"""``certctl status``: every domain in a table, or one in full."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import click

from certctl.app.batch import parse_name
from certctl.app.condition import CONDITIONS, HEALTHY, condition
from certctl.app.context import Context
from certctl.app.listing import Filter, Group, Key, Listed, Listing, failure, groups, listed
from certctl.app.report import Report, Rows
from certctl.app.scheduler import next_run
from certctl.cli.commands.completion import known_domains
from certctl.cli.framework import ErrorKind, Invocation, command
from certctl.cli.opening import inspect_context
from certctl.cli.output.choose import open_report
from certctl.due import row_due_at
from certctl.errors import ConfigInvalid
from certctl.formats import rfc3339
from certctl.slugs import Slug
from certctl.stories.damage import mending
from certctl.stories.result import PARKED, JourneyResult
from certctl.stories.wildcard import needs_person, solver_of
from certctl.values import DomainRow, State

_WEEK = timedelta(days=7)


@command(
    "status",
    """
    certctl status                  what needs a look, and a count of the rest
    certctl status --all
    certctl status status.example.com
    certctl status --failing --by code          how many fail for which reason
    certctl status --code dns-cname-mismatch --limit 50 --json
    certctl status --timeline       certificates expiring week by week
    """,
)
@click.argument("domain", required=False, shell_complete=known_domains)
@click.option("--all", "everything", is_flag=True, help="List the healthy ones too.")
@click.option("--failing", is_flag=True, help="List only what fails or has expired.")
@click.option("--state", type=click.Choice(CONDITIONS), help="List only what is in this state.")
@click.option("--code", type=ErrorKind(), metavar="SLUG", help="List only what fails with this error.")
@click.option("--after", metavar="NAME", help="Go on after this name, in the order of names.")
@click.option("--limit", type=click.IntRange(1), help="List at most this many; with --by, this many groups.")
@click.option("--by", type=click.Choice([*map(str, Key)]), help="Count what fails by error, who acts, or state.")
@click.option("--timeline", is_flag=True, help="Show how many certificates expire in each week.")
@click.pass_obj
def status(
    invocation: Invocation,
    /,
    domain: str | None,
    by: str | None,
    after: str | None,
    timeline: bool,  # noqa: FBT001
    **only: Any,  # noqa: ANN401 - the fields of Filter
) -> int:
    """Show every domain, or one in full. Always succeeds: looking is not failing."""
    context, report = inspect_context(invocation), open_report(invocation)
    if domain:
        return report.listing(*_one(domain, context))
    if timeline:
        report.data(*_timeline(context.store.expiries(), context.clock.now()))
        return 0
    chosen = Filter(after=parse_name(after, context) if after else None, **only)
    if by:
        counted = listed(context, replace(chosen, everything=False, limit=None)).domains
        return _count(groups(counted, Key(by))[: chosen.limit], by, report)
    if invocation.json and not (chosen.failing or chosen.state or chosen.code):
        chosen = replace(chosen, everything=True)
    return _list(chosen, context, report, draws=not invocation.json)


def _list(chosen: Filter, context: Context, report: Report, *, draws: bool) -> int:
    from certctl.app.daemon_status import look

    found, now = listed(context, chosen), context.clock.now()
    table = [_line(each.row, each.condition, now, context) for each in found.domains] if draws else []
    total = context.store.count()
    notes = _notes(found.counts, total, _more(chosen, found, total), context)
    daemon = look(context)
    return report.listing(
        [_result(each) for each in found.domains],
        Rows(["domain", "state", "expires", "renews", "note"], table, notes + ([daemon.summary] if daemon else [])),
        serve=daemon.status if daemon else None,
    )


def _count(found: Sequence[Group], by: str, report: Report) -> int:
    """Show how many domains fail alike, most first."""
    rows = [[g.key, str(g.count), f"{g.oldest:%Y-%m-%d}", g.example, g.who or ""] for g in found]
    objects = [
        {"key": g.key, "count": g.count, "oldest": rfc3339(g.oldest), "example": g.example, "who": g.who}
        for g in found
    ]
    notes = [] if found else ["Nothing needs a look."]
    return report.listing(
        [], Rows([by, "names", "since", "such as", "who acts"], rows, notes), by=by, groups=objects
    )


def _notes(counts: Counter[str], total: int, more: str, context: Context) -> list[str]:
    """Return the lines below the table: domains by condition; one that is not a candidate is healthy."""
    if not total:
        return ["No domains yet. Begin with: certctl issue DOMAIN"]
    counts += Counter({HEALTHY: total - counts.total()})
    head = f"Certificates {total}   " + " · ".join(f"{c} {n}" for c, n in sorted(counts.items()))
    if due := next_run(context):
        head += f"   next run {rfc3339(due)}"
    return [more, head] if more else [head]


def _more(chosen: Filter, found: Listing, total: int) -> str:
    """Return the line that says how to see what is not listed; empty when nothing is left that was asked for."""
    if found.left:
        return f"… {found.left} more: --after {found.domains[-1].row.domain}"
    is_narrow = chosen.failing or chosen.state or chosen.code or chosen.after
    hidden = 0 if is_narrow else total - len(found.domains)
    return f"… {hidden} more not shown (--all)" if hidden else ""


def _line(row: DomainRow, condition: str, now: datetime, context: Context) -> list[str]:
    expires = renews = ""
    if row.certificate:
        left = row.certificate.remaining(now)
        when = f"in {left.days} d" if left > timedelta(0) else f"{-left.days - 1} d ago"
        expires = f"{when}  {row.certificate.not_after:%Y-%m-%d}"
        renews = f"{row_due_at(row, context.settings.renewal.fallback_fraction):%Y-%m-%d}"
    if condition == "manual":
        return [str(row.domain), condition, expires, f"you, from {renews}", f"certctl wildcard {row.domain.zone}"]
    if row.state in PARKED:
        renews = ""
    return [str(row.domain), condition, expires, renews, _note(row, now, context)]


def _note(row: DomainRow, now: datetime, context: Context) -> str:
    """Return what is wrong with a domain and the command that mends it; empty when nothing is."""
    if row.damage:
        return f"store-row-damaged; {mending(row)}"
    if row.state is State.MOVED:
        return f"{row.last_error}; comes back by itself once it points to {context.settings.dns.target}"
    if row.state is State.UNWANTED:
        return f"{row.last_error}; comes back by itself once it is approved"
    if not row.last_error:
        return ""
    attempts = f" ({row.attempts} attempts)" if row.attempts else ""
    resting = row.retry_at is not None and row.retry_at > now
    return f"{row.last_error}{attempts}" + (f"; next try {row.retry_at:%Y-%m-%d %H:%M} UTC" if resting else "")


def _result(each: Listed) -> JourneyResult:
    row = each.row
    return JourneyResult(
        domain=str(row.domain), state=each.condition, certificate=row.certificate, error=each.error, listed=row
    )


def _one(text: str, context: Context) -> tuple[list[JourneyResult], Rows]:
    domain = parse_name(text, context)
    row = context.store.domain(domain)
    if row is None:
        raise ConfigInvalid(
            Slug.UNKNOWN_DOMAIN,
            f"certctl has nothing under {domain}",
            next=[f"certctl issue {domain}", "certctl status"],
        )
    word = condition(row, context.clock.now(), context.settings.renewal.fallback_fraction)
    facts = [["domain", str(domain)], ["state", word], ["since", rfc3339(row.since)]]
    if domain.is_wildcard and not row.damage:
        facts += [["dns", _solved_by(row)]]
    if certificate := row.certificate:
        renews = row_due_at(row, context.settings.renewal.fallback_fraction)
        facts += [
            ["names", ", ".join(certificate.names)],
            ["issuer", certificate.issuer],
            ["serial", certificate.serial],
            ["key", certificate.key_type],
            ["valid", f"{rfc3339(certificate.not_before)} to {rfc3339(certificate.not_after)}"],
            ["renews", f"around {rfc3339(renews or certificate.not_after)}"],
            ["sha-256", certificate.fingerprint],
        ]
    if said := _note(row, context.clock.now(), context):
        facts += [["note", said]]
    notes = [f"History: certctl log {domain}   Served now: certctl confirm {domain}"]
    return [_result(Listed(row, word, failure(row, context.clock.now())))], Rows(["", ""], facts, notes)


def _solved_by(row: DomainRow) -> str:
    """Return how a wildcard's challenge is solved; options name files with credentials, never their content."""
    if needs_person(row):
        return "by hand: only you can renew it"
    solver = solver_of(row)
    return " ".join([f"dns-{solver.plugin}", *(f"{key}={value}" for key, value in solver.options)])


def _timeline(expiries: Sequence[datetime], now: datetime) -> tuple[list[dict[str, object]], Rows]:
    """Return the number of certificates that expire in each week from now, for JSON and as a table."""
    weeks = Counter(max(-1, (expiry - now) // _WEEK) for expiry in expiries)
    widest = max(weeks.values(), default=1)
    payload: list[dict[str, object]] = []
    lines = []
    for week in range(min(weeks, default=0), max(weeks, default=-1) + 1):
        count, begins = weeks[week], now + week * _WEEK
        label = "expired" if week < 0 else f"{begins:%Y-%m-%d}"
        payload.append({"week": label, "expiring": count})
        lines.append([label, str(count), "█" * -(-40 * count // widest)])
    return payload, Rows(["week of", "expiring", ""], lines, [] if lines else ["No certificates yet."])
