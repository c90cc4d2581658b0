"""Counters for the hot path, and the registry they are shown through.

prometheus_client takes a lock and several calls per increment; on a path that has 20 µs per query that is
felt. `Tally` counts in a plain dict, in one thread, and is read at scrape time. Names are Cilium's where the
meaning is Cilium's, `acns_…` otherwise. A label never carries anything a pod chooses (names least of all):
every label's values are words of ours, so that no client can grow the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

# Seconds; from a cached answer on the same node to the longest time-out.
LATENCY_BUCKETS_S: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    1,
    2.5,
    10,
)
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def new_registry() -> CollectorRegistry:
    """A registry of this agent's own, with the process's CPU, memory and descriptors in it."""
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    return registry


def exposition(registry: CollectorRegistry) -> bytes:
    """The text that Prometheus scrapes, of type `CONTENT_TYPE`."""
    return generate_latest(registry)


class Tally(Collector):
    """A counter with plain integers inside. Not for several threads. `name` comes without `_total`.

    `known` lists label values to show as 0 before they happen, so that a rate exists from the start.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: tuple[str, ...] = (),
        *,
        registry: CollectorRegistry,
        known: Iterable[tuple[str, ...]] = (),
    ) -> None:
        self._name = name.removesuffix("_total")
        self._documentation = documentation
        self._labels = labels
        self._counts: dict[tuple[str, ...], int] = dict.fromkeys(known if labels else ((),), 0)
        registry.register(self)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of its labels."""
        return self._labels

    def add(self, *values: str, by: int = 1) -> None:
        try:
            self._counts[values] += by
        except KeyError:
            if len(values) != len(self._labels):
                raise ValueError(f"{self._name} has labels {self._labels}, got {values}") from None
            self._counts[values] = by

    def count(self, *values: str) -> int:
        """The count of one combination; with no values, of all of them together."""
        return self._counts.get(values, 0) if values else sum(self._counts.values())

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, count in list(self._counts.items()):
            family.add_metric(values, count)
        yield family


class BareTally(Tally):
    """A counter of Cilium's DNS proxy, which leaves `_total` out of its names; the text then has no type."""

    def collect(self) -> Iterable[Metric]:
        family = Metric(self._name, self._documentation, "unknown")
        for values, count in list(self._counts.items()):
            family.add_sample(self._name, dict(zip(self._labels, values, strict=True)), count)
        yield family


class Reading(Collector):
    """A gauge that asks when it is scraped."""

    family: type[GaugeMetricFamily | CounterMetricFamily] = GaugeMetricFamily

    def __init__(
        self, name: str, documentation: str, read: Callable[[], float], *, registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._read = read
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        yield self.family(self._name, self._documentation, value=self._read())

    def describe(self) -> Iterable[Metric]:
        """The name alone: registering must not read a gauge whose owner is still being made."""
        yield self.family(self._name, self._documentation)


class CountReading(Reading):
    """A counter whose owner counts; `name` comes without `_total`."""

    family = CounterMetricFamily


class LabelledReading(Collector):
    """A gauge with one label that asks when it is scraped: label value → value."""

    def __init__(
        self,
        name: str,
        documentation: str,
        label: str,
        read: Callable[[], Mapping[str, float]],
        *,
        registry: CollectorRegistry,
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._label = label
        self._read = read
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(self._name, self._documentation, labels=(self._label,))
        for value, number in self._read().items():
            family.add_metric((value,), number)
        yield family

    def describe(self) -> Iterable[Metric]:
        """As `Reading.describe`."""
        yield GaugeMetricFamily(self._name, self._documentation, labels=(self._label,))
