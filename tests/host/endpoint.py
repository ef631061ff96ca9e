"""The approval endpoint of the closed Internet: ``endpoint.py ADDRESS CERTIFICATE APPROVED LOG``.

It says 200 for the names in the file APPROVED, one a line, and 404 for others; every question is a line in LOG.
"""

import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ADDRESS, CERTIFICATE, APPROVED, LOG = sys.argv[1:]


class Endpoint(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        known = Path(APPROVED).read_text(encoding="utf-8").split()
        with Path(LOG).open("a", encoding="utf-8") as log:
            log.write(f"{name}\n")
        self.send_response(200 if name in known else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *words: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    address_family = ThreadingHTTPServer.address_family
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((ADDRESS, 443), Endpoint)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(CERTIFICATE)

    def finish_request(self, request: object, client_address: object) -> None:
        # The handshake happens in the connection's own thread: a silent client holds up nobody.
        request.settimeout(10)  # type: ignore[attr-defined]
        with self.tls.wrap_socket(request, server_side=True) as secure:  # type: ignore[arg-type]
            super().finish_request(secure, client_address)


Server().serve_forever()
