"""What party 3 asks of an engine: turn a key and a request into a chain, and nothing more.

Locks, the working directory, taking up what a killed run left, the check of the result and giving up are the same
for every engine, and are in ``ca/authority.py``.
"""

from dataclasses import dataclass
from typing import Protocol

from certctl.ca.plan import OrderPlan
from certctl.ca.settings import OrderRequest, order_request_for
from certctl.ca.transcript import EngineResult
from certctl.ca.workdir import WorkingDirectory
from certctl.domain import Domain
from certctl.io.clock import Deadline


@dataclass(frozen=True, slots=True)
class Task:
    """One certificate to get.

    Attributes:
        workdir: Holds our key and request, and takes the chain.
        plan: How its challenges are solved.
        lock: The descriptor of this name's lock; a child process inherits it, so it outlives us when we are killed.
        deadline: For all of it.
        replaces: The identifier of the certificate it renews (RFC 9773 §4.1); empty when there is none.
    """

    domain: Domain
    workdir: WorkingDirectory
    plan: OrderPlan
    lock: int
    deadline: Deadline
    replaces: str = ""

    @property
    def order(self) -> OrderRequest:
        """Return what the CA is asked for."""
        return order_request_for(self.domain, self.plan.settings)


class Engine(Protocol):
    """Speaks ACME for us."""

    def issue(self, task: Task, account: str) -> EngineResult:
        """Turn the key and request in the working directory into a chain there.

        Raises:
            ConfigInvalid: the engine cannot be used at all.
        """
        ...

    def revoke(self, workdir: WorkingDirectory, lock: int) -> EngineResult:
        """Revoke the certificate in the working directory, signed with its own key there (RFC 8555 §7.6)."""
        ...
