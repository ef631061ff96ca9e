"""Questions of our own to the CA, beside certbot's: whatever it answers, bounded in time and in bytes."""

import threading
from collections.abc import Callable
from io import BytesIO
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import requests
from acme.client import ClientNetwork
from requests.adapters import HTTPAdapter

from certctl.ca.settings import CaSettings

AT_ONCE = 16
_MAX_BYTES = 64 * 1024

T = TypeVar("T")


def network(settings: CaSettings, seconds: int) -> ClientNetwork:
    """Open the way to the CA, by certbot's own acme library: no proxies, no key, answers cut to 64 KiB."""
    net = ClientNetwork(timeout=seconds, user_agent="certctl")
    # Annotated as a bool, handed on to requests as it is (acme 5.9): there a path is the trust.
    net.verify_ssl = str(settings.ca_file) if settings.ca_file else True  # type: ignore[assignment]
    net.session.trust_env = False
    net.session.mount("https://", HTTPAdapter(pool_maxsize=AT_ONCE))
    net.session.hooks["response"].append(_shorten)
    return net


def _shorten(response: requests.Response, **_: Any) -> None:  # noqa: ANN401 - requests' hook
    """Read an answer before requests does, which would read for ever; a longer one is cut and so no JSON."""
    response.raw = BytesIO(response.raw.read(_MAX_BYTES, decode_content=True))


def in_time(seconds: float, do: Callable[[], T]) -> T:
    """Return what ``do`` returns or raise what it raises, but wait no longer.

    The timeout of requests counts from byte to byte, and nothing bounds the look-up of a host name; the thread
    left behind ends with its socket or with us.
    """
    results: SimpleQueue[Callable[[], T]] = SimpleQueue()

    def work() -> None:
        try:
            value = do()
        except Exception as error:  # noqa: BLE001 - raised again by whoever waits
            results.put(_raiser(error))
        else:
            results.put(lambda: value)

    threading.Thread(target=work, name="ca", daemon=True).start()
    try:
        return results.get(timeout=seconds)()
    except Empty:
        raise requests.Timeout(f"no whole answer within {seconds} s") from None


def _raiser(error: Exception) -> Callable[[], Any]:
    def again() -> Any:  # noqa: ANN401
        raise error

    return again
