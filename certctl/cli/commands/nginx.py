"""Commands about nginx alone: ``publish``, ``reload``, ``confirm``, ``reconcile``."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import click

from certctl.app.batch import Batch, finish, start
from certctl.app.context import Context
from certctl.app.report import Report
from certctl.cli.commands.completion import known_domains
from certctl.cli.framework import Invocation, command, expand
from certctl.cli.opening import inspect_context, open_context
from certctl.cli.output.choose import open_report
from certctl.domain import Domain
from certctl.errors import ConfigInvalid, ExitCode, WebServerFailed
from certctl.slugs import Slug
from certctl.stories.damage import require_readable
from certctl.stories.issue import remove_working_directory
from certctl.stories.journey import Journey
from certctl.stories.pruning import remove_working_directories
from certctl.stories.reconcile import find_orphans
from certctl.stories.reconcile import reconcile as reconcile_story
from certctl.stories.result import JourneyResult, Step
from certctl.stories.unknown import find_unknown, require_newest, store_knows_less
from certctl.values import Site, State


@command(
    "publish",
    """
    certctl publish status.example.com
    certctl publish status.example.com --diff
    """,
)
@click.argument("domains", nargs=-1, required=True, metavar="DOMAIN...|-", shell_complete=known_domains)
@click.option(
    "--print", "show", is_flag=True, help="Print the server block, or the link in the mirror; write nothing."
)
@click.option("--diff", is_flag=True, help="Show what would change; write nothing.")
@click.pass_obj
def publish(invocation: Invocation, domains: tuple[str, ...], show: bool, diff: bool) -> int:  # noqa: FBT001
    """Write mirror and server block from the store and let nginx test them; no reload."""
    context = (inspect_context if show or diff else open_context)(invocation)
    report = open_report(invocation)
    batch = start(expand(domains), context, report, wildcards=True)
    shown = []
    for journey in batch.journeys:
        with journey.attempt():
            site = _stored(journey, context)
            if show or diff:
                preview = context.web.preview(site)
                shown.append(preview.diff() if diff else preview.text)
                continue
            with context.web.change([site]) as change:
                journey.changed = journey.step(Step.PUBLISH, change.publish).changed
            remove_working_directory(journey, context.world)
    if (show or diff) and not invocation.json:
        click.echo("".join(shown), nl=False)
        failing = Batch([journey for journey in batch.journeys if not journey.ok], batch.refused)
        return finish(failing, report, str) if failing.results else 0
    return finish(batch, report, lambda o: _published(o, context))


def _published(done: JourneyResult, context: Context) -> str:
    if not done.changed:
        return f"{done.domain}: nothing changed"
    next_one = "reload" if context.web.is_reload_pending else f"confirm {done.domain}"
    return f"{done.domain}: written and tested; next: certctl {next_one}"


@command(
    "reload",
    """
    certctl reload
    """,
)
@click.pass_obj
def reload(invocation: Invocation) -> int:
    """Test nginx, reload it, and prove that new workers took over."""
    context, report = open_context(invocation), open_report(invocation)
    done = context.web.force_reload()
    report.data({"changed": done.changed, "detail": done.summary}, done.summary)
    return 0


@command(
    "confirm",
    """
    certctl confirm status.example.com
    """,
)
@click.argument("domains", nargs=-1, required=True, metavar="DOMAIN...|-", shell_complete=known_domains)
@click.pass_obj
def confirm(invocation: Invocation, domains: tuple[str, ...]) -> int:
    """Shake hands with nginx and compare the certificate it serves with the one in the store."""
    context, report = open_context(invocation), open_report(invocation)
    batch = start(expand(domains), context, report, wildcards=True)
    for journey in batch.journeys:
        with journey.attempt(), context.web.change([_stored(journey, context)]) as change:
            journey.step(Step.CONFIRM, change.confirm, journey.domain)
    return finish(batch, report, lambda o: f"{o.domain}: {o.steps[-1].detail}")


@command(
    "reconcile",
    """
    certctl reconcile --dry-run      what differs from the store
    certctl reconcile
    certctl reconcile --adopt        take what nginx serves into the store that lost it
    certctl reconcile --restart      after [nginx] listen, http_port or https_port changed
    """,
)
@click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
@click.option("--adopt", is_flag=True, help="First take each pair into the store that nginx serves without it.")
@click.option("--restart", is_flag=True, help="Restart nginx where it would be reloaded; visitors wait a moment.")
@click.pass_obj
def reconcile(invocation: Invocation, dry_run: bool, adopt: bool, restart: bool) -> int:  # noqa: FBT001
    """Make the mirror and nginx equal to the store: after a crash, a restore, or a hand's mistake.

    What nginx serves and the store does not know stays as it is, and the run ends with exit 9: --adopt takes it in
    and orders nothing, 'certctl remove' takes it out. What is taken out here was removed before; it is kept aside
    for 14 days.

    nginx cannot reload into other addresses on a port that it has open. --restart writes its base file as well, and
    restarts nginx for it and for the sites, by its unit of systemd. What nginx does not start with is taken back.
    """
    if dry_run:
        return _foresee(inspect_context(invocation), open_report(invocation), adopts=adopt)
    context, report = open_context(invocation), open_report(invocation)
    if restart:
        context = _restarting(context)
        report.note(context.web.install_base().summary)
    report.expect(2)
    adopted = _adopted(context, report) if adopt else []
    done = reconcile_story(context.world, lambda domain: Journey(domain, report))
    remove_working_directories(context.world)
    lost = [journey for journey in adopted if not journey.ok]
    taken = {journey.domain for journey in adopted if journey.changed}
    less = {domain: lacks for domain, lacks in done.less.items() if domain not in {j.domain for j in lost}}
    batch = Batch([*lost, *done.journeys], [], store_knows_less(less) if less else None)
    return finish(batch, report, lambda o: f"{o.domain}: {_what_became(o, taken)}")


def _adopted(context: Context, report: Report) -> Sequence[Journey]:
    from certctl.stories.unknown import adopt

    return adopt(context.world, lambda domain: Journey(domain, report))


def _what_became(o: JourneyResult, taken: AbstractSet[Domain]) -> str:
    put = "put right" if o.changed else "as it was"
    if o.state == State.REMOVED or (o.changed and o.certificate is None):
        return "taken out"
    if Domain(o.domain) in taken and o.certificate:
        return f"taken into the store, until {o.certificate.not_after:%Y-%m-%d}; {put}"
    return put


def _foresee(context: Context, report: Report, *, adopts: bool) -> int:
    """Show what a run would change; return the exit code: 9 when nginx serves what the store does not know."""
    lacks = find_unknown(context.world)
    rows = [row for row in context.store.domains() if not row.damage and row.domain not in lacks]
    sites = [Site(row.certificate, context.store.pem(row.certificate), row.mode) for row in rows if row.certificate]
    stale = [
        str(site.domain)
        for site in sites
        if not context.web.holds(site) or context.web.served(site.domain) != site.certificate.fingerprint
    ]
    found = find_orphans(context.world)
    gone = [str(domain) for domain in found.leaving]
    unknown = [domain for domain in lacks if domain not in found.leaving]
    fate = "would be taken into the store" if adopts else "stays: certctl reconcile --adopt, or certctl remove"
    lines = [f"{d}: would be published" for d in stale] + [f"{d}: would be taken out" for d in gone]
    lines += [f"{domain}: {lacks[domain]}, {fate}" for domain in unknown]
    is_known = adopts or not unknown
    payload = {"publish": stale, "remove": gone, "unknown": [str(domain) for domain in unknown]}
    report.data(payload, "\n".join(lines) or "Nothing differs.", ok=is_known)
    return int(ExitCode.DONE if is_known else ExitCode.UNREACHABLE)


def _restarting(context: Context) -> Context:
    """Return a context in which systemd restarts nginx instead of a reload.

    Raises:
        WebServerFailed: ``nginx-reload-failed``, where there is no systemd, with what to do by hand.
    """
    if context.path("/run/systemd/system").is_dir():
        return context.restarting()
    raise WebServerFailed(
        Slug.NGINX_RELOAD_FAILED,
        "systemd does not run here, so nobody but you knows how nginx is restarted",
        next=["stop nginx", "certctl init", "certctl reconcile", "start nginx"],
    )


def _stored(journey: Journey, context: Context) -> Site:
    row = context.store.domain(journey.domain)
    require_readable(row)
    if row is None or row.certificate is None or row.state is State.REMOVED:
        raise ConfigInvalid(
            Slug.UNKNOWN_DOMAIN,
            f"the store has no certificate for {journey.domain}",
            next=[f"certctl issue {journey.domain}", "certctl status --all"],
        )
    journey.certificate = row.certificate
    require_newest(journey.domain, row, context.world)
    return Site(row.certificate, context.store.pem(row.certificate), row.mode)
