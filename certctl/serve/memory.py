"""A bounded memory in which everything has a time; the least recently used goes first when it is full."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class RecentAnswers(Generic[K, V]):
    """Used from one thread; ``now`` is any clock that counts seconds and never goes back."""

    def __init__(self, size: int, now: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._now = now
        self._kept: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: K) -> tuple[V, float] | None:
        """Return what is remembered and for how many seconds more, or None."""
        if key not in self._kept:
            return None
        until, value = self._kept[key]
        left = until - self._now()
        if left <= 0:
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return value, left

    def put(self, key: K, value: V, seconds: float) -> None:
        """Remember something for that long."""
        self._kept[key] = self._now() + seconds, value
        self._kept.move_to_end(key)
        while len(self._kept) > self._size:
            self._kept.popitem(last=False)
