"""The daemon's metrics: ``/metrics`` prints them for Prometheus and ``/status`` sums them up for people."""

import math
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE

from certctl.formats import rfc3339
from certctl.io.clock import Clock
from certctl.serve.answers import Answer, Kind
from certctl.serve.ondemand import FlightResult, OnDemand
from certctl.slugs import Slug
from certctl.values import Mode

__all__ = ["CONTENT_TYPE", "Metrics"]

_BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 9, 15, 30, 60, 120)
_RECENT = 500
_NOT_AN_ERROR = frozenset({Kind.READY, Kind.REFUSED, Kind.PREPARING})


class Metrics:
    """A watcher that counts. Labels are kinds and slugs, never domain names, so their number is bounded."""

    def __init__(self, clock: Clock, store_up: Callable[[], bool], mode: Mode) -> None:
        self.registry = CollectorRegistry()
        self._first_hit = Histogram(
            "certctl_first_hit_seconds", "From the first visitor's question until nginx serves the name.",
            buckets=_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self._answers = Counter(
            "certctl_serve_answers",
            "What visitors were told, and why it was not 'ready'.",
            ["answer", "code"],
            registry=self.registry,
        )
        self._orders = Counter("certctl_serve_orders", "Orders placed at the CA.", registry=self.registry)
        self._waiters = Gauge("certctl_serve_waiters", "Visitors who wait now.", registry=self.registry)
        self._flights = Gauge("certctl_serve_flights", "Names on their way now.", registry=self.registry)
        self._remembered = Gauge(
            "certctl_serve_remembered", "Names whose answer is remembered now.", registry=self.registry
        )
        self._last_error = Gauge(
            "certctl_serve_last_error_timestamp_seconds", "When something other than a refusal last stopped one.",
            registry=self.registry,
        )  # fmt: skip
        self._store_up = Gauge("certctl_store_up", "1 when the store can be read.", registry=self.registry)
        self._store_up.set_function(lambda: float(store_up()))
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._clock = clock
        self._since = clock.now()
        self._mode = mode
        self._refusing: Callable[[], Answer | None] = lambda: None
        self._error: tuple[Slug | None, datetime] | None = None

    def watch(self, on_demand: OnDemand) -> None:
        """Export the numbers of flights, waiting visitors and remembered answers as gauges."""
        self._waiters.set_function(lambda: on_demand.waiting)
        self._flights.set_function(lambda: on_demand.in_flight)
        self._refusing = lambda: on_demand.refusing
        self._remembered.set_function(lambda: on_demand.remembered)

    def answered(self, answer: Answer) -> None:
        """Count the answer a visitor was given."""
        self._answers.labels(answer.kind, answer.slug or "").inc()

    def flight_ended(self, result: FlightResult) -> None:
        """Count how a flight ended."""
        answer = result.answer
        self._orders.inc(result.outcome.orders)
        if answer.kind is Kind.READY:
            self._first_hit.observe(result.seconds)
            self._recent.append(result.seconds)
        if answer.kind not in _NOT_AN_ERROR:
            self._error = answer.slug, self._clock.now()
            self._last_error.set(self._error[1].timestamp())

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def summary(self) -> Mapping[str, Any]:
        """Return what ``certctl status`` shows; times RFC 3339 in UTC, durations in milliseconds."""
        recent = sorted(self._recent)
        return {
            "since": rfc3339(self._since),
            "mode": self._mode,
            "waiters": self._now("certctl_serve_waiters"),
            "flights": self._now("certctl_serve_flights"),
            "orders": self._now("certctl_serve_orders_total"),
            "first_hit": {
                "count": self._now("certctl_first_hit_seconds_count"),
                "p50_ms": _quantile(recent, 0.5),
                "p95_ms": _quantile(recent, 0.95),
            },
            "answers": self._told("answer"),
            "reasons": self._told("code"),
            "refusing": refusing.slug if (refusing := self._refusing()) else None,
            "store_up": bool(self._now("certctl_store_up")),
            "last_error": {"code": self._error[0], "at": rfc3339(self._error[1])} if self._error else None,
        }

    def _now(self, name: str) -> int:
        return int(self.registry.get_sample_value(name) or 0)

    def _told(self, label: str) -> Mapping[str, int]:
        told: dict[str, int] = {}
        for metric in self._answers.collect():
            for sample in metric.samples:
                if sample.name.endswith("_total") and (value := sample.labels[label]):
                    told[value] = told.get(value, 0) + int(sample.value)
        return told


def _quantile(ordered: list[float], share: float) -> int | None:
    return round(1000 * ordered[math.ceil(share * len(ordered)) - 1]) if ordered else None
