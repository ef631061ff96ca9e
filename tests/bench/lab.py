"""The field of the first-visit benchmarks: a sandbox with the daemon, and Caddy beside it with a Pebble of its own.

Both Pebbles have the same settings. Two of them, because one Pebble knows one port for each kind of challenge; the
one that is not being asked costs nothing.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from certctl.sandbox import approval_server, daemons, fixtures, pebble, zone_file
from certctl.sandbox.layout import free_ports
from certctl.sandbox.zone_file import Record
from tests.bench import caddy
from tests.e2e.real_sandbox import Sandbox, bring_up, take_down


@dataclass(frozen=True, slots=True)
class Manner:
    """How the CAs behave.

    Attributes:
        retry_after: The seconds they ask to wait, for an authorization and for an order; 0 asks for nothing.
            Pebble's own default is 3 and 5.
        sleep: The most seconds a validation takes, each at random; 0 takes none.
    """

    retry_after: tuple[int, int] = (0, 0)
    sleep: int = 0

    def __str__(self) -> str:
        asks = (
            f"Retry-After {self.retry_after[0]}/{self.retry_after[1]}"
            if any(self.retry_after)
            else "no Retry-After"
        )
        return f"{asks}, validation {f'0-{self.sleep} s' if self.sleep else 'at once'}"


@dataclass(frozen=True, slots=True)
class Field:
    """Two servers that get a certificate on the first visit, each with its port."""

    sandbox: Sandbox
    ours: int
    theirs: int
    caddy: daemons.Daemon


@contextmanager
def field(root: Path, manner: Manner, mode: str = "lua") -> Iterator[Field]:
    """Bring both up."""
    with ExitStack() as stack:
        sandbox = bring_up(root / "sandbox", "--mode", mode, "--serve")
        stack.callback(take_down, root / "sandbox")
        stack.enter_context(_our_pebble(sandbox, manner))
        acme, management, http, https, unused = free_ports(5)
        theirs = pebble.Pebble(root / "ca", acme, management, http, https, str(sandbox.addresses["dns"]))
        stack.enter_context(running(theirs, manner, root / "pebble.log"))
        peer = stack.enter_context(caddy.on_demand(root / "caddy", https, unused, theirs))
        yield Field(sandbox, port(sandbox, "https"), https, peer)


def port(sandbox: Sandbox, what: str) -> int:
    """Return the port of one of the sandbox's addresses."""
    return int(str(sandbox.addresses[what]).rpartition(":")[2])


def daemon(sandbox: Sandbox, name: str) -> daemons.Daemon:
    """Return one of the sandbox's processes."""
    state: dict[str, Any] = json.loads(sandbox.layout.state.read_text())
    return next(daemons.Daemon(**known) for known in state["daemons"] if known["name"] == name)


def daemon_pid(sandbox: Sandbox, name: str) -> int:
    """Return the pid of one of the sandbox's processes."""
    return daemon(sandbox, name).pid


def customers(sandbox: Sandbox, names: list[str]) -> list[str]:
    """Make many names customers' at once: they point here and the operator knows them."""
    records = [Record(name, "CNAME", f"{fixtures.TARGET}.") for name in names]

    def pointed(dns: zone_file.DnsWorld) -> zone_file.DnsWorld:
        for record in records:
            dns = zone_file.add(dns, record)
        return dns

    def approved(known: approval_server.Approvals) -> approval_server.Approvals:
        return replace(known, approved=(*known.approved, *names))

    fixtures.change_dns(sandbox.layout, pointed)
    fixtures.change_approvals(sandbox.layout, approved)
    return names


@contextmanager
def _our_pebble(sandbox: Sandbox, manner: Manner) -> Iterator[None]:
    """Replace the sandbox's Pebble by one in this manner, on the same ports; it has signed nothing yet."""
    daemons.stop(daemon(sandbox, "pebble"))
    plan = pebble.Pebble(
        sandbox.layout.ca,
        _port_of(str(sandbox.addresses["acme_directory"])),
        _port_of(str(sandbox.addresses["pebble_management"])),
        port(sandbox, "http"),
        port(sandbox, "https"),
        str(sandbox.addresses["dns"]),
    )
    with running(plan, manner, sandbox.layout.logs / "pebble.log"):
        yield


def _port_of(url: str) -> int:
    return int(url.split("/")[2].rpartition(":")[2])


@contextmanager
def running(plan: pebble.Pebble, manner: Manner, log: Path) -> Iterator[None]:
    """Run a Pebble in a manner."""
    pebble.write_files(plan)
    settings: dict[str, Any] = json.loads(plan.config.read_text())
    settings["pebble"]["retryAfter"] = dict(zip(("authz", "order"), manner.retry_after, strict=True))
    plan.config.write_text(json.dumps(settings))
    env = pebble.environment(plan)
    if manner.sleep:
        env = {**env, "PEBBLE_VA_NOSLEEP": "0", "PEBBLE_VA_SLEEPTIME": str(manner.sleep + 1)}  # Intn: below it
    started = daemons.start("pebble", pebble.argv(plan, pebble.find_pebble()), log, env)
    try:
        pebble.wait_ready(plan)
        yield
    finally:
        daemons.stop(started)
