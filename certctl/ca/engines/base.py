"""The interface of an engine: turn the request in a working directory into a certificate chain, and nothing more.

Locks, the working directory, resuming after a kill, the check of the certificate and the clean-up are the same for
both engines, and are in ``ca/authority.py``.
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
    """One certificate to obtain.

    Attributes:
        workdir: Holds our key and request, and receives the chain.
        plan: How its challenges are solved.
        lock: The descriptor of this name's lock; a child process inherits it, so it outlives us when we are killed.
        deadline: The deadline of the whole task.
        replaces: The ARI identifier of the certificate it renews (RFC 9773 §4.1); empty when there is none.
    """

    domain: Domain
    workdir: WorkingDirectory
    plan: OrderPlan
    lock: int
    deadline: Deadline
    replaces: str = ""

    @property
    def order(self) -> OrderRequest:
        """Return the request: directory, profile, key type and names."""
        return order_request_for(self.domain, self.plan.settings)


class Engine(Protocol):
    """Speaks ACME (RFC 8555) to the CA."""

    def issue(self, task: Task, account: str) -> EngineResult:
        """Turn the key and request in the working directory into a chain there, and return how that ended.

        Raises:
            ConfigInvalid: the engine cannot be used at all.
        """
        ...

    def revoke(self, workdir: WorkingDirectory, lock: int) -> EngineResult:
        """Revoke the certificate in the working directory, signed with its own key there (RFC 8555 §7.6)."""
        ...
