"""TLS handshakes with SNI (RFC 6066 §3) that show which certificate nginx serves, each on a new connection."""

import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256

from certctl.domain import CHECK_DOMAIN
from certctl.io.clock import Deadline
from certctl.nginx.settings import NginxSettings

_IN_A_ROW = 3  # an old worker may still answer one of several connections
_PAUSE = 0.03
_PROBE_LABEL = "certctl-check"
_MAX_NAME = 253
# RFC 5737, RFC 3849: only the way there is looked up.
_UNROUTED_ADDRESS = {"*": "192.0.2.1", "0.0.0.0": "192.0.2.1", "::": "2001:db8::1"}  # noqa: S104 - not a bind


@dataclass(frozen=True, slots=True)
class HandshakeResult:
    """The result of one handshake: the leaf's SHA-256, or why there was none.

    Attributes:
        alerted: Whether the server refused with a TLS alert (RFC 8446 §6.2).
    """

    fingerprint: str | None
    text: str
    alerted: bool = False


def look(settings: NginxSettings, name: str, wait: timedelta = timedelta(seconds=5)) -> HandshakeResult:
    """Return the result of one handshake for a name."""
    address = address_of(settings, settings.https_port)
    # No chain is verified, on purpose: the question is whether this very leaf is served, and comparing its
    # SHA-256 answers that more strictly than any chain could, also for CAs this host does not trust.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection(address, timeout=wait.total_seconds()) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            leaf = secure.getpeercert(binary_form=True)
    except ssl.SSLError as error:
        alerted = bool(error.reason and "ALERT" in error.reason) or error.reason == "TLSV1_UNRECOGNIZED_NAME"
        return HandshakeResult(None, f"{name}: handshake refused ({error.reason or error})", alerted)
    except OSError as error:
        return HandshakeResult(None, f"{name}: no connection to {address[0]} port {address[1]} ({error})")
    if not leaf:
        return HandshakeResult(None, f"{name}: no certificate was shown")
    fingerprint = sha256(leaf).hexdigest()
    return HandshakeResult(fingerprint, f"{name}: leaf {fingerprint}")


def is_answered(settings: NginxSettings, wait: timedelta = timedelta(seconds=5)) -> bool:
    """Tell whether any server takes TLS connections where nginx listens."""
    try:
        socket.create_connection(address_of(settings, settings.https_port), timeout=wait.total_seconds()).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return True  # overloaded, perhaps; a handshake will tell
    return True


def trouble(settings: NginxSettings, wait: timedelta = timedelta(seconds=5)) -> str:
    """Return what is wrong with TLS, by one handshake for a name of our own; empty when TLS is answered.

    A refusal counts as an answer: that name has no certificate. Neither nginx's Lua nor the daemon takes the name
    for a first visit.
    """
    seen = look(settings, CHECK_DOMAIN.name, wait)
    return "" if seen.fingerprint or seen.alerted else seen.text


def wait_until(
    settings: NginxSettings,
    names: Sequence[str],
    wanted: Callable[[HandshakeResult], bool],
    deadline: Deadline,
    in_a_row: int = _IN_A_ROW,
) -> HandshakeResult | None:
    """Return None once each name was as wanted several times in a row, else the last other result."""
    for name in names:
        times = 0
        while times < in_a_row:
            seen = look(settings, name, timedelta(seconds=max(0.2, min(5.0, deadline.remaining()))))
            times = times + 1 if wanted(seen) else 0
            if not times:
                if not deadline.remaining():
                    return seen
                time.sleep(_PAUSE)
    return None


def names_to_ask(names: Sequence[str]) -> list[str]:
    """Return the SNI to send for each name of a certificate; for a wildcard, a name one label below its zone."""
    asked = [name if not name.startswith("*.") else f"{_PROBE_LABEL}{name[1:]}" for name in names]
    return [name for name in asked if len(name) <= _MAX_NAME] or [names[0].removeprefix("*.")]


def address_of(settings: NginxSettings, port: int) -> tuple[str, int]:
    """Return (address, port) at which nginx answers: the first address it listens on, or its loopback."""
    return _loopback_for(settings.listen[0]), port


def outward_address(settings: NginxSettings) -> str | None:
    """Return this host's own outward address when nginx listens on all of them; no packet is sent for that.

    A block that listens on the loopback alone answers everything that comes there (https://nginx.org/r/listen).
    """
    unrouted = _UNROUTED_ADDRESS.get(settings.listen[0].strip("[]"))
    if unrouted is None:
        return None
    family = socket.AF_INET6 if ":" in unrouted else socket.AF_INET
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.connect((unrouted, 9))
        return str(asking.getsockname()[0])
    return None


def _loopback_for(listen: str) -> str:
    bare = listen.strip("[]")
    return {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(bare, bare)  # noqa: S104 - not a bind
