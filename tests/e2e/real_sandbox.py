"""A real sandbox and a certctl in a process of its own, for the end-to-end tests."""

import json
import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

from cryptography import x509

from certctl.sandbox import fixtures, zone_file
from certctl.sandbox.layout import Layout, at

DAEMON, GROUP, WORKERS = "games", "games", "www-data"  # in a sandbox of root's, on Debian


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return stdout, which must be exactly one JSON document."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """Return the error of the first result, or of the run as a whole."""
        document = self.json
        return document.get("error") or document["results"][0]["error"]


def certctl(
    *arguments: str, env: Mapping[str, str] | None = None, stdin: str = "", prefix: tuple[str, ...] = ()
) -> Ran:
    """Run certctl as a person would, in an environment without any CERTCTL_ of ours."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CERTCTL_")}
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "certctl", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env=clean | dict(env or {}),
        timeout=600,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A sandbox that is up, and what tests want to know about it."""

    layout: Layout
    addresses: Mapping[str, Any]

    def certctl(self, *arguments: str, stdin: str = "") -> Ran:
        """Run certctl with this sandbox's configuration."""
        return certctl(*arguments, env={"CERTCTL_CONFIG": self.addresses["config"]}, stdin=stdin)

    def must(self, *arguments: str) -> Ran:
        """Run certctl and insist on success."""
        ran = self.certctl(*arguments)
        assert ran.code == 0, f"certctl {' '.join(arguments)} exited with {ran.code}: {ran.err}{ran.out}"
        return ran

    def customer(self, name: str) -> str:
        """Make a name a customer's: it points here and the operator knows it."""
        self.must("sandbox", "dns", "add", name, "CNAME", "status.hyperping.io")
        self.must("sandbox", "approve", name)
        return name

    def customers(self, names: Sequence[str]) -> None:
        """Make many names customers' at once, without a process for each."""
        records = [zone_file.Record(name, "CNAME", f"{fixtures.TARGET}.") for name in names]
        fixtures.change_dns(self.layout, lambda before: reduce(zone_file.add, records, before))
        fixtures.change_approvals(self.layout, lambda b: replace(b, approved=tuple(sorted({*b.approved, *names}))))

    def orders(self) -> int:
        """Count the orders Pebble has taken, by its log."""
        log = (self.layout.logs / "pebble.log").read_text(encoding="utf-8", errors="replace")
        return len(re.findall(r"Added order ", log))

    def served_leaf(self, name: str) -> x509.Certificate:
        """Return the leaf nginx serves for a name; its chain must lead to the sandbox's issuer root.

        Raises:
            ssl.SSLError: nginx refuses the name, or the chain does not hold.
        """
        host, _, port = str(self.addresses["https"]).rpartition(":")
        trust = ssl.create_default_context(cafile=self.addresses["issuer_root_file"])
        with (
            socket.create_connection((host, int(port)), timeout=60) as raw,
            trust.wrap_socket(raw, server_hostname=name) as connection,
        ):
            der = connection.getpeercert(binary_form=True)
        assert der
        return x509.load_der_x509_certificate(der)


def bring_up(root: Path, *options: str) -> Sandbox:
    """Bring a sandbox up by the command line."""
    ran = certctl("sandbox", "up", "--root", str(root), "--json", *options)
    assert ran.code == 0, ran.out + ran.err
    return Sandbox(at(root), ran.json["data"])


def take_down(root: Path) -> None:
    """Take it down by the command line."""
    ran = certctl("sandbox", "down", "--root", str(root), "--json")
    assert ran.code == 0, ran.out + ran.err


@contextmanager
def open_place() -> Iterator[Path]:
    """Make a directory that the users of a sandbox can enter; every new session of pytest closes pytest's own."""
    with tempfile.TemporaryDirectory(prefix="certctl-e2e-") as place:
        Path(place).chmod(0o755)
        yield Path(place)


@contextmanager
def own_host(*options: str) -> Iterator[Sandbox]:
    """Bring up a sandbox of the test's own, and take it down."""
    with open_place() as root:
        try:
            yield bring_up(root, *options)
        finally:
            take_down(root)


def rewrite(path: Path, old: str, new: str) -> None:
    """Replace a text that must be there."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
