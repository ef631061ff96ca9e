"""Commands about nginx alone: ``publish``, ``reload``, ``confirm``, ``reconcile``."""

import click

from certctl.cli.base import Invocation, command
from certctl.cli.completion import known_domains
from certctl.cli.names import Party, finish, set_out
from certctl.cli.outcome import Outcome
from certctl.cli.reports import open_report
from certctl.cli.wiring import House, open_house
from certctl.errors import ConfigInvalid, WebServerFailed
from certctl.stories.issue import let_copy_go
from certctl.stories.journey import Journey, Step
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
    house, report = open_house(invocation), open_report(invocation)
    party = set_out(domains, house, report, wildcards=True)
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
        return finish(failing, report, str) if failing.outcomes else 0
    return finish(party, report, lambda o: _published(o, house))


def _published(done: Outcome, house: House) -> str:
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
    party = set_out(domains, house, report, wildcards=True)
    for journey in party.journeys:
        with journey.attempt(), house.web.change([_stored(journey, house)]) as change:
            journey.step(Step.CONFIRM, change.confirm, journey.domain)
    return finish(party, report, lambda o: f"{o.domain}: {o.steps[-1].detail}")


@command(
    "reconcile",
    """
    certctl reconcile --dry-run      what differs from the store
    certctl reconcile
    certctl reconcile --restart      after [nginx] listen, http_port or https_port changed
    """,
)
@click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
@click.option("--restart", is_flag=True, help="Restart nginx where it would be reloaded; visitors wait a moment.")
@click.pass_obj
def reconcile(invocation: Invocation, dry_run: bool, restart: bool) -> int:  # noqa: FBT001
    """Make the mirror and nginx equal to the store: after a crash, a restore, or a hand's mistake.

    nginx cannot reload into other addresses on a port that it has open. --restart writes its base file as well, and
    restarts nginx for it and for the sites, by its unit of systemd. What nginx does not start with is taken back.
    """
    from certctl.stories.reconcile import reconcile as story

    house, report = open_house(invocation), open_report(invocation)
    if restart and not dry_run:
        house = _restarting(house)
        report.note(house.web.install_base().summary)
    if dry_run:
        rows = [row for row in house.store.domains() if row.certificate]
        sites = [
            Site(row.certificate, house.store.pem(row.certificate), row.mode) for row in rows if row.certificate
        ]
        stale = [
            str(site.domain)
            for site in sites
            if not house.web.holds(site) or house.web.served(site.domain) != site.certificate.fingerprint
        ]
        gone = [str(domain) for domain in house.web.orphans([site.domain for site in sites])]
        lines = [f"{d}: would be published" for d in stale] + [f"{d}: would be taken out" for d in gone]
        report.data({"publish": stale, "remove": gone}, "\n".join(lines) or "Nothing differs.")
        return 0
    report.expect(2)
    journeys = story(house.world, lambda domain: Journey(domain, report))
    return finish(
        Party(journeys, []), report, lambda o: f"{o.domain}: " + ("put right" if o.changed else "as it was")
    )


def _restarting(house: House) -> House:
    """Return the parties on a host whose nginx systemd restarts.

    Raises:
        WebServerFailed: ``nginx-reload-failed``, where there is no systemd, with what to do by hand.
    """
    if house.path("/run/systemd/system").is_dir():
        return house.restarting()
    raise WebServerFailed(
        "nginx-reload-failed",
        "systemd does not run here, so nobody but you knows how nginx is restarted",
        next=["stop nginx", "certctl init", "certctl reconcile", "start nginx"],
    )


def _stored(journey: Journey, house: House) -> Site:
    row = house.store.domain(journey.domain)
    if row is None or row.certificate is None or row.state is State.REMOVED:
        raise ConfigInvalid(
            "unknown-domain",
            f"the store has no certificate for {journey.domain}",
            next=[f"certctl issue {journey.domain}", "certctl status --all"],
        )
    journey.certificate = row.certificate
    return Site(row.certificate, house.store.pem(row.certificate), row.mode)
