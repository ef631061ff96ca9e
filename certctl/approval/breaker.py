"""A circuit breaker for the approval endpoint: a batch of a thousand names must not wait a thousand deadlines."""

import time
from collections.abc import Callable
from dataclasses import replace
from threading import Lock

from certctl.approval.answer import Answer, Verdict
from certctl.domain import Domain

_FAILURES = 3
_REST_SECONDS = 15.0


class Breaker:
    """Repeats the last failure instead of asking, for a while after three failures in a row.

    ``now`` returns monotonic seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = Lock()
        self._failures = 0
        self._rest_until = 0.0
        self._last: Answer | None = None

    def ask(self, domain: Domain, question: Callable[[], Answer]) -> Answer:
        """Return the answer to the question, or the last failure while the breaker is open."""
        with self._lock:
            if self._last is not None and self._now() < self._rest_until:
                seen = f"not asked again so soon: {self._last.seen}, {self._failures} times in a row"
                return replace(self._last, domain=domain, milliseconds=0, seen=seen)
        answer = question()
        with self._lock:
            self._note(answer)
        return answer

    def _note(self, answer: Answer) -> None:
        if answer.verdict is not Verdict.UNKNOWN:
            self._failures, self._last = 0, None
            return
        self._failures, self._last = self._failures + 1, answer
        if self._failures >= _FAILURES:
            self._rest_until = self._now() + _REST_SECONDS
