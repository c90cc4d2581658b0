"""Counters for the hot path, and the registry they are shown through.

prometheus_client takes a lock and several calls per increment; on a path that has 20 µs per query that is
felt. `Tally` counts in a plain dict, in one thread, and is read at scrape time. Names are Cilium's where the
meaning is Cilium's, `acns_…` otherwise. A label never carries anything a pod chooses (names least of all):
every label's values are words of ours, so that no client can grow the table.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
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


class Cell:
    """One count of a `Tally`, for those who count the same thing again and again: `cell.count += 1`."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


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
        self._cells: dict[tuple[str, ...], Cell] = {values: Cell() for values in (known if labels else ((),))}
        registry.register(self)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of its labels."""
        return self._labels

    def cell(self, *values: str) -> Cell:
        """The count of one combination of label values."""
        found = self._cells.get(values)
        if found is None:
            if len(values) != len(self._labels):
                raise ValueError(f"{self._name} has labels {self._labels}, got {values}")
            found = self._cells[values] = Cell()
        return found

    def add(self, *values: str, by: int = 1) -> None:
        self.cell(*values).count += by

    def count(self, *values: str) -> int:
        """The count of one combination; with no values, of all of them together."""
        cells = [self._cells[values]] if values in self._cells else []
        return sum(cell.count for cell in (cells if values else self._cells.values()))

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, cell in list(self._cells.items()):
            family.add_metric(values, cell.count)
        yield family


class BareTally(Tally):
    """A counter of Cilium's DNS proxy, which leaves `_total` out of its names; the text then has no type."""

    def collect(self) -> Iterable[Metric]:
        family = Metric(self._name, self._documentation, "unknown")
        for values, cell in list(self._cells.items()):
            family.add_sample(self._name, dict(zip(self._labels, values, strict=True)), cell.count)
        yield family


class Times(Collector):
    """A histogram of seconds with plain integers inside. Not for several threads."""

    def __init__(
        self, name: str, documentation: str, labels: tuple[str, ...], *, registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = labels
        self._kinds: dict[tuple[str, ...], TimesOfKind] = {}
        registry.register(self)

    def labels(self, *values: str) -> TimesOfKind:
        """The part with these label values."""
        return self._kinds.setdefault(values, TimesOfKind())

    def fold(self) -> None:
        """To be called now and then, so that what was observed does not pile up."""
        for kind in self._kinds.values():
            kind.fold()

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, kind in list(self._kinds.items()):
            family.add_metric(values, *kind.result())
        yield family


class TimesOfKind:
    """`observe` is an append to a list; `fold`, to be called now and then, sorts into buckets."""

    __slots__ = ("_counts", "_recent", "_total_s", "observe")

    def __init__(self) -> None:
        self._total_s = 0.0
        self._counts = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self._recent: list[float] = []
        self.observe: Callable[[float], None] = self._recent.append

    def fold(self) -> None:
        self._total_s += sum(self._recent)
        for seconds in self._recent:
            self._counts[bisect_left(LATENCY_BUCKETS_S, seconds)] += 1
        self._recent.clear()

    def result(self) -> tuple[list[tuple[str, float]], float]:
        """Upper bound, as Prometheus prints it, with how many were not above; and the sum."""
        self.fold()
        bounds = [str(float(bound)) for bound in LATENCY_BUCKETS_S] + ["+Inf"]
        counts = map(float, itertools.accumulate(self._counts))
        return list(zip(bounds, counts, strict=True)), self._total_s


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
