"""What Prometheus is told: requests, tokens and times, in a registry of this server's own.

It knows labels and clocks; not how requests are answered. No label is text from a request: a caller
must not be able to fill the memory with names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from puna.chat import Usage

Stats: TypeAlias = Callable[[], Mapping[str, Mapping[str, float]]]
"""name of a model -> name of a gauge (`running`, `waiting`, `kv_pages_free` ...) -> its value."""

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    def __init__(self, stats: Stats | None = None) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "puna_requests",
            "Requests answered, by route and status (499: the client went).",
            ("route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "puna_request_seconds",
            "From a request's arrival to the end of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._first = Histogram(
            "puna_time_to_first_event_seconds",
            "From a request's arrival to the first piece of its answer.",
            ("model",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._prompt = Counter(
            "puna_prompt_tokens", "Tokens read.", ("model",), registry=self._registry
        )
        self._cached = Counter(
            "puna_cached_tokens",
            "Tokens of prompts that were not computed again.",
            ("model",),
            registry=self._registry,
        )
        self._completion = Counter(
            "puna_completion_tokens", "Tokens written.", ("model",), registry=self._registry
        )
        self.in_flight = Gauge(
            "puna_choices_in_flight",
            "Answers that wait or run now.",
            registry=self._registry,
        )
        if stats is not None:
            self._registry.register(_StatsCollector(stats))

    def answered(self, route: str, status: int, seconds: float) -> None:
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def first_event(self, model: str, seconds: float) -> None:
        self._first.labels(model).observe(seconds)

    def used(self, model: str, usage: Usage) -> None:
        self._prompt.labels(model).inc(usage.prompt_tokens)
        self._cached.labels(model).inc(usage.cached_tokens)
        self._completion.labels(model).inc(usage.completion_tokens)

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _StatsCollector(Collector):
    """Asks when it is asked: a gauge that is pushed is a gauge that can be stale."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats

    def collect(self) -> Iterable[GaugeMetricFamily]:
        families: dict[str, GaugeMetricFamily] = {}
        for model, gauges in self._stats().items():
            for name, value in gauges.items():
                family = families.get(name)
                if family is None:
                    family = families[name] = GaugeMetricFamily(
                        f"puna_engine_{name}", f"The engine's {name}.", labels=("model",)
                    )
                family.add_metric((model,), value)
        return families.values()
