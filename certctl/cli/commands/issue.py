"""``certctl issue`` and ``certctl obtain``: from a customer's name to live HTTPS, or only to a certificate."""

from dataclasses import replace
from datetime import timedelta

import click

from certctl.app.batch import finish, start
from certctl.app.bulk import bulk
from certctl.app.context import Context
from certctl.cli.commands.completion import known_domains
from certctl.cli.framework import Duration, Invocation, command, expand
from certctl.cli.opening import inspect_context, open_context
from certctl.cli.output.choose import open_report
from certctl.due import due_at
from certctl.errors import ConfigInvalid
from certctl.slugs import Slug
from certctl.stories.result import JourneyResult
from certctl.values import Mode

_WAIT_HELP = "Where the CA's limit on new orders is reached, wait for it: thousands of names take days."
_FORCE_HELP = "Replace a certificate that is still good (spends 1 of the CA's 5 duplicates a week)."


@command(
    "issue",
    """
    certctl issue status.example.com
    certctl issue status.example.com --wait 30m      the customer is changing DNS right now
    certctl issue --dry-run status.example.com       all free checks, nothing ordered or written
    certctl issue --jobs 16 - < customers.txt        one name a line
    certctl issue --jobs 16 --wait-for-limits - < all-customers.txt
    """,
)
@click.argument("domains", nargs=-1, required=True, metavar="DOMAIN...|-", shell_complete=known_domains)
@click.option("--dry-run", is_flag=True, help="Make all free checks; order nothing, write nothing.")
@click.option("--force", is_flag=True, help=_FORCE_HELP)
@click.option("--wait", type=Duration(), metavar="DURATION", help="Poll DNS this long until it points here.")
@click.option("--jobs", type=click.IntRange(1, 64), default=4, show_default=True, help="Certificates at once.")
@click.option("--wait-for-limits", is_flag=True, help=_WAIT_HELP)
@click.option(
    "--mode", type=click.Choice([*map(str, Mode)]), help="How nginx serves them: 'blocks', or as [nginx] mode says."
)
@click.pass_obj
def issue(  # noqa: PLR0913, PLR0917 - click hands over one argument per option
    invocation: Invocation,
    domains: tuple[str, ...],
    dry_run: bool,  # noqa: FBT001
    force: bool,  # noqa: FBT001
    wait: timedelta | None,
    jobs: int,
    wait_for_limits: bool,  # noqa: FBT001
    mode: str | None,
) -> int:
    """Take customers' domains from bare names to live HTTPS.

    Verify DNS, ask the approval endpoint, obtain a certificate, publish the server block, reload nginx, and
    prove by a TLS handshake that the new certificate is served. Running it again is safe and orders nothing.
    """
    from certctl.stories.issue import issue as story
    from certctl.stories.issue import preflight

    context, report = (inspect_context if dry_run else open_context)(invocation), open_report(invocation)
    _check_mode(mode, context)
    world = replace(context.world, waits_for_orders=wait_for_limits)
    if wait:
        from certctl.stories.dns_wait import PatientDns

        world = replace(world, dns=PatientDns(world.dns, world.clock, wait, report.note))
    batch = start(expand(domains), context, report, insists=force)
    if dry_run:
        preflight(batch.journeys, replace(world, operator=context.dry_run_operator), jobs=jobs)
        return finish(batch, report, lambda o: f"{o.domain}: ready to be issued; nothing was ordered or written")
    for journey in batch.journeys:
        journey.mode = Mode(mode) if mode else None
    with bulk(batch.journeys, context, report) as limits:
        story(batch.journeys, replace(world, limits=limits), jobs=jobs)
    return finish(batch, report, lambda o: _ready(o, context))


@command(
    "obtain",
    """
    certctl obtain status.example.com
    """,
)
@click.argument("domains", nargs=-1, required=True, metavar="DOMAIN...|-", shell_complete=known_domains)
@click.option("--force", is_flag=True, help=_FORCE_HELP)
@click.option("--jobs", type=click.IntRange(1, 64), default=4, show_default=True, help="Certificates at once.")
@click.pass_obj
def obtain(invocation: Invocation, domains: tuple[str, ...], force: bool, jobs: int) -> int:  # noqa: FBT001
    """Verify, approve and obtain certificates into the store; leave nginx alone.

    'certctl publish' and 'certctl reload' do the rest.
    """
    from certctl.cli.commands.wildcard import obtain_own
    from certctl.stories.issue import obtain as story
    from certctl.stories.issue import side_by_side

    context, report = open_context(invocation), open_report(invocation)
    batch = start(expand(domains), context, report, insists=force, wildcards=True)
    for journey in batch.journeys:
        if journey.domain.is_wildcard:
            obtain_own(journey, context, invocation)
    customers = [journey for journey in batch.journeys if not journey.domain.is_wildcard]
    with bulk(customers, context, report) as limits:
        world = replace(context.world, limits=limits)
        for arrived in side_by_side(customers, lambda journey: story(journey, world), jobs):
            for journey in arrived:
                journey.succeed("obtain", world)
    return finish(batch, report, lambda o: f"{o.domain}: in the store; next: certctl publish {o.domain}")


def _check_mode(mode: str | None, context: Context) -> None:
    """Refuse a ``--mode`` that this host cannot serve: ``blocks`` works on any, a catch-all has the host's mode.

    Raises:
        ConfigInvalid: ``config-invalid``.
    """
    hosts = context.settings.nginx.mode
    if mode in {None, Mode.BLOCKS, hosts}:
        return
    raise ConfigInvalid(
        Slug.CONFIG_INVALID,
        f"this host serves in mode {hosts}: one name alone cannot be served in mode {mode}",
        expected=[f"--mode {allowed}" for allowed in dict.fromkeys((Mode.BLOCKS, hosts))],
        next=[f"certctl init --mode {mode}"],
    )


def _ready(done: JourneyResult, context: Context) -> str:
    """Return the line about a domain that is live: until when, and when it is renewed."""
    certificate, settings = done.certificate, context.settings
    if certificate is None:
        return f"{done.domain}: done"
    port = settings.nginx.https_port
    url = f"https://{done.domain}" + ("" if port == 443 else f":{port}")  # noqa: PLR2004 - the port of https
    if not done.changed:
        days = certificate.remaining(context.clock.now()).days
        return f"{done.domain}: valid {days} more days and served by nginx. Nothing to do."
    renews = due_at(certificate, settings.renewal.fallback_fraction)
    seconds = sum(step.ms for step in done.steps) / 1000
    return (
        f"Ready in {seconds:.1f} s: {url}  Expires {certificate.not_after:%Y-%m-%d}, "
        f"renews itself around {renews:%Y-%m-%d}."
    )
