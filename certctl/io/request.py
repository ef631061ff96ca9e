"""Send one HTTP request with an overall deadline: the timeout of requests restarts with every byte received."""

import socket
import ssl
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from requests import PreparedRequest, Request, Response, Session
from requests.adapters import HTTPAdapter
from requests.exceptions import SSLError
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.util.ssl_ import ALPN_PROTOCOLS, create_urllib3_context

from certctl.io.running import OutOfTime, Running

_AGAIN_SECONDS = 0.2
_turn = threading.Lock()
_trusts: dict[str, tuple[tuple[int, int, int], ssl.SSLContext]] = {}


def send(request: Request, seconds: float, ca_file: str = "") -> Response:
    """Send one request and return the head of the response; its body is not read, its connection is closed.

    No redirect is followed, and the environment is ignored: no proxy, no .netrc, no REQUESTS_CA_BUNDLE.

    Raises:
        OutOfTime: no head within that time, looking up the name and the TLS handshake included.
        Exception: whatever requests raises; its text may hold the URL (``io/http_errors.py`` says it without).
    """
    adapter = CuttableAdapter()

    def go() -> Response:
        with _Session() as session:
            session.trust_env = False
            session.mount("https://", adapter)
            session.mount("http://", adapter)
            request.headers["Connection"] = "close"
            response = session.send(
                session.prepare_request(request),
                timeout=seconds,
                allow_redirects=False,
                stream=True,
                verify=ca_file or True,
            )
            response.close()
            return response

    return within(seconds, go, adapter)


class _Session(Session):
    """A session that ignores redirects.

    ``allow_redirects=False`` alone is not enough: requests 2.32 still reads the whole body of a redirect
    (``Session.send`` prepares ``Response.next`` through ``resolve_redirects``), and that body may be endless.
    """

    def get_redirect_target(self, resp: Response) -> str | None:  # noqa: ARG002
        return None


def within(seconds: float, send: Callable[[], Response], adapter: "CuttableAdapter") -> Response:
    """Return what ``send`` returns or raise what it raises, unless the deadline passes first.

    Raises:
        OutOfTime: the deadline passed; the connection is cut and the thread ends soon after.
    """
    running = Running(send, "request")
    try:
        return running.result(seconds)
    except OutOfTime:
        threading.Thread(target=adapter.cut_until_ended, args=(running.thread,), daemon=True).start()
        raise


class TrustingAdapter(HTTPAdapter):
    """Opens connections that share what they trust.

    requests 2.34 loads the file of trusted certificates into a new context for each connection. That is
    work for the public roots, so it is done once here, and again when the file is another one.
    """

    def build_connection_pool_key_attributes(self, request: PreparedRequest, verify: Any, cert: Any = None) -> Any:  # noqa: ANN401
        """Return the pool's key with a context that is there already, in place of the file to make one from."""
        host, kinds = super().build_connection_pool_key_attributes(request, verify, cert)
        if host["scheme"] == "https":
            kinds.pop("ca_certs", None)
            kinds.pop("ca_cert_dir", None)
            kinds["ssl_context"] = _trusting(verify if isinstance(verify, str) else str(DEFAULT_CA_BUNDLE_PATH))
        return host, kinds

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:  # noqa: ANN401, ARG002
        """Insist on a certificate that the context trusts; requests would have the file loaded again."""
        if url.lower().startswith("https"):
            conn.cert_reqs = "CERT_REQUIRED"


def _trusting(path: str) -> ssl.SSLContext:
    """Return the context that trusts what is at a path; it is made anew when something else is there.

    Raises:
        SSLError: it cannot be read, or holds no CA certificate.
    """
    try:
        with _turn:
            facts = Path(path).stat()
            version = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
            known, context = _trusts.get(path, ((), None))
            if context is None or known != version:
                context = _reading(path, is_directory=stat.S_ISDIR(facts.st_mode))
                _trusts[path] = version, context
            return context
    except OSError as error:
        why = error.strerror or str(error)
    # Without a cause, and with an OSError that has no number: they would be said instead (``io/http_errors.py``).
    raise SSLError(OSError(f"no CA certificate can be read from {path}: {why}"))


def _reading(path: str, *, is_directory: bool) -> ssl.SSLContext:
    """Return a new context for many threads; it trusts a PEM file, or a directory as openssl-rehash(1) makes it."""
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
    if is_directory:
        context.load_verify_locations(capath=path)
    else:
        context.load_verify_locations(path)
    context.set_alpn_protocols(ALPN_PROTOCOLS)
    # urllib3 sets them for each connection, and OpenSSL frees what another thread may be copying just then.
    vars(context)["set_alpn_protocols"] = lambda _protocols: None
    return context


class CuttableAdapter(TrustingAdapter):
    """An adapter with connections that another thread can close."""

    def __init__(self) -> None:
        self._connections: list[Any] = []
        super().__init__(max_retries=0)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - urllib3's pool
        """Return the pool that requests would use, changed so that we know every connection it opens."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        make = pool.ConnectionCls

        def connection(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            self._connections.append(made := make(*args, **kwargs))
            return made

        pool.ConnectionCls = connection
        return pool

    def cut_until_ended(self, worker: threading.Thread) -> None:
        """Close the connection until the thread that reads from it has ended.

        Once is not enough: a connection still in its TLS handshake cannot be reached, but has a timeout of its own.
        """
        while worker.is_alive():
            for connection in tuple(self._connections):
                with suppress(OSError, AttributeError):
                    connection.sock.shutdown(socket.SHUT_RDWR)
            worker.join(_AGAIN_SECONDS)
