"""A small ACME server that misbehaves: RFC 8555 as far as certbot needs it, and a fault of your choice.

It signs for real but verifies no signature and fetches no challenge.
"""

import base64
import http.server
import json
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from certctl.sandbox import pebble

_JSON, _PROBLEM, _HTML = "application/json", "application/problem+json", "text/html"
_TOKEN = "tokenTOKENtokenTOKENtokenTOKENtokenTOKENtok"
_ERROR = "urn:ietf:params:acme:error:"
_HTML_PAGE = b"<html><body><h1>Welcome to our Wi-Fi</h1></body></html>"


@dataclass
class Answer:
    """One HTTP answer."""

    status: int
    body: object = b""
    type: str = _JSON
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def problem(kind: str, detail: str, status: int = 403, **headers: str) -> Answer:
    """Make an answer with a problem document (RFC 8555 §6.7)."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {"type": _ERROR + kind, "detail": detail, "status": status}, _PROBLEM, named)


def page(status: int, **headers: str) -> Answer:
    """Make an answer that is no ACME at all: a captive portal, or a load balancer's error page."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, _HTML_PAGE, _HTML, named)


@dataclass
class Faults:
    """What is wrong with this CA; nothing, to begin with.

    Attributes:
        answers: What to say instead, by resource: ``dir``, ``acct``, ``order``, ``authz``, ``finalize``; with an
            ``ari`` among them, or one that hangs, the CA has renewal information (RFC 9773). Or by path: ``/order``
            is where orders are made, ``/order/1`` the order.
        first: What to say instead the first time only, by resource.
        hang: Resources that never answer.
        withhold: Resources that do their work and never tell.
        proven: Whether it has validated every name lately, so that an order is ready at once (RFC 8555 §7.1.6).
        validation: The problem type with which every challenge fails.
        token: The token of every challenge.
        sign: Makes the chain from the request, for a CA that signs nonsense.
        refuses_replacing: What to say to an order that names what it replaces (RFC 9773 §5).
        bad_nonces: How many requests for an order are turned down for their nonce.
        status: The order's status after finalization, for a CA that is never ready.
        clock: How far its clock is ahead of ours.
    """

    answers: dict[str, Answer] = field(default_factory=dict)
    first: dict[str, Answer] = field(default_factory=dict)
    hang: set[str] = field(default_factory=set)
    withhold: set[str] = field(default_factory=set)
    proven: bool = False
    validation: str = ""
    detail: str = "as the test wants it"
    token: str = _TOKEN
    sign: Callable[["Signer", x509.CertificateSigningRequest], bytes] | None = None
    refuses_replacing: Answer | None = None
    bad_nonces: int = 0
    status: str = "valid"
    clock: timedelta = timedelta(0)


class Signer:
    """A root and an intermediate."""

    def __init__(self) -> None:
        self.root_key, self.key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        self.root = self._certificate("root", self.root_key, "root", self.root_key, days=10)
        self.intermediate = self._certificate("intermediate", self.key, "root", self.root_key, days=10)
        self.expired = self._certificate("intermediate", self.key, "root", self.root_key, days=-1)

    def leaf(
        self,
        names: list[str],
        key: ec.EllipticCurvePublicKey,
        *,
        days: int = 5,
        since: int = -20,
        serial: int = 0,
    ) -> bytes:
        """Sign a leaf for these names and key, valid from ``since`` days to ``days`` days from now."""
        now = datetime.now(UTC)
        san = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(_name("intermediate"))
            .public_key(key)
            .serial_number(serial or x509.random_serial_number())
            .not_valid_before(now + timedelta(days=since))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(san, critical=True)
            .sign(self.key, hashes.SHA256())
        )
        return certificate.public_bytes(Encoding.PEM)

    def honest(self, request: x509.CertificateSigningRequest) -> bytes:
        """Sign exactly what was asked for."""
        return self.leaf(names_of(request), key_of(request)) + pem(self.intermediate)

    @staticmethod
    def _certificate(
        name: str, key: ec.EllipticCurvePrivateKey, issuer: str, by: ec.EllipticCurvePrivateKey, *, days: int
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=30))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(by, hashes.SHA256())
        )


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def names_of(request: x509.CertificateSigningRequest) -> list[str]:
    san = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return san.value.get_values_for_type(x509.DNSName)


def key_of(request: x509.CertificateSigningRequest) -> ec.EllipticCurvePublicKey:
    key = request.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"fake {common}")])


class FakeAcme(http.server.ThreadingHTTPServer):
    """The server.

    ``asked`` counts requests by resource, ``paths`` are what was asked for in full, ``orders`` counts the orders
    it took, ``connections`` the TLS connections, ``replaced`` is what the last of them said it replaces.
    """

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        files = pebble.Pebble(root, 0, 0, 0, 0, "")
        pebble.write_files(files)
        self.ca_file = files.ca_file
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(root / "https.pem", root / "https.key")
        self.tls = tls
        self.faults = Faults()
        self.asked: Counter[str] = Counter()
        self.paths: list[str] = []
        self.orders = self.connections = 0
        self.ended = threading.Event()
        self.signer = Signer()
        self.identifiers: list[dict[str, str]] = []
        self.replaced: object = None
        self.challenged = False
        self.request: x509.CertificateSigningRequest | None = None

    @property
    def base(self) -> str:
        return f"https://127.0.0.1:{self.server_port}"

    def finish_request(self, request: object, client_address: object) -> None:
        """Do the TLS handshake in the connection's own thread."""
        self.connections += 1
        with self.tls.wrap_socket(request, server_side=True) as connection:  # type: ignore[arg-type]
            super().finish_request(connection, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet: clients that hang up are part of the game."""

    def answer(self, resource: str, payload: dict[str, object]) -> Answer:
        """Answer a request for one resource."""
        if resource in self.faults.hang:
            self.ended.wait(60)
            raise ConnectionAbortedError  # by then another test may have the server
        if resource in self.faults.first:
            return self.faults.first.pop(resource)
        if resource in self.faults.answers:
            return self.faults.answers[resource]
        make: dict[str, Callable[[dict[str, object]], Answer]] = {
            "dir": self._directory,
            "nonce": lambda _: Answer(200),
            "acct": lambda _: Answer(201, {"status": "valid"}, headers={"Location": f"{self.base}/acct/1"}),
            "order": self._order,
            "authz": self._authorization,
            "chal": self._challenge,
            "finalize": self._finalize,
            "cert": self._certificate,
            "revoke": lambda _: Answer(200, {}),
        }
        answer = make[resource](payload) if resource in make else Answer(404)
        if resource in self.faults.withhold:
            self.ended.wait(60)
        return answer

    def _directory(self, _: dict[str, object]) -> Answer:
        resources = {"newNonce": "nonce", "newAccount": "acct", "newOrder": "order", "revokeCert": "revoke"}
        if "ari" in {*self.faults.answers, *self.faults.hang}:
            resources["renewalInfo"] = "ari"
        return Answer(200, {name: f"{self.base}/{path}" for name, path in resources.items()} | {"meta": {}})

    def _order(self, payload: dict[str, object]) -> Answer:
        if self.faults.bad_nonces:
            self.faults.bad_nonces -= 1
            return problem("badNonce", "stale nonce", 400)
        if payload.get("replaces") and self.faults.refuses_replacing:
            return self.faults.refuses_replacing
        if isinstance(payload.get("identifiers"), list):
            self.identifiers = payload["identifiers"]  # type: ignore[assignment]
            self.challenged, self.request = False, None
            self.orders += 1
            self.replaced = payload.get("replaces")
            status = "ready" if self.faults.proven else "pending"
            return Answer(201, self._order_object(status), headers={"Location": f"{self.base}/order/1"})
        return Answer(200, self._order_object(self.faults.status if self.request else "ready"))

    def _order_object(self, status: str) -> dict[str, object]:
        order: dict[str, object] = {
            "status": status,
            "identifiers": self.identifiers,
            "authorizations": [f"{self.base}/authz/1"],
            "finalize": f"{self.base}/finalize/1",
        }
        return order | ({"certificate": f"{self.base}/cert/1"} if status == "valid" else {})

    def _authorization(self, _: dict[str, object]) -> Answer:
        failed = self.challenged and self.faults.validation
        status = "invalid" if failed else "valid" if self.challenged else "pending"
        identifier = self.identifiers[0]
        return Answer(
            200, {"status": status, "identifier": identifier, "challenges": [self._challenge_object(status)]}
        )

    def _challenge_object(self, status: str) -> dict[str, object]:
        error = {"type": _ERROR + self.faults.validation, "detail": self.faults.detail, "status": 403}
        return {
            "type": "http-01",
            "url": f"{self.base}/chal/1",
            "status": status,
            "token": self.faults.token,
        } | ({"error": error} if status == "invalid" else {})

    def _challenge(self, _: dict[str, object]) -> Answer:
        self.challenged = True
        link = {"Link": f'<{self.base}/authz/1>;rel="up"'}
        return Answer(200, self._challenge_object("processing"), headers=link)

    def _finalize(self, payload: dict[str, object]) -> Answer:
        der = base64.urlsafe_b64decode(str(payload["csr"]) + "==")
        self.request = x509.load_der_x509_csr(der)
        location = {"Location": f"{self.base}/order/1"}
        return Answer(200, self._order_object(self.faults.status), headers=location)

    def _certificate(self, _: dict[str, object]) -> Answer:
        assert self.request is not None
        sign = self.faults.sign or Signer.honest
        return Answer(200, sign(self.signer, self.request), "application/pem-certificate-chain")


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FakeAcme
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve({})

    def do_HEAD(self) -> None:
        self._serve({})

    def do_POST(self) -> None:
        jws = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        payload = base64.urlsafe_b64decode(jws["payload"] + "==")
        self._serve(json.loads(payload) if payload else {})

    def _serve(self, payload: dict[str, object]) -> None:
        resource = self.path.split("/")[1]
        self.server.asked[resource] += 1
        self.server.paths.append(self.path)
        answer = self.server.faults.answers.get(self.path) or self.server.answer(resource, payload)
        self.send_response(answer.status)
        nonce = base64.urlsafe_b64encode(str(self.server.asked.total()).encode().zfill(12)).decode()
        headers = {"Content-Type": answer.type, "Replay-Nonce": nonce} | answer.headers
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.data)

    def date_time_string(self, timestamp: float | None = None) -> str:
        now = time.time() if timestamp is None else timestamp
        return super().date_time_string(int(now + self.server.faults.clock.total_seconds()))

    def log_message(self, *_: object) -> None:
        """Keep the test's output quiet."""


@contextmanager
def fake_acme(root: Path) -> Iterator[FakeAcme]:
    """Run a misbehaving CA on a free port."""
    server = FakeAcme(root)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
        thread.join(timeout=120)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeAcme]:
    """Run one for a module's tests; each says what goes wrong."""
    with fake_acme(tmp_path_factory.mktemp("fake-acme")) as server:
        yield server


@pytest.fixture(scope="module")
def acme_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where a module's tests keep the CA party's files, the account among them."""
    return tmp_path_factory.mktemp("state") / "acme"
