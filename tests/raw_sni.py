"""Ask a TLS server for a name of any bytes: what no TLS library would send."""

import contextlib
import socket
import ssl

_ALERT, _HANDSHAKE, _CERTIFICATE = 21, 22, 11
_HEADER = 5


def offered_leaf(port: int, name: bytes) -> bytes | None:
    """Return the leaf's DER that a server on this host shows to a client that names itself so, or None.

    The name of a real ClientHello is replaced by one of the same length. In TLS 1.2 the certificate comes in the
    clear, before anybody could notice.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(client_hello(name))
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while data := connection.recv(65536):
                received += data
                messages = _handshake(received)
                if messages is None:
                    return None
                if leaf := _leaf(messages):
                    return leaf
    return None


def client_hello(name: bytes) -> bytes:
    """Return the first bytes of a handshake for this name."""
    length = b"\0" + len(name).to_bytes(2)  # RFC 6066 §3: host_name, then its length
    return _hello(len(name)).replace(length + _placeholder(len(name)), length + name)


def _placeholder(length: int) -> bytes:
    name = (b"q" * 50 + b".") * 6
    return name[: length - 1] + b"q"


def _hello(length: int) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    sent = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=_placeholder(length).decode())
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return sent.read()


def _handshake(received: bytes) -> bytes | None:
    """Return the handshake messages of the records that came whole; None after an alert."""
    messages = b""
    while len(received) >= _HEADER:
        end = _HEADER + int.from_bytes(received[3:5])
        if received[0] == _ALERT:
            return None
        if len(received) < end:
            break
        messages += received[_HEADER:end]
        received = received[end:]
    return messages


def _leaf(messages: bytes) -> bytes | None:
    while len(messages) >= 4:
        end = 4 + int.from_bytes(messages[1:4])
        if messages[0] == _CERTIFICATE and len(messages) >= end:
            length = int.from_bytes(messages[7:10])
            return messages[10 : 10 + length]
        messages = messages[end:]
    return None
