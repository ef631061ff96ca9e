"""A cache with a time to live for each entry and a size limit; the least recently used entry is dropped first."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class RecentAnswers(Generic[K, V]):
    """The cache, for use from one thread; ``now`` is a monotonic clock in seconds."""

    def __init__(self, size: int, now: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._now = now
        self._kept: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: K) -> tuple[V, float] | None:
        """Return the value of a key and its remaining seconds to live; None when there is none."""
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
        """Store a value for so many seconds."""
        self._kept[key] = self._now() + seconds, value
        self._kept.move_to_end(key)
        while len(self._kept) > self._size:
            self._kept.popitem(last=False)
