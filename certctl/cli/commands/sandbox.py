"""``certctl sandbox``: start and stop a private CA, DNS, approval endpoint and nginx, and change them."""

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from certctl.app.report import Rows
from certctl.cli.framework import Command, Duration, Group, Invocation
from certctl.cli.output.choose import open_report
from certctl.values import Mode

if TYPE_CHECKING:
    from certctl.sandbox.layout import Layout
    from certctl.sandbox.state import SandboxState

_FAULTS = ("servfail", "timeout", "refused", "nxdomain", "truncate", "delay")
_MODES = ("list", "yes", "no", "500", "hang", "redirect")


@click.group("sandbox", cls=Group)
def sandbox() -> None:
    """Run a private CA, DNS, approval endpoint and nginx to try things in; needs no root.

    Say which sandbox with --root DIR, or by the configuration it wrote (--config, $CERTCTL_CONFIG).
    """


@sandbox.command("up", cls=Command)
@click.option("--lifetime", type=Duration(), default="90d", show_default=True, help="How long certificates live.")
@click.option(
    "--mode",
    type=click.Choice([*map(str, Mode)]),
    default="blocks",
    show_default=True,
    help="How its nginx serves.",
)
@click.option("--serve", is_flag=True, help="Run 'certctl serve' in it too.")
@click.pass_obj
def up(invocation: Invocation, lifetime: timedelta, mode: str, serve: bool) -> int:  # noqa: FBT001
    """Bring a sandbox up below --root; one that is down begins a new world.

    Root's has users apart, as a real host: nginx's workers are www-data, who hears strangers and the state of modes
    shared and lua are games, the CA and DNS are nobody. All must be able to enter --root and to read certctl.
    """
    from certctl.sandbox import sandbox as lifecycle

    _require_program()
    standing, changed = lifecycle.up(_root(invocation), _init, lifetime, mode, serve=serve)
    _report(invocation, standing, "the sandbox is up" if changed else "the sandbox is up already")
    return 0


@sandbox.command("down", cls=Command)
@click.pass_obj
def down(invocation: Invocation) -> int:
    """Stop everything that runs in a sandbox; its files stay."""
    from certctl.sandbox import sandbox as lifecycle

    standing, changed = lifecycle.down(_root(invocation))
    _report(invocation, standing, "the sandbox is down" if changed else "the sandbox is down already")
    return 0


@sandbox.command("status", cls=Command)
@click.pass_obj
def status(invocation: Invocation) -> int:
    """Show every address of a sandbox."""
    from certctl.sandbox import sandbox as lifecycle

    standing = lifecycle.status(_root(invocation))
    _report(invocation, standing, "running" if standing.running else "not running")
    return 0


@sandbox.command("approve", cls=Command)
@click.argument("domain", required=False)
@click.option("--revoke", is_flag=True, help="Take the approval back.")
@click.option("--mode", type=click.Choice(_MODES), help="How the endpoint behaves; list asks who is a customer.")
@click.pass_obj
def approve(invocation: Invocation, domain: str | None, revoke: bool, mode: str | None) -> int:  # noqa: FBT001
    """Make a domain a customer's, or change how the approval endpoint behaves."""
    from dataclasses import replace

    from certctl.domain import NamePolicy, parse_domain
    from certctl.sandbox import fixtures
    from certctl.sandbox.approval_server import Approvals
    from certctl.sandbox.approval_server import Mode as Behaviour

    if not domain and not mode:
        raise click.UsageError("say a domain, or --mode")
    name = parse_domain(domain, NamePolicy(allow_private_names=True)).name if domain else ""

    def change(approvals: Approvals) -> Approvals:
        if name:
            approvals = approvals.revoke(name) if revoke else approvals.approve(name)
        return replace(approvals, mode=Behaviour(mode)) if mode else approvals

    after = fixtures.change_approvals(_layout(invocation), change)
    open_report(invocation).data(
        asdict(after), f"mode {after.mode}; approved: {', '.join(after.approved) or 'nobody'}"
    )
    return 0


@sandbox.group("dns", cls=Group)
def dns() -> None:
    """Look at and change the DNS of a sandbox; changes hold at once."""


@dns.command("add", cls=Command)
@click.argument("name")
@click.argument("record_type", metavar="TYPE")
@click.argument("value")
@click.option("--ttl", type=click.IntRange(0, 2**31 - 1), default=300, show_default=True, help="Seconds.")
@click.option("--only", default="", metavar="ADDRESS", help="Only this server's answer: 127.0.0.1 is the resolver.")
@click.pass_obj
def add(invocation: Invocation, name: str, record_type: str, value: str, ttl: int, only: str) -> int:
    """Add a record; a CNAME replaces the CNAME that was there."""
    from certctl.sandbox import fixtures, zone_file

    record = zone_file.Record(name, record_type, value, ttl, only)
    after = fixtures.change_dns(_layout(invocation), lambda before: zone_file.add(before, record))
    return _report_dns(invocation, after)


@dns.command("remove", cls=Command)
@click.argument("name")
@click.argument("record_type", metavar="[TYPE]", required=False, default="")
@click.pass_obj
def remove(invocation: Invocation, name: str, record_type: str) -> int:
    """Remove a name's records, or those of one type."""
    from certctl.sandbox import fixtures, zone_file

    after = fixtures.change_dns(_layout(invocation), lambda before: zone_file.remove(before, name, record_type))
    return _report_dns(invocation, after)


@dns.command("fail", cls=Command)
@click.argument("name")
@click.argument("fault", type=click.Choice(_FAULTS))
@click.option("--type", "record_type", default="", help="Only for questions of this type.")
@click.option("--only", default="", metavar="ADDRESS", help="Only at this server: 127.0.0.1 is the resolver.")
@click.option(
    "--seconds", type=click.FloatRange(0, 3600), default=1, show_default=True, help="How long a delay is."
)
@click.pass_obj
def fail(invocation: Invocation, name: str, fault: str, record_type: str, only: str, seconds: float) -> int:
    """Make questions about a name, and all below it, fail; 'dns heal' ends it."""
    from certctl.sandbox import fixtures, zone_file

    kind = zone_file.Fault.DROP if fault == "timeout" else zone_file.Fault(fault)
    rule = zone_file.FaultRule(name, kind, record_type, only, seconds)
    after = fixtures.change_dns(_layout(invocation), lambda before: zone_file.set_fault(before, rule))
    return _report_dns(invocation, after)


@dns.command("heal", cls=Command)
@click.argument("name", required=False, default="")
@click.pass_obj
def heal(invocation: Invocation, name: str) -> int:
    """End the faults of a name, or all."""
    from certctl.sandbox import fixtures, zone_file

    after = fixtures.change_dns(_layout(invocation), lambda before: zone_file.clear_faults(before, name))
    return _report_dns(invocation, after)


@dns.command("list", cls=Command)
@click.pass_obj
def list_records(invocation: Invocation) -> int:
    """Show every record and fault."""
    from certctl.sandbox import zone_file

    return _report_dns(invocation, zone_file.load(_layout(invocation).dns_world))


def _require_program() -> None:
    """Check that the users who run certctl in the sandbox can read its modules, before any file is made."""
    from certctl.app.ownership import require_program
    from certctl.sandbox import users

    with users.of_this_host().reaching_as_daemon() as whose:
        require_program(whose.uid)


def _init(config: Path) -> None:
    """Set the sandbox up as ``certctl init`` does a host, without a reload: its nginx does not run yet."""
    from certctl.app.directories import prepare_directories
    from certctl.app.ownership import as_owner
    from certctl.cli.opening import read_context
    from certctl.io.files import PUBLIC, write_atomic

    host = read_context(Invocation(config=config))
    with as_owner(host):  # and root again from here on: the daemon is started as root
        prepare_directories(host)
    for preview in host.web.preview_base():
        if preview.text:
            write_atomic(preview.path, preview.text, PUBLIC)


def _root(invocation: Invocation) -> Path:
    """Return the sandbox's directory: ``--root``, or the root in the configuration that the sandbox wrote."""
    from certctl.config import chosen_file, load

    if invocation.root is not None:
        return invocation.root
    if (file := chosen_file(invocation.config)) and (root := load(file, None).paths.root):
        return Path(root)
    raise click.UsageError("which sandbox? Say --root DIR, or --config with the configuration it wrote")


def _layout(invocation: Invocation) -> "Layout":
    """Return the layout of an existing sandbox."""
    from certctl.sandbox import sandbox as lifecycle

    return lifecycle.status(_root(invocation)).layout


def _report(invocation: Invocation, standing: "SandboxState", headline: str) -> None:
    from certctl.sandbox.state import Addresses

    keys = Addresses.__dataclass_fields__
    addresses: dict[str, Any] = asdict(standing.addresses) if standing.addresses else dict.fromkeys(keys)
    parts = {daemon.name: daemon.running for daemon in standing.daemons}
    shown = Rows(["", ""], [[key, str(value)] for key, value in addresses.items() if value], notes=[headline])
    open_report(invocation).data(addresses | {"running": standing.running, "parts": parts}, shown)


def _report_dns(invocation: Invocation, world: Any) -> int:  # noqa: ANN401 - zone_file.DnsWorld, imported lazily
    rows = [[record.name, record.type, record.value, record.only] for record in world.records]
    rows += [[rule.name, rule.type or "any", f"fails: {rule.fault}", rule.only] for rule in world.faults]
    open_report(invocation).data(asdict(world), Rows(["name", "type", "value", "only at"], rows))
    return 0
