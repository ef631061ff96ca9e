"""Describe an HTTP error without the URL, which requests' own messages repeat and which may hold a token."""

import socket
import ssl
from collections.abc import Iterator

import requests


def in_words(error: BaseException) -> str:
    """Return a short phrase for an exception, taken from the most telling of its causes."""
    causes = list(_causes(error))
    for cause in causes:
        if phrase := _phrase(cause):
            return phrase
    return f"not an answer in HTTP ({type(causes[-1]).__name__})"


def is_passing(error: BaseException) -> bool:
    """Tell whether a retry at once may well succeed: the connection was made and then broke."""
    return any(isinstance(cause, ConnectionResetError | BrokenPipeError) for cause in _causes(error))


def _phrase(cause: BaseException) -> str | None:
    match cause:
        case ssl.SSLCertVerificationError():
            phrase = f"its TLS certificate is not accepted: {cause.verify_message}"
        case ssl.SSLError():
            phrase = f"TLS failed: {cause.reason or 'the connection ended'}"
        case socket.gaierror():
            phrase = f"its host name does not resolve: {cause.strerror}"
        case TimeoutError() | requests.Timeout():
            phrase = "no answer in time"
        case requests.RequestException():
            phrase = ""  # an OSError too, whose text is the URL
        case OSError():
            phrase = cause.strerror or _without_a_number(cause)
        case _:
            phrase = ""
    return phrase or None


def _without_a_number(cause: OSError) -> str:
    """Return a phrase for an OSError without errno, which Python made itself."""
    if isinstance(cause, ConnectionError):
        return "the connection was closed without an answer"
    return "the ca_file cannot be read" if "CA certificate" in str(cause) else ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the causes of an exception from the innermost outwards, also those urllib3 keeps in its arguments."""
    seen: list[BaseException] = []
    ahead: list[object] = [error]
    while ahead:
        this = ahead.pop(0)
        if isinstance(this, BaseException) and this not in seen:
            seen.append(this)
            ahead += [*this.args, getattr(this, "reason", None), this.__cause__, this.__context__]
    return reversed(seen)
