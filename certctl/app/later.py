"""What a run may never need: a party nobody has spoken to yet, and the memory of one that must leave no trace."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar, cast

from certctl.domain import Domain

T = TypeVar("T")


class NoMemory:
    """Remembers nothing."""

    def remember_answer(self, domain: Domain, *, approved: bool, at: datetime) -> None:
        """Let it go."""

    def remembered_yes(self, domain: Domain) -> datetime | None:  # noqa: ARG002 - the question does not matter
        """Return None."""
        return None


class _Later:
    """A party nobody has spoken to yet."""

    def __init__(self, party: Callable[[], object]) -> None:
        self._party = party

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the party has
        return getattr(self._party(), name)


def later(party: Callable[[], T]) -> T:
    """Return a party that is made when somebody first speaks to it."""
    return cast("T", _Later(party))
