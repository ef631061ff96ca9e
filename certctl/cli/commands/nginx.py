"""Commands about nginx alone: ``publish``, ``reload``, ``confirm``, ``reconcile``."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import click

from certctl.app.batch import Party, finish, set_out
from certctl.app.context import House
from certctl.app.report import Report
from certctl.cli.commands.completion import known_domains
from certctl.cli.framework import Invocation, command, expand
from certctl.cli.opening import inspect_house, open_house
from certctl.cli.output.choose import open_report
from certctl.domain import Domain
from certctl.errors import ConfigInvalid, ExitCode, WebServerFailed
from certctl.slugs import Slug
from certctl.stories.damage import require_readable
from certctl.stories.issue import let_copy_go
from certctl.stories.journey import Journey
from certctl.stories.leftovers import let_copies_go
from certctl.stories.reconcile import reconcile as reconcile_story
from certctl.stories.reconcile import sort_out
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
    house = (inspect_house if show or diff else open_house)(invocation)
    report = open_report(invocation)
    party = set_out(expand(domains), house, report, wildcards=True)
    shown = []
    for journey in party.journeys:
        with journey.attempt():
            site = _stored(journey, house)
            if show or diff:
                preview = house.web.preview(site)
                shown.append(preview.diff() if diff else preview.text)
                continue
            with house.web.change([site]) as change:
                journey.changed = journey.step(Step.PUBLISH, change.publish).changed
            let_copy_go(journey, house.world)
    if (show or diff) and not invocation.json:
        click.echo("".join(shown), nl=False)
        failing = Party([journey for journey in party.journeys if not journey.ok], party.refused)
        return finish(failing, report, str) if failing.results else 0
    return finish(party, report, lambda o: _published(o, house))


def _published(done: JourneyResult, house: House) -> str:
    if not done.changed:
        return f"{done.domain}: nothing changed"
    next_one = "reload" if house.web.is_reload_pending else f"confirm {done.domain}"
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
    house, report = open_house(invocation), open_report(invocation)
    done = house.web.force_reload()
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
    house, report = open_house(invocation), open_report(invocation)
    party = set_out(expand(domains), house, report, wildcards=True)
    for journey in party.journeys:
        with journey.attempt(), house.web.change([_stored(journey, house)]) as change:
            journey.step(Step.CONFIRM, change.confirm, journey.domain)
    return finish(party, report, lambda o: f"{o.domain}: {o.steps[-1].detail}")


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
        return _foresee(inspect_house(invocation), open_report(invocation), adopts=adopt)
    house, report = open_house(invocation), open_report(invocation)
    if restart:
        house = _restarting(house)
        report.note(house.web.install_base().summary)
    report.expect(2)
    adopted = _adopted(house, report) if adopt else []
    done = reconcile_story(house.world, lambda domain: Journey(domain, report))
    let_copies_go(house.world)
    lost = [journey for journey in adopted if not journey.ok]
    taken = {journey.domain for journey in adopted if journey.changed}
    less = {domain: lacks for domain, lacks in done.less.items() if domain not in {j.domain for j in lost}}
    party = Party([*lost, *done.journeys], [], store_knows_less(less) if less else None)
    return finish(party, report, lambda o: f"{o.domain}: {_what_became(o, taken)}")


def _adopted(house: House, report: Report) -> Sequence[Journey]:
    from certctl.stories.adopt import adopt

    return adopt(house.world, lambda domain: Journey(domain, report))


def _what_became(o: JourneyResult, taken: AbstractSet[Domain]) -> str:
    put = "put right" if o.changed else "as it was"
    if o.state == State.REMOVED or (o.changed and o.certificate is None):
        return "taken out"
    if Domain(o.domain) in taken and o.certificate:
        return f"taken into the store, until {o.certificate.not_after:%Y-%m-%d}; {put}"
    return put


def _foresee(house: House, report: Report, *, adopts: bool) -> int:
    """Show what a run would change; what it would leave alone for want of knowledge is its exit code too."""
    lacks = find_unknown(house.world)
    rows = [row for row in house.store.domains() if not row.damage and row.domain not in lacks]
    sites = [Site(row.certificate, house.store.pem(row.certificate), row.mode) for row in rows if row.certificate]
    stale = [
        str(site.domain)
        for site in sites
        if not house.web.holds(site) or house.web.served(site.domain) != site.certificate.fingerprint
    ]
    found = sort_out(house.world)
    gone = [str(domain) for domain in found.leaving]
    unknown = [domain for domain in lacks if domain not in found.leaving]
    fate = "would be taken into the store" if adopts else "stays: certctl reconcile --adopt, or certctl remove"
    lines = [f"{d}: would be published" for d in stale] + [f"{d}: would be taken out" for d in gone]
    lines += [f"{domain}: {lacks[domain]}, {fate}" for domain in unknown]
    is_known = adopts or not unknown
    payload = {"publish": stale, "remove": gone, "unknown": [str(domain) for domain in unknown]}
    report.data(payload, "\n".join(lines) or "Nothing differs.", ok=is_known)
    return int(ExitCode.DONE if is_known else ExitCode.UNREACHABLE)


def _restarting(house: House) -> House:
    """Return the parties on a host whose nginx systemd restarts.

    Raises:
        WebServerFailed: ``nginx-reload-failed``, where there is no systemd, with what to do by hand.
    """
    if house.path("/run/systemd/system").is_dir():
        return house.restarting()
    raise WebServerFailed(
        Slug.NGINX_RELOAD_FAILED,
        "systemd does not run here, so nobody but you knows how nginx is restarted",
        next=["stop nginx", "certctl init", "certctl reconcile", "start nginx"],
    )


def _stored(journey: Journey, house: House) -> Site:
    row = house.store.domain(journey.domain)
    require_readable(row)
    if row is None or row.certificate is None or row.state is State.REMOVED:
        raise ConfigInvalid(
            Slug.UNKNOWN_DOMAIN,
            f"the store has no certificate for {journey.domain}",
            next=[f"certctl issue {journey.domain}", "certctl status --all"],
        )
    journey.certificate = row.certificate
    require_newest(journey.domain, row, house.world)
    return Site(row.certificate, house.store.pem(row.certificate), row.mode)
