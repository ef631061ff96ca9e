"""One thread's signed requests to the CA (RFC 8555 §6.2): each has a deadline, and each answer is recorded."""

import time
from typing import TypeVar

import requests
from acme import messages
from acme.errors import TimeoutError as OutOfTime
from josepy.errors import DeserializationError
from josepy.interfaces import JSONDeSerializable
from josepy.jwa import ES256, ES384, ES512, RS256, JWASignature
from josepy.jwk import JWK, JWKEC

from certctl.ca.http import RecordedAcmeHttp, in_time
from certctl.ca.settings import CaSettings
from certctl.io.clock import Deadline

_SECONDS = 30
_NONCES = 10  # a CA that refuses every third nonce is met once in 60,000 requests

T = TypeVar("T", bound=JSONDeSerializable)


class Session(RecordedAcmeHttp):
    """The HTTP connection of one thread to the CA, kept between orders with its unused nonces.

    Attributes:
        directory: The CA's directory; the caller that opens the session sets it.
        deadline: The deadline of every request until it is set again.
        last_used: The monotonic time of the last success.
        names_waits: Whether this CA sends ``Retry-After``; True until an order went without one.
    """

    directory: messages.Directory
    deadline: Deadline

    def __init__(self, settings: CaSettings, key: JWK, account: messages.RegistrationResource | None) -> None:
        """Open a session for an account, or for a certificate's own key, which may revoke (RFC 8555 §7.6)."""
        super().__init__(settings, _SECONDS)
        self.key, self.account, self.alg = key, account, _algorithm(key)
        self.last_used = time.monotonic()
        self.names_waits = True

    def fetch(self, url: str) -> requests.Response:
        """Return a resource, fetched by POST-as-GET (RFC 8555 §6.3); raises as ``send``."""
        return self.send(url, None)

    def send(self, url: str, body: JSONDeSerializable | None) -> requests.Response:
        """Post a signed body and return the response; ``badNonce`` (§6.5) is retried, by acme 5.9 only once.

        Raises:
            acme.messages.Error: the CA's problem document.
            acme.errors.Error, requests.RequestException: no usable answer.
            Interrupted: this process was asked to stop.
        """
        for left in reversed(range(_NONCES)):
            try:
                return in_time(self._seconds(), lambda: self._signed(url, body))
            except messages.Error as error:
                if error.code != "badNonce" or not left:
                    raise
        raise AssertionError("the last try returns or raises")

    def _signed(self, url: str, body: JSONDeSerializable | None) -> requests.Response:
        return self.post(url, body, new_nonce_url=self.place("newNonce"))

    def place(self, resource: str) -> str:
        """Return the URL of a resource in the CA's directory, such as ``newOrder``.

        Raises:
            josepy.DeserializationError: the CA's directory does not have it.
        """
        if resource not in self.directory.to_partial_json():
            raise DeserializationError(f"a directory without {resource}")
        return str(self.directory[resource])

    def _seconds(self) -> float:
        left = self.deadline.remaining()
        if not left:
            raise OutOfTime
        return min(_SECONDS, left)


def parsed(kind: type[T], response: requests.Response) -> T:
    """Return a response's body as one of the acme library's messages.

    Raises:
        josepy.DeserializationError: the body is no such message, or has no status, which josepy 2.2 accepts; for
            JSON of another shape josepy raises other exceptions.
    """
    try:
        found = kind.from_json(response.json())
    except (TypeError, AttributeError, LookupError, ValueError) as error:
        raise DeserializationError(f"not a {kind.__name__}: {error}") from error
    if isinstance(found, (messages.Order, messages.Authorization)) and found.status is None:
        raise DeserializationError(f"a {kind.__name__} without a status")
    return found


def _algorithm(key: JWK) -> JWASignature:
    """Return the JWS algorithm of a key (RFC 7518 §3.1), such as ES256."""
    curves = {256: ES256, 384: ES384, 521: ES512}
    return curves[key.key.key_size] if isinstance(key, JWKEC) else RS256
