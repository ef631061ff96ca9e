"""A closed Internet for one host: two network namespaces joined by a veth, with no way out of either.

On the host's side is the host and nothing else. On the other are a BIND with the root, two top-level domains and
the zones below, Pebble, the operator's approval endpoint over HTTPS, and the visitors. All have addresses of global
scope, as the product refuses nameservers on private ones; nobody outside can be reached, whatever an address looks
like.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from certctl.io import process
from certctl.sandbox.pebble import find_pebble

HOST = "20.20.1.10"
RESOLVER, ROOT_SERVER, NS1, NS2 = "20.20.0.53", "20.20.0.2", "20.20.0.3", "20.20.0.4"
CA, OPERATOR = "20.20.0.14", "20.20.0.15"
_ADDRESSES = (RESOLVER, ROOT_SERVER, NS1, NS2, CA, OPERATOR)
_PATIENCE = 240.0  # of a machine under load

_HEAD = "$TTL 60\n@ SOA ns1.nic.net. hostmaster.nic.net. 1 3600 600 86400 60\n"
_CUSTOMERS = _HEAD + "@ NS ns1.nic.net.\n@ NS ns2.nic.net.\n* CNAME pages.example.net.\n"
ZONES: Mapping[str, str] = {
    ".": f"{_HEAD}@ NS a.root.net.\na.root.net. A {ROOT_SERVER}\nnet. NS a.root.net.\ncom. NS a.root.net.\n",
    "net": _HEAD
    + f"@ NS a.root.net.\na.root A {ROOT_SERVER}\nns1.nic A {NS1}\nns2.nic A {NS2}\n"
    + "".join(f"{zone} NS ns1.nic.net.\n{zone} NS ns2.nic.net.\n" for zone in ("example", "authority")),
    "com": _HEAD
    + "@ NS a.root.net.\n"
    + "".join(f"{zone} NS ns1.nic.net.\n{zone} NS ns2.nic.net.\n" for zone in ("customer", "visited", "elsewhere")),
    "example.net": _HEAD + f"@ NS ns1.nic.net.\n@ NS ns2.nic.net.\npages A {HOST}\napi A {OPERATOR}\n",
    "authority.net": _HEAD + f"@ NS ns1.nic.net.\n@ NS ns2.nic.net.\nacme A {CA}\n",
    "customer.com": _CUSTOMERS,
    "visited.com": _CUSTOMERS,
    "elsewhere.com": _HEAD + "@ NS ns1.nic.net.\n@ NS ns2.nic.net.\n* CNAME www.authority.net.\n",
}


@dataclass(frozen=True, slots=True)
class Visit:
    """What a visitor saw: the status, where they ended, the page; or curl's words where they saw nothing."""

    ok: bool
    status: int
    url: str
    page: str
    said: str


@dataclass
class Internet:
    """One closed Internet that runs.

    Attributes:
        namespace: The network namespace of everybody but the host.
        host_namespace: That of the host.
        root: Its files.
        trust: What a client must trust to speak HTTPS with the CA and the endpoint.
        retry_after: Whether the CA says when to ask again: in 3 and 5 s, as Pebble does by default, or not at all.
    """

    namespace: str
    host_namespace: str
    root: Path
    trust: bytes
    retry_after: bool
    parts: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def approve(self, *names: str) -> None:
        """Make names customers of the operator's."""
        with (self.root / "approved").open("a", encoding="utf-8") as file:
            file.write("".join(f"{name}\n" for name in names))

    def deny(self, name: str) -> None:
        """Make a name nobody's."""
        names = [known for known in (self.root / "approved").read_text(encoding="utf-8").split() if known != name]
        (self.root / "approved").write_text("".join(f"{known}\n" for known in names), encoding="utf-8")

    def questions(self, name: str) -> int:
        """Return how often the endpoint was asked about a name."""
        return (self.root / "questions").read_text(encoding="utf-8").split().count(name)

    def orders(self) -> int:
        """Return how many orders the CA has taken."""
        log = (self.root / "pebble.log").read_text(encoding="utf-8", errors="replace")
        return len(re.findall(r"Added order ", log))

    def inside(self, *argv: str, timeout: float = _PATIENCE) -> "subprocess.CompletedProcess[str]":
        """Run a program there."""
        return subprocess.run(
            ["ip", "netns", "exec", self.namespace, *argv],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def visit(self, url: str) -> Visit:
        """Open a page as somebody who trusts the CA's root and nobody else, wherever redirects lead."""
        root = self.root / "issuer-root.pem"
        ended = self.inside(
            "curl", "--silent", "--show-error", "--location", "--max-time", "60", "--noproxy", "*",
            "--cacert", str(root),
            "--resolve", f"{_name(url)}:80:{HOST}", "--resolve", f"{_name(url)}:443:{HOST}",
            "--write-out", "\n%{http_code} %{url_effective}", url,
        )  # fmt: skip
        page, _, last = ended.stdout.rpartition("\n")
        status, _, where = last.partition(" ")
        return Visit(ended.returncode == 0, int(status or 0), where, page, ended.stderr.strip())

    def suggest_renewal(self, chain: str, answer: str) -> None:
        """Let the CA say this when it is asked when a certificate should be renewed (ARI, RFC 9773)."""
        body = json.dumps({"Certificate": chain, "ARIResponse": answer})
        ended = self._fetch("https://acme.authority.net:15000/set-renewal-info/", "--fail", "--data", body)
        assert ended.returncode == 0, ended

    def start(self) -> None:
        """Start everybody."""
        self._start_named()
        self._start_endpoint()
        self._start_pebble()

    def stop(self) -> None:
        """Stop everybody."""
        for name in list(self.parts):
            self._stop(name)

    def _start_named(self) -> None:
        zones = self.root / "zones"
        zones.mkdir(exist_ok=True)
        lines = [
            "controls { };",
            f'options {{ directory "{zones}"; pid-file none; session-keyfile "{self.root}/session.key";',
            "recursion yes; allow-recursion { any; }; dnssec-validation no; notify no; empty-zones-enable no;",
            "max-cache-size 16m; listen-on-v6 { none; };",
            f"listen-on {{ {' '.join(f'{address};' for address in (RESOLVER, ROOT_SERVER, NS1, NS2))} }}; }};",
        ]
        for zone, text in ZONES.items():
            file = zones / f"{zone.strip('.') or 'root'}.zone"
            file.write_text(text, encoding="utf-8")
            lines.append(f'zone "{zone}" {{ type master; file "{file.name}"; }};')
        (self.root / "named.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
        # Debian's AppArmor profile confines /usr/sbin/named to its own directories; a copy is another path.
        program = shutil.copy(process.find("named"), self.root / "named")
        self._start("named", [str(program), "-g", "-c", str(self.root / "named.conf")])
        log = self.root / "named.log"
        self._until(
            "named has its zones",
            lambda: re.search(r"all zones loaded[\s\S]* running$", log.read_text(), re.MULTILINE),
        )

    def _start_endpoint(self) -> None:
        for name in ("approved", "questions"):
            (self.root / name).touch()
        program = Path(__file__).with_name("endpoint.py")
        files = [str(self.root / name) for name in ("endpoint.pem", "approved", "questions")]
        self._start("endpoint", [sys.executable, str(program), OPERATOR, *files])
        self._until(
            "the endpoint answers",
            lambda: self._fetch("https://api.example.net/approvalendpoint/x").returncode == 0,
        )

    def _start_pebble(self) -> None:
        config = {
            "listenAddress": f"{CA}:443",
            "managementListenAddress": f"{CA}:15000",
            "certificate": str(self.root / "acme.pem"),
            "privateKey": str(self.root / "acme.pem"),
            "httpPort": 80,
            "tlsPort": 443,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
            "keyAlgorithm": "ecdsa",
            "certificateValidityPeriod": 90 * 86400,
            "profiles": {"default": {"description": "90 days", "validityPeriod": 90 * 86400}},
        } | ({"retryAfter": {"authz": 3, "order": 5}} if self.retry_after else {})
        (self.root / "pebble.json").write_text(json.dumps({"pebble": config}), encoding="utf-8")
        argv = [str(find_pebble()), "-config", str(self.root / "pebble.json"), "-dnsserver", f"{RESOLVER}:53"]
        self._start(
            "pebble", argv, {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0", "PEBBLE_WFE_NONCEREJECT": "5"}
        )
        self._until("Pebble answers", lambda: self._fetch("https://acme.authority.net/dir").returncode == 0)
        root = self._fetch("https://acme.authority.net:15000/roots/0")
        (self.root / "issuer-root.pem").write_text(root.stdout, encoding="utf-8")

    def _fetch(self, url: str, *options: str) -> "subprocess.CompletedProcess[str]":
        trust = str(self.root / "trust.pem")
        addresses = {"api.example.net": OPERATOR, "acme.authority.net": CA}
        known = [f"{name}:{port}:{to}" for name, to in addresses.items() for port in (443, 15000)]
        resolve = [word for entry in known for word in ("--resolve", entry)]
        return self.inside(
            "curl", "--silent", "--max-time", "5", "--noproxy", "*", "--cacert", trust, *resolve, *options, url
        )

    def _start(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        with (self.root / f"{name}.log").open("ab") as log:
            self.parts[name] = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *argv],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **(env or {})},
                start_new_session=True,
            )  # fmt: skip

    def _stop(self, name: str) -> None:
        part = self.parts.pop(name)
        part.send_signal(signal.SIGTERM)
        try:
            part.wait(10)
        except subprocess.TimeoutExpired:
            part.kill()
            part.wait()

    def _until(self, what: str, is_so: Callable[[], object]) -> None:
        give_up = time.monotonic() + _PATIENCE
        while not is_so():
            logs = "\n".join(
                f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in self.root.glob("*.log")
            )
            assert time.monotonic() < give_up, f"waited in vain until {what}\n{logs}"
            time.sleep(0.1)


@contextmanager
def internet(root: Path, label: str, *, retry_after: bool = True) -> Iterator[Internet]:
    """Make a closed Internet and take it away again."""
    root.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA()
    for file, name in (("acme.pem", "acme.authority.net"), ("endpoint.pem", "api.example.net")):
        authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(root / file)
    authority.cert_pem.write_to_path(root / "trust.pem")
    with ExitStack() as stack:
        ours = Internet(f"{label}-net", f"{label}-host", root, authority.cert_pem.bytes(), retry_after)
        stack.enter_context(_namespaces(ours))
        stack.callback(ours.stop)
        ours.start()
        yield ours


@contextmanager
def _namespaces(ours: Internet) -> Iterator[None]:
    names = (ours.namespace, ours.host_namespace)
    for name in names:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)  # a killed run's
    try:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip(
            "link",
            "add",
            "net0",
            "netns",
            ours.namespace,
            "type",
            "veth",
            "peer",
            "name",
            "net0",
            "netns",
            ours.host_namespace,
        )
        for address in _ADDRESSES:
            _ip("-n", ours.namespace, "address", "add", f"{address}/16", "dev", "net0")
        _ip("-n", ours.host_namespace, "address", "add", f"{HOST}/16", "dev", "net0")
        for name in names:
            _ip("-n", name, "link", "set", "net0", "up")
        yield
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], capture_output=True, check=True)


def _name(url: str) -> str:
    return url.split("://", 1)[1].split("/", 1)[0].split(":", 1)[0]
