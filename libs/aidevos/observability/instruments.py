"""Counters, gauges and histograms of one process, cheap enough for every request.

Promise: a metric has at most `MOST` combinations of label values. Whatever comes after them is counted under `other`,
so a metric can fill neither the memory of a process nor that of Prometheus.

The registry and the formats are prometheus_client's. Its own metrics lock each value, so they take several times as
long as these, which belong to one thread: that of the event loop.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Generic, Literal, TypeVar
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.samples import Exemplar

log = logging.getLogger(__name__)
MOST = 2000
OTHER = "other"
# Upper bounds of buckets in seconds: of what runs at once, and of what may wait.
SECONDS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LONG_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0, 86400.0)
Kind = Literal["counter", "gauge", "histogram"]
Values = tuple[str, ...]
Owner = TypeVar("Owner")
Child = TypeVar("Child")


class Family(ABC):
    """A metric under its name. It is shown for as long as the process lives."""

    kind: Kind

    def __init__(self, name: str, about: str, labels: Sequence[str] = ()) -> None:
        self.name = name
        self.about = about
        self.label_names = tuple(labels)
        REGISTRY.register(self)

    def describe(self) -> Iterable[Metric]:
        """Return the metric without its values, from which the registry learns its name."""
        return [self._family()]

    @abstractmethod
    def collect(self) -> Iterable[Metric]:
        """Return the metric with its values."""

    @abstractmethod
    def _family(self) -> Any: ...


class Instrument(Family, Generic[Child]):
    """A metric with a child for each combination of label values; one without labels has a single child."""

    def __init__(self, name: str, about: str, labels: Sequence[str] = (), *, most: int = MOST) -> None:
        self._most = most
        self._children: dict[Values, Child] = {}
        super().__init__(name, about, labels)
        if not labels:
            self.labels()

    def labels(self, *values: str) -> Child:
        """Return the child with these label values. Keep it where each request is counted."""
        child = self._children.get(values)
        return self._add(values) if child is None else child

    def _add(self, values: Values) -> Child:
        if len(values) != len(self.label_names):
            raise ValueError(f"{self.name} has the labels {self.label_names}, not {values}")
        if len(self._children) >= self._most:
            refused, values = values, (OTHER,) * len(values)
            if values not in self._children:
                log.error("%s has too many label values: %s and later ones count as %r", self.name, refused, OTHER)
        return self._children.setdefault(values, self._child())

    def collect(self) -> Iterable[Metric]:
        family = self._family()
        for values, child in self._children.items():
            self._show(family, values, child)
        return [family]

    @abstractmethod
    def _child(self) -> Child: ...

    @abstractmethod
    def _show(self, family: Any, values: Values, child: Child) -> None: ...


class Number:
    """A value of a counter or a gauge."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1.0) -> None:
        self.value += amount

    def set(self, value: float) -> None:
        self.value = value


class Counter(Instrument[Number]):
    """A number that only grows. Its name ends with `_total`."""

    kind = "counter"

    @property
    def total(self) -> float:
        """The number over all label values."""
        return sum(child.value for child in self._children.values())

    def inc(self, amount: float = 1.0) -> None:
        """Count, if the metric has no labels."""
        self.labels().inc(amount)

    def _child(self) -> Number:
        return Number()

    def _family(self) -> CounterMetricFamily:
        return CounterMetricFamily(self.name.removesuffix("_total"), self.about, labels=self.label_names)

    def _show(self, family: CounterMetricFamily, values: Values, child: Number) -> None:
        family.add_metric(values, child.value)


class Gauge(Instrument[Number]):
    """A number that grows and shrinks. It is shown from when it is first set."""

    kind = "gauge"

    def __init__(self, name: str, about: str, labels: Sequence[str] = (), *, most: int = MOST) -> None:
        super().__init__(name, about, labels, most=most)
        self.clear()

    def set(self, value: float) -> None:
        """Set the number, if the metric has no labels."""
        self.labels().set(value)

    def clear(self) -> None:
        """Show nothing, because this process no longer knows the numbers."""
        self._children.clear()

    def _child(self) -> Number:
        return Number()

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(self.name, self.about, labels=self.label_names)

    def _show(self, family: GaugeMetricFamily, values: Values, child: Number) -> None:
        family.add_metric(values, child.value)


class Distribution:
    """The values of a histogram, counted by bucket, with the latest exemplar of each."""

    __slots__ = ("bounds", "counts", "exemplars", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.exemplars: dict[int, Exemplar] = {}

    def observe(self, value: float, trace_id: str | None = None) -> None:
        """Count a value. With a trace ID, it becomes the exemplar of its bucket."""
        place = bisect_left(self.bounds, value)
        self.counts[place] += 1
        self.sum += value
        if trace_id is not None:
            self.exemplars[place] = Exemplar({"trace_id": trace_id}, value, time.time())

    @property
    def count(self) -> int:
        return sum(self.counts)


class Histogram(Instrument[Distribution]):
    """A distribution of values. `buckets` are upper bounds, in ascending order."""

    kind = "histogram"

    def __init__(
        self,
        name: str,
        about: str,
        labels: Sequence[str] = (),
        *,
        buckets: Sequence[float] = SECONDS,
        most: int = MOST,
    ) -> None:
        self.buckets = tuple(map(float, buckets))
        self._bounds = (*map(str, self.buckets), "+Inf")
        super().__init__(name, about, labels, most=most)

    @property
    def total(self) -> float:
        """The sum of all values."""
        return sum(child.sum for child in self._children.values())

    def observe(self, value: float, trace_id: str | None = None) -> None:
        """Count a value, if the metric has no labels."""
        self.labels().observe(value, trace_id)

    def _child(self) -> Distribution:
        return Distribution(self.buckets)

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self.name, self.about, labels=self.label_names)

    def _show(self, family: HistogramMetricFamily, values: Values, child: Distribution) -> None:
        counts = zip(self._bounds, accumulate(child.counts), strict=True)
        buckets: list[Any] = [(*each, child.exemplars.get(place)) for place, each in enumerate(counts)]
        family.add_metric(values, buckets, child.sum)


class Reading(Family):
    """A gauge that is read only when it is shown, from all of its sources, whose values are added up.

    With `greatest`, the greatest of their values is shown instead.
    """

    kind = "gauge"

    def __init__(self, name: str, about: str, labels: Sequence[str] = (), *, greatest: bool = False) -> None:
        self._sources: WeakKeyDictionary[Any, Callable[[Any], Mapping[Values, float]]] = WeakKeyDictionary()
        self._combine: Callable[[list[float]], float] = max if greatest else sum
        super().__init__(name, about, labels)

    def read_from(self, owner: Owner, read: Callable[[Owner], Mapping[Values, float]]) -> None:
        """Show what `read(owner)` returns by label values, until the owner is forgotten or gone."""
        self._sources[owner] = read

    def forget(self, owner: object) -> None:
        self._sources.pop(owner, None)

    @property
    def total(self) -> float:
        """The sum over all sources and label values."""
        return sum(sum(read(owner).values()) for owner, read in list(self._sources.items()))

    def collect(self) -> Iterable[Metric]:
        found: dict[Values, list[float]] = {}
        for owner, read in list(self._sources.items()):
            for values, number in read(owner).items():
                found.setdefault(values, []).append(number)
        family = self._family()
        for values, numbers in found.items():
            family.add_metric(values, self._combine(numbers))
        return [family]

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(self.name, self.about, labels=self.label_names)
