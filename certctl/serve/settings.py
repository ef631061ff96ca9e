"""The bounds of the daemon: time, threads, memory and rates."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A token bucket: ``burst`` at once, then one every ``refill``."""

    burst: int
    refill: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """The ``[serve]`` section, and the bounds that are not configurable.

    Attributes:
        concurrency: Orders at the CA at once.
        no_lasts: How long a no of the operator's, or a name that cannot be registered, is remembered.
        patience: How long a visitor waits: browsers give a handshake 30 s and Go's default transport 10.
        order_patience: How long a name waits for its turn at the CA.
        threads: Names that are verified at once; most of the time they wait for DNS.
        flights: Names in flight, queued ones included.
        memory: Names whose answer is remembered.
        per_registered_domain: New names below one registered domain.
        overall: New names of all domains. A minute of 10,000 invented names takes 5.4 s of CPU, most of them
            beyond this (tests/bench/bench_flood.py).
        stop_patience: How long orders under way may take to end once the daemon was asked to stop.
        connections: Clients at once; one more is told to come back.
    """

    concurrency: int = 8
    no_lasts: timedelta = timedelta(minutes=5)
    patience: timedelta = timedelta(seconds=9)
    order_patience: timedelta = timedelta(seconds=60)
    threads: int = 64
    flights: int = 500
    memory: int = 20_000
    per_registered_domain: Rate = Rate(burst=20, refill=timedelta(seconds=6))
    overall: Rate = Rate(burst=200, refill=timedelta(milliseconds=50))
    stop_patience: timedelta = timedelta(seconds=60)
    connections: int = 2000
