"""Stand-ins for what a run may not need: a party that is built on first use, and a store that keeps no answer."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar, cast

from certctl.domain import Domain

T = TypeVar("T")


class NoMemory:
    """An ``AnswerStore`` that keeps nothing, for a run that must not write."""

    def remember_answer(self, domain: Domain, *, approved: bool, at: datetime) -> None:
        """Discard the answer."""

    def remembered_yes(self, domain: Domain) -> datetime | None:  # noqa: ARG002 - the question does not matter
        """Return None: no answer was kept."""
        return None


class _Later:
    """A proxy that builds a party when one of its methods is first used."""

    def __init__(self, party: Callable[[], object]) -> None:
        self._party = party

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the party has
        return getattr(self._party(), name)


def later(party: Callable[[], T]) -> T:
    """Return a proxy for a party, which is built when one of its methods is first used."""
    return cast("T", _Later(party))
