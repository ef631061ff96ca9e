"""The initial files of a new sandbox: DNS records, customers, and certctl's configuration."""

import json
from collections.abc import Callable
from datetime import timedelta
from functools import reduce

from certctl.io.files import PUBLIC, make_directory, write_atomic
from certctl.io.locks import lock
from certctl.sandbox import approval_server, nginx_conf, zone_file
from certctl.sandbox.approval_server import Approvals
from certctl.sandbox.layout import Layout
from certctl.sandbox.state import Addresses
from certctl.sandbox.users import Users
from certctl.sandbox.zone_file import DnsWorld, Record

TARGET = "status.hyperping.io"
ZONE = "hyperping.io"
CUSTOMER = "status.example.com"
WRONG_CNAME = "status.wrong-cname.test"
NOT_A_CUSTOMER = "status.not-a-customer.test"
NEVER_SIGNED = "blocked.example.org"  # the sandbox's CA refuses it and everything below
_LOCK_WAIT = timedelta(seconds=30)
_SOMEONE_ELSE = "statuspage.example.net"

_RECORDS = (
    Record(TARGET, "A", "127.0.0.1"),
    Record(CUSTOMER, "CNAME", f"{TARGET}."),
    Record(WRONG_CNAME, "CNAME", f"{_SOMEONE_ELSE}."),
    Record(_SOMEONE_ELSE, "A", "127.0.0.9"),
    Record(NOT_A_CUSTOMER, "CNAME", f"{TARGET}."),
)


def write_files(layout: Layout, users: Users) -> None:
    """Write the files that the programs of the sandbox read, before any of them runs."""
    for directory in (layout.config.parent, layout.conf_dir, layout.page, layout.logs, layout.ca):
        make_directory(directory, 0o755)
    make_directory(layout.root / "var/tmp", 0o755)
    zone_file.save(layout.dns_world, reduce(zone_file.add, _RECORDS, DnsWorld()))
    approval_server.save(layout.approvals, Approvals(approved=(CUSTOMER, WRONG_CNAME)))
    write_atomic(layout.nginx_conf, nginx_conf.main_file(layout, users), PUBLIC)
    write_atomic(layout.page / "index.html", nginx_conf.PAGE, PUBLIC)


def change_dns(layout: Layout, change: Callable[[DnsWorld], DnsWorld]) -> DnsWorld:
    """Change the world of the running DNS server under a lock, and return it."""
    with lock(layout.root / ".dns.lock", _LOCK_WAIT, "the sandbox's DNS"):
        after = change(zone_file.load(layout.dns_world))
        zone_file.save(layout.dns_world, after)
    return after


def change_approvals(layout: Layout, change: Callable[[Approvals], Approvals]) -> Approvals:
    """Change the approvals of the running endpoint under a lock, and return them."""
    with lock(layout.root / ".approvals.lock", _LOCK_WAIT, "the sandbox's approvals"):
        after = change(approval_server.load(layout.approvals))
        approval_server.save(layout.approvals, after)
    return after


def write_config(layout: Layout, users: Users, addresses: Addresses, *, profile: str, mode: str) -> None:
    """Write certctl's configuration for this sandbox."""
    port = int(addresses.dns.rpartition(":")[2])
    table: dict[str, dict[str, object]] = {
        "paths": {"root": str(layout.root)},
        "dns": {
            "target": TARGET,
            "resolvers": [addresses.dns],
            "authoritative_port": port,
            "allow_private_names": True,
        },
        "approval": {"url": addresses.approval},
        "ca": {"directory": addresses.acme_directory, "ca_file": addresses.acme_ca_file, "profile": profile},
        "nginx": {
            "mode": mode,
            "group": users.group,
            "listen": ["127.0.0.1"],
            "http_port": int(addresses.http.rpartition(":")[2]),
            "https_port": int(addresses.https.rpartition(":")[2]),
        },
        "wildcard": {"zone": ZONE},
        "serve": {"user": users.daemon},
    }
    write_atomic(layout.config, _toml(table), PUBLIC)


def _toml(table: dict[str, dict[str, object]]) -> str:
    """Return a table as TOML; our values are text, numbers, booleans and lists of text, which JSON writes alike."""
    sections = [
        "\n".join([f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items())])
        for section, keys in table.items()
    ]
    return "\n\n".join(sections) + "\n"
