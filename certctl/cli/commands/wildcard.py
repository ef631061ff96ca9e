"""``certctl wildcard``: the operator's own zone, by DNS-01."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import click

from certctl.app.batch import Batch, finish
from certctl.app.context import Context
from certctl.app.report import Report
from certctl.cli.framework import Duration, Invocation, command
from certctl.cli.opening import open_context
from certctl.cli.output.choose import open_report
from certctl.domain import Domain, parse_wildcard
from certctl.due import due_at
from certctl.io.escape import one_line
from certctl.ports.world import World
from certctl.stories.journey import Journey, Listener
from certctl.stories.result import JourneyResult
from certctl.values import DnsSolver, State

PATIENCE = timedelta(hours=1)
_A_LOOK = timedelta(seconds=5)
_HTTPS = 443


@command(
    "wildcard",
    """
    certctl wildcard                          *.ZONE and ZONE of [wildcard] zone; shows the TXT records to add
    certctl wildcard hyperping.io --wait 1d
    certctl wildcard --begin                  print the TXT records and exit; hours later:
    certctl wildcard --finish
    certctl wildcard --dns rfc2136 --dns-option credentials=/etc/certctl/rfc2136.ini
    certctl wildcard --dns persist            one record that stands for good, and renewals without you
    certctl wildcard --dns manual             back to adding them by hand
    """,
)
@click.argument("zone", required=False)
@click.option(
    "--dns", "plugin", metavar="PLUGIN",
    help="manual, persist (one standing record), or a certbot DNS plugin: rfc2136, cloudflare, ...",
)  # fmt: skip
@click.option(
    "--dns-option", "options", multiple=True, metavar="KEY=VALUE", help="An option of that plugin; repeatable."
)
@click.option(
    "--wait", type=Duration(), metavar="DURATION", default=None, show_default="1h; with --finish 5s",
    help="How long to wait for a person to add the records.",
)  # fmt: skip
@click.option("--begin", "stage", flag_value="begin", help="Make the order, print its TXT records, and exit.")
@click.option(
    "--finish", "stage", flag_value="finish", help="Go on with the order that was begun, once they stand."
)
@click.option("--force", is_flag=True, help="Replace a certificate that is still good (spends the CA's limits).")
@click.pass_obj
def wildcard(  # noqa: PLR0913, PLR0917 - one for each option
    invocation: Invocation,
    zone: str | None,
    plugin: str | None,
    options: tuple[str, ...],
    wait: timedelta | None,
    stage: str | None,
    force: bool,  # noqa: FBT001
) -> int:
    """Take your own zone, *.ZONE and ZONE in one certificate, to live HTTPS by DNS-01.

    By hand it shows all TXT records at once and watches every nameserver; the CA looks only when all agree, so
    stopping early costs no failed validation. With --dns a certbot plugin adds them, and renewals need nobody.
    How it was done is remembered for the renewals.
    """
    from certctl.stories.wildcard import BY_HAND
    from certctl.stories.wildcard import wildcard as story

    context, report = open_context(invocation), open_report(invocation)
    domain = parse_wildcard("*." + (zone or context.settings.wildcard.zone).removeprefix("*."), context.own_names)
    if stage and (plugin or options):
        raise click.UsageError(f"--{stage} is by hand: it goes with no --dns")
    solver = BY_HAND if stage else chosen(domain, plugin, options, context)
    report.expect(1)
    if stage == "begin":
        return _begin(Journey(domain, report, insists=force), context, invocation, report)
    if stage == "finish":
        journey, world = Journey(domain, report, insists=True), _come_back(context, wait or _A_LOOK)
    else:
        journey = Journey(domain, listener_for(solver, report), insists=force)
        world = with_person(context, invocation, wait or PATIENCE)
    story(journey, solver, world)
    return finish(Batch([journey], []), report, lambda o: _ready(o, domain, solver, context))


def _begin(journey: Journey, context: Context, invocation: Invocation, report: Report) -> int:
    """Print the TXT records that a person must add before the second stage."""
    from certctl.stories.wildcard import begin

    world = with_person(context, invocation)
    begin(journey, world)
    journey.succeed("order", world)
    return finish(Batch([journey], []), report, lambda o: _begun(o, context))


def _come_back(context: Context, patience: timedelta) -> World:
    """Return the world for the second stage: the records of an order begun before have been added."""
    from certctl.ports.manual_dns import ManualOperator, SilentPrompt

    operator = ManualOperator(SilentPrompt(), context.txt_watch, context.clock, patience, finishes=True)
    return replace(context.world, ca=context.ca_by("acme", operator))


def obtain_own(journey: Journey, context: Context, invocation: Invocation) -> None:
    """Obtain the certificate of the operator's zone, solved as remembered or configured; nginx is not changed."""
    from certctl.stories.wildcard import obtain

    solver = chosen(journey.domain, None, (), context)
    journey.listener = listener_for(solver, journey.listener)
    obtain(journey, solver, with_person(context, invocation))
    journey.succeed("obtain", context.world)


def with_person(context: Context, invocation: Invocation, patience: timedelta = PATIENCE) -> World:
    """Return the world with a person at the terminal who can edit a zone."""
    from certctl.cli.output.txt_prompt import TxtPrompt
    from certctl.ports.manual_dns import ManualOperator

    operator = ManualOperator(TxtPrompt(invocation, context.clock), context.txt_watch, context.clock, patience)
    return replace(context.world, ca=context.ca_by(context.settings.ca.engine, operator))


def listener_for(solver: DnsSolver, report: Listener) -> Listener:
    """Return the journey's listener; with a manual solver one that draws no spinner over the table of records."""
    from certctl.cli.output.txt_prompt import WithoutSpinner

    return WithoutSpinner(report) if solver.is_manual or solver.is_standing else report


def chosen(domain: Domain, plugin: str | None, options: tuple[str, ...], context: Context) -> DnsSolver:
    """Return the solver: the command line's, else the one remembered, else the configured one."""
    if plugin is None:
        if options:
            raise click.UsageError("--dns-option belongs to --dns PLUGIN")
        row = context.store.domain(domain)
        if row and row.solver and row.state is not State.REMOVED:
            return row.solver
        configured = context.settings.wildcard
        return DnsSolver(configured.dns.removeprefix("dns-"), tuple(sorted(configured.dns_options.items())))
    pairs = dict(_option(text, plugin) for text in options)
    return DnsSolver(plugin.removeprefix("dns-"), tuple(sorted(pairs.items())))


def _option(text: str, plugin: str) -> tuple[str, str]:
    """Return the key and value of ``KEY=VALUE``; a path is made absolute, as renewals run in another directory."""
    key, found, value = text.partition("=")
    key = key.strip().removeprefix("--").removeprefix(f"dns-{plugin.removeprefix('dns-')}-")
    if not key or not found:
        raise click.UsageError(f"--dns-option {text!a} is not KEY=VALUE")
    return key, str(Path(value).absolute()) if key.endswith("credentials") else value


def _begun(done: JourneyResult, context: Context) -> str:
    from certctl.cli.output.txt_prompt import records

    if done.demand is None:
        return _nothing_to_do(done, context)
    zone, opened = done.domain.removeprefix("*."), done.demand.opened
    come_back = f"certctl wildcard {zone} --finish"
    if not done.demand.values:
        return f"The CA wants no proof this time: {come_back}"
    lines = [
        f"It is {opened}.",
        *records(done.demand),
        f"When every nameserver shows it, in minutes or days: {come_back}",
    ]
    return "\n".join(map(one_line, lines))


def _nothing_to_do(done: JourneyResult, context: Context) -> str:
    days = done.certificate.remaining(context.clock.now()).days if done.certificate else 0
    return f"{done.domain}: valid {days} more days and served by nginx. Nothing to do."


def _ready(done: JourneyResult, domain: Domain, solver: DnsSolver, context: Context) -> str:
    certificate = done.certificate
    if certificate is None:
        return f"{done.domain}: done"
    due = due_at(certificate, context.settings.renewal.fallback_fraction)
    if not done.changed:
        return _nothing_to_do(done, context)
    port = context.settings.nginx.https_port
    url = f"https://{domain.zone}" + ("" if port == _HTTPS else f":{port}")
    head = f"Ready: {url} and every name in it. Expires {certificate.not_after:%Y-%m-%d}"
    if not solver.is_manual:
        leave = " Leave the TXT record where it is." if solver.is_standing else ""
        return f"{head}, renews itself around {due:%Y-%m-%d} by dns-{solver.plugin}.{leave}"
    return (
        f"{head}. You can delete the TXT records now.\n"
        f"Its renewal needs you from {due:%Y-%m-%d} on. To make it automatic: "
        f"certctl wildcard {domain.zone} --dns PLUGIN, or read: certctl explain dns-delegation"
    )
