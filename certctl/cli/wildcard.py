"""``certctl wildcard``: the operator's own zone, by DNS-01."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import click

from certctl.cli.base import Duration, Invocation, command
from certctl.cli.names import Party, finish
from certctl.cli.outcome import Outcome
from certctl.cli.reports import open_report
from certctl.cli.wiring import House, open_house
from certctl.domain import Domain, parse_wildcard
from certctl.due import due_at
from certctl.stories.journey import Journey, Listener
from certctl.values import DnsSolver, State
from certctl.world import World

PATIENCE = timedelta(hours=1)
_HTTPS = 443


@command(
    "wildcard",
    """
    certctl wildcard                          *.ZONE and ZONE of [wildcard] zone; shows the TXT records to add
    certctl wildcard hyperping.io --wait 1d
    certctl wildcard --dns rfc2136 --dns-option credentials=/etc/certctl/rfc2136.ini
    certctl wildcard --dns manual             back to adding them by hand
    """,
)
@click.argument("zone", required=False)
@click.option("--dns", "plugin", metavar="PLUGIN", help="manual, or a certbot DNS plugin: rfc2136, cloudflare, ...")
@click.option(
    "--dns-option", "options", multiple=True, metavar="KEY=VALUE", help="An option of that plugin; repeatable."
)
@click.option(
    "--wait", type=Duration(), metavar="DURATION", default="1h", show_default=True,
    help="How long to wait for a person to add the records.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Replace a certificate that is still good (spends the CA's limits).")
@click.pass_obj
def wildcard(
    invocation: Invocation,
    zone: str | None,
    plugin: str | None,
    options: tuple[str, ...],
    wait: timedelta,
    force: bool,  # noqa: FBT001
) -> int:
    """Take your own zone, *.ZONE and ZONE in one certificate, to live HTTPS by DNS-01.

    By hand it shows all TXT records at once and watches every nameserver; the CA looks only when all agree, so
    stopping early costs no failed validation. With --dns a certbot plugin adds them, and renewals need nobody.
    How it was done is remembered for the renewals.
    """
    from certctl.stories.wildcard import wildcard as story

    house, report = open_house(invocation), open_report(invocation)
    domain = parse_wildcard("*." + (zone or house.settings.wildcard.zone).removeprefix("*."), house.own_names)
    solver = chosen(domain, plugin, options, house)
    report.expect(1)
    journey = Journey(domain, listener_for(solver, report), insists=force)
    story(journey, solver, with_person(house, invocation, wait))
    return finish(Party([journey], []), report, lambda o: _ready(o, domain, solver, house))


def obtain_own(journey: Journey, house: House, invocation: Invocation) -> None:
    """Have the operator's own zone its certificate, as remembered or configured; leave nginx alone."""
    from certctl.stories.wildcard import obtain

    solver = chosen(journey.domain, None, (), house)
    journey.listener = listener_for(solver, journey.listener)
    obtain(journey, solver, with_person(house, invocation))
    journey.succeed("obtain", house.world)


def with_person(house: House, invocation: Invocation, patience: timedelta = PATIENCE) -> World:
    """Return the world with somebody at the keyboard who can edit a zone."""
    from certctl.ca.dns01 import Person
    from certctl.cli.by_hand import Desk

    person = Person(Desk(invocation, house.clock), house.txt_watch, house.clock, patience)
    return replace(house.world, ca=house.ca_by(house.settings.ca.engine, person))


def listener_for(solver: DnsSolver, report: Listener) -> Listener:
    """Return who listens: while a person works the report draws no spinner over the person's table."""
    from certctl.cli.by_hand import WithoutSpinner

    return WithoutSpinner(report) if solver.is_manual else report


def chosen(domain: Domain, plugin: str | None, options: tuple[str, ...], house: House) -> DnsSolver:
    """Return how to solve: as the command line says, else as remembered, else as configured."""
    if plugin is None:
        if options:
            raise click.UsageError("--dns-option belongs to --dns PLUGIN")
        row = house.store.domain(domain)
        if row and row.solver and row.state is not State.REMOVED:
            return row.solver
        configured = house.settings.wildcard
        return DnsSolver(configured.dns.removeprefix("dns-"), tuple(sorted(configured.dns_options.items())))
    pairs = dict(_option(text, plugin) for text in options)
    return DnsSolver(plugin.removeprefix("dns-"), tuple(sorted(pairs.items())))


def _option(text: str, plugin: str) -> tuple[str, str]:
    """Split ``KEY=VALUE``; a path is made absolute, because renewals run from elsewhere."""
    key, found, value = text.partition("=")
    key = key.strip().removeprefix("--").removeprefix(f"dns-{plugin.removeprefix('dns-')}-")
    if not key or not found:
        raise click.UsageError(f"--dns-option {text!a} is not KEY=VALUE")
    return key, str(Path(value).absolute()) if key.endswith("credentials") else value


def _ready(done: Outcome, domain: Domain, solver: DnsSolver, house: House) -> str:
    certificate = done.certificate
    if certificate is None:
        return f"{done.domain}: done"
    due = due_at(certificate, house.settings.renewal.fallback_fraction)
    if not done.changed:
        days = certificate.remaining(house.clock.now()).days
        return f"{domain}: valid {days} more days and served by nginx. Nothing to do."
    port = house.settings.nginx.https_port
    url = f"https://{domain.zone}" + ("" if port == _HTTPS else f":{port}")
    head = f"Ready: {url} and every name in it. Expires {certificate.not_after:%Y-%m-%d}"
    if not solver.is_manual:
        return f"{head}, renews itself around {due:%Y-%m-%d} by dns-{solver.plugin}."
    return (
        f"{head}. You can delete the TXT records now.\n"
        f"Its renewal needs you from {due:%Y-%m-%d} on. To make it automatic: "
        f"certctl wildcard {domain.zone} --dns PLUGIN, or read: certctl explain dns-delegation"
    )
