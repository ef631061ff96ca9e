"""Commands that look and change nothing: ``verify``, ``approval``, ``log``, ``explain``."""

import re
from functools import cache
from importlib.resources import files

import click

from certctl.app.batch import finish, parse_name, start
from certctl.app.context import Context
from certctl.app.report import Rows
from certctl.cli.commands.completion import known_domains
from certctl.cli.framework import ErrorKind, Invocation, command, expand
from certctl.cli.opening import inspect_context, read_context
from certctl.cli.output.choose import open_report
from certctl.domain import Domain
from certctl.errors import CATALOGUE, CertctlError, Kind
from certctl.formats import rfc3339
from certctl.io.escape import one_line
from certctl.stories.result import JourneyResult, Step
from certctl.values import Done


@command(
    "verify",
    """
    certctl verify status.example.com
    certctl verify status.example.com --message      text to forward to the customer
    """,
)
@click.argument("domains", nargs=-1, required=True, metavar="DOMAIN...|-", shell_complete=known_domains)
@click.option("--message", is_flag=True, help="Print text that can be forwarded to the customer.")
@click.pass_obj
def verify(invocation: Invocation, domains: tuple[str, ...], message: bool) -> int:  # noqa: FBT001
    """Check that domains end at our target and that CAA lets our CA issue; change nothing."""
    context, report = read_context(invocation), open_report(invocation)
    batch = start(expand(domains), context, report)
    for journey in batch.journeys:
        with journey.attempt():
            journey.records = journey.step(Step.VERIFY, context.dns.verify, journey.domain).records
        if message and not invocation.json:
            click.echo(context.dns.forwardable(journey.domain, journey.error))
    return finish(batch, report, _told)


@command(
    "approval",
    """
    certctl approval status.example.com
    """,
)
@click.argument("domains", nargs=-1, required=True, metavar="DOMAIN...|-", shell_complete=known_domains)
@click.pass_obj
def approval(invocation: Invocation, domains: tuple[str, ...]) -> int:
    """Ask the approval endpoint about domains and show its answer; nothing is remembered."""
    context, report = read_context(invocation), open_report(invocation)
    batch = start(expand(domains), context, report)
    for journey in batch.journeys:
        with journey.attempt():
            journey.step(Step.APPROVE, _ask, context, journey.domain)
    return finish(batch, report, _told)


def _ask(context: Context, domain: Domain) -> Done:
    answer = context.dry_run_operator.ask(domain)
    try:
        answer.require_yes()
    except CertctlError as error:
        error.next = tuple(command for command in error.next if command != f"certctl approval {domain}")
        raise
    return Done(answer.summary, changed=False)


def _told(done: JourneyResult) -> str:
    return f"{done.domain}: {done.steps[-1].detail}" if done.steps else done.domain


@command(
    "log",
    """
    certctl log
    certctl log status.example.com --limit 100
    """,
)
@click.argument("domain", required=False, shell_complete=known_domains)
@click.option("--limit", type=click.IntRange(1, 100_000), default=30, show_default=True, help="Lines at most.")
@click.pass_obj
def log(invocation: Invocation, domain: str | None, limit: int) -> int:
    """Show what happened, newest first."""
    context = inspect_context(invocation)
    name = str(parse_name(domain, context)) if domain else None
    events = context.store.events(name, limit)
    payload = [
        {
            "at": rfc3339(e.at),
            "domain": e.domain,
            "step": e.step,
            "ok": e.ok,
            "code": e.slug,
            "detail": one_line(e.detail),
        }
        for e in events
    ]
    rows = [
        [
            rfc3339(e.at),
            "ok" if e.ok else "failing",
            e.domain,
            e.step,
            f"{e.slug}: {e.detail}" if e.slug else e.detail,
        ]
        for e in events
    ]
    notes = [] if rows else ["Nothing has happened yet."]
    open_report(invocation).data(payload, Rows(["at", "", "domain", "step", "what"], rows, notes))
    return 0


@command(
    "explain",
    """
    certctl explain dns-cname-mismatch
    certctl explain              every error there is
    """,
)
@click.argument("kind", type=ErrorKind(), required=False, metavar="[SLUG]")
@click.pass_obj
def explain(invocation: Invocation, kind: Kind | None) -> int:
    """Explain an error at length, offline."""
    report = open_report(invocation)
    if kind is None:
        rows = [[k.slug, str(int(k.family.exit_code)), k.who, k.summary] for k in CATALOGUE.values()]
        report.data([k.slug for k in CATALOGUE.values()], Rows(["slug", "exit", "who acts", "what"], rows))
        return 0
    payload = {
        "code": kind.slug, "exit_code": int(kind.family.exit_code), "who": kind.who, "retryable": kind.retryable,
        "summary": kind.summary, "text": explanation(kind.slug),
    }  # fmt: skip
    head = f"{kind.slug}: {kind.summary}\nexit code {int(kind.family.exit_code)}, who acts: {kind.who}\n\n"
    report.data(payload, head + explanation(kind.slug))
    return 0


def explanation(slug: str) -> str:
    """Return the explanation of an error from ``certctl/explain.md``, which has a heading for each slug."""
    return _explanations().get(slug, "")


@cache
def _explanations() -> dict[str, str]:
    text = files("certctl").joinpath("explain.md").read_text(encoding="utf-8")
    parts = re.split(r"^## ([a-z0-9-]+)\n", text, flags=re.MULTILINE)
    return {slug: body.strip() for slug, body in zip(parts[1::2], parts[2::2], strict=True)}
