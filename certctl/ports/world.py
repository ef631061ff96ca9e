"""The world of a story: four parties, a store, locks and a clock; ``app/context.py`` builds it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from certctl.budget import Bucket, Limit
from certctl.domain import Domain
from certctl.due import shares
from certctl.io.clock import Clock
from certctl.ports.parties import CertificateAuthority, Dns, Locks, Operator, WebServer
from certctl.ports.store import Store
from certctl.values import (
    DomainRow,
)


@dataclass(frozen=True, slots=True)
class World:
    """Everything a story may touch.

    Attributes:
        limits: The CA's limits by bucket, less the reserve this run leaves to others.
        waits_for_orders: A run that finds no order left waits for the next one instead of refusing the domain.
    """

    dns: Dns
    operator: Operator
    ca: CertificateAuthority
    web: WebServer
    store: Store
    locks: Locks
    clock: Clock
    limits: Mapping[Bucket, Limit]
    fallback_fraction: float = 1 / 3
    waits_for_orders: bool = False

    @contextmanager
    def holding(self, domain: Domain) -> Iterator["World"]:
        """Hold one domain's lock, and yield the world to use in the block.

        What a run learns about the domain, a failure above all, is written before the lock is released: the next
        holder reads that first, and does not order what has just failed.

        Raises:
            Busy: another run held it for too long.
        """
        with self.locks.domain(domain):
            yield self

    def candidates(self) -> Sequence[DomainRow]:
        """Return at least every domain that a run has to look at now; see ``Store.candidates``."""
        return self.store.candidates(self.clock.now(), shares(self.fallback_fraction))
