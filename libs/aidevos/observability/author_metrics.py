"""Metrics of users' own code: `aidevos.metric(…)`, and `self.metrics` in objects.

Promise: the name of each begins with `app_`, so none can be taken for one of the product's. A metric has at most
`MOST_OF_AUTHOR` combinations of label values; what comes after them counts as `other`. A metric counts at once, also in
a turn that is undone later, and is gone when its process ends.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from aidevos.observability.instruments import SECONDS, Counter, Distribution, Gauge, Histogram, Kind

PREFIX = "app_"
MOST_OF_AUTHOR = 200
LONGEST_VALUE = 100
TYPE = "type"
# Labels that Prometheus, its scrapers and the formats use themselves.
RESERVED = frozenset({"le", "quantile", "service", "replica", "instance", "job", "process"})
# Ends of names by which the formats tell the parts of a metric apart.
ENDINGS = ("_total", "_bucket", "_count", "_sum", "_created", "_info")
_is_name = re.compile(r"[a-z][a-z0-9_]{0,79}").fullmatch
_known: dict[str, AuthorMetric] = {}


class AuthorMetric:
    """A metric of a user's code. Make it with `aidevos.metric`.

    `add` is for counters and gauges, `set` for gauges, and `observe` for histograms. Each takes the labels as keywords.
    They raise `TypeError` for another kind of metric or other labels, and `ValueError` for a value that can't be used.
    """

    def __init__(self, name: str, about: str, kind: Kind, labels: Sequence[str], buckets: Sequence[float]) -> None:
        self.name = PREFIX + name
        self.kind = kind
        self.label_names = tuple(labels)
        self.buckets = tuple(buckets)
        self._instrument = _instrument(self.name, about or f"{name} of the application", self)

    def add(self, amount: float = 1, /, **labels: object) -> None:
        """Add an amount to a counter, or to a gauge, of which it may be negative."""
        self._require("counter", "gauge")
        if not _is_number(amount) or (amount < 0 and self.kind == "counter"):
            raise ValueError(f"the counter {self.name} can't grow by {amount!r}")
        self._child(labels).inc(amount)

    def set(self, value: float, /, **labels: object) -> None:
        """Set a gauge."""
        self._require("gauge")
        if not _is_number(value):
            raise ValueError(f"{self.name} can't be set to {value!r}: it is no finite number")
        self._child(labels).set(value)

    def observe(self, value: float, /, **labels: object) -> None:
        """Count a value, such as seconds or bytes, in a histogram."""
        self._require("histogram")
        if not _is_number(value) or value < 0:
            raise ValueError(f"{self.name} can't count {value!r}: it must be a number of at least 0")
        self._child(labels).observe(value)

    def value(self, **labels: object) -> float:
        """Return the number that was counted or set under these labels; of a histogram, how many values it has."""
        child = self._child(labels)
        return child.count if isinstance(child, Distribution) else child.value

    def _require(self, *kinds: Kind) -> None:
        if self.kind not in kinds:
            raise TypeError(f"{self.name} is a {self.kind}: use {_verbs(self.kind)}")

    def _child(self, labels: Mapping[str, object]) -> Any:
        if labels.keys() != set(self.label_names):
            known = ", ".join(self.label_names) or "none"
            raise TypeError(f"{self.name} was used with the labels {', '.join(labels) or 'none'}: it has {known}")
        values = [str(labels[name]) for name in self.label_names]
        if any(len(value) > LONGEST_VALUE for value in values):
            raise ValueError(f"a label of {self.name} has more than {LONGEST_VALUE} characters")
        return self._instrument.labels(*values)


def metric(
    name: str,
    about: str = "",
    *,
    kind: Kind = "counter",
    labels: Sequence[str] = (),
    buckets: Sequence[float] = SECONDS,
) -> AuthorMetric:
    """Return the metric `app_<name>` of this process: a `counter`, a `gauge` or a `histogram`.

    `about` explains it to operators. `labels` are the names of its labels, whose values must be few, such as kinds or
    regions: never IDs. `buckets` are a histogram's upper bounds, in ascending order. A counter's name gets the ending
    `_total`. The same declaration may be repeated. Raises `ValueError` for a name or label that can't be used, and
    `TypeError` if the name was declared in another way.
    """
    _check(name, kind, labels, buckets)
    known = _known.get(name)
    if known is None:
        known = _known[name] = AuthorMetric(name, about, kind, labels, buckets)
    declared = (kind, tuple(labels), tuple(buckets) if kind == "histogram" else known.buckets)
    if (known.kind, known.label_names, known.buckets) != declared:
        has = f"the labels {', '.join(known.label_names)}" if known.label_names else "no labels"
        raise TypeError(f"the metric {known.name} exists already: it is a {known.kind} with {has}, or other buckets")
    return known


class ObjectMetrics:
    """The metrics of an object's type. Each has the label `type`, and is made by its first use."""

    __slots__ = ("_type",)

    def __init__(self, type: str) -> None:
        self._type = type

    def add(self, name: str, amount: float = 1, /, **labels: object) -> None:
        """Add an amount to the counter `app_<name>_total`, or to the gauge `app_<name>` that `set` has made."""
        known = _known.get(name)
        self._metric(name, "gauge" if known is not None and known.kind == "gauge" else "counter", labels).add(
            amount, type=self._type, **labels
        )

    def set(self, name: str, value: float, /, **labels: object) -> None:
        """Set the gauge `app_<name>`. All objects of the type in a process share it."""
        self._metric(name, "gauge", labels).set(value, type=self._type, **labels)

    def observe(self, name: str, value: float, /, **labels: object) -> None:
        """Count a value, such as seconds, in the histogram `app_<name>`."""
        self._metric(name, "histogram", labels).observe(value, type=self._type, **labels)

    def _metric(self, name: str, kind: Kind, labels: Mapping[str, object]) -> AuthorMetric:
        if TYPE in labels:
            raise TypeError(f"self.metrics sets the label {TYPE} itself")
        known = _known.get(name)
        if known is not None and known.kind == kind and known.label_names[:1] == (TYPE,):
            return known
        return metric(name, kind=kind, labels=(TYPE, *sorted(labels)))


def snapshot() -> dict[tuple[str, tuple[str, ...]], float]:
    """Return how much was counted so far, by name and label values. The test kit compares with it."""
    return {(each.name, values): count for each in _known.values() for values, count in _counted(each)}


def value_since(before: Mapping[tuple[str, tuple[str, ...]], float], name: str, labels: Mapping[str, object]) -> float:
    """Return what was counted since a snapshot; of a gauge, its value. Raises `KeyError` for an unknown metric."""
    known = _known[name]
    values = tuple(str(labels[each]) for each in known.label_names if each in labels)
    return known.value(**labels) - (0.0 if known.kind == "gauge" else before.get((known.name, values), 0.0))


def _counted(metric: AuthorMetric) -> Iterator[tuple[tuple[str, ...], float]]:
    for values, child in metric._instrument._children.items():
        yield values, child.count if isinstance(child, Distribution) else child.value


def _instrument(name: str, about: str, metric: AuthorMetric) -> Counter | Gauge | Histogram:
    if metric.kind == "histogram":
        return Histogram(name, about, metric.label_names, buckets=metric.buckets, most=MOST_OF_AUTHOR)
    if metric.kind == "gauge":
        return Gauge(name, about, metric.label_names, most=MOST_OF_AUTHOR)
    return Counter(f"{name}_total", about, metric.label_names, most=MOST_OF_AUTHOR)


def _check(name: str, kind: str, labels: Sequence[str], buckets: Sequence[float]) -> None:
    if _is_name(name) is None or name.endswith(ENDINGS):
        raise ValueError(
            f"{name!r} is not a metric's name: it must match [a-z][a-z0-9_]* and not end with {', '.join(ENDINGS)}"
        )
    if kind not in get_args(Kind):
        raise ValueError(f"{kind!r} is not a kind of metric: {name} must be a {', '.join(get_args(Kind))}")
    if isinstance(labels, str):
        raise ValueError(f"the labels of {name} must be a sequence of names")
    for label in labels:
        if _is_name(label) is None or label in RESERVED:
            raise ValueError(f"{label!r} can't be a label of {name}: it must match [a-z][a-z0-9_]* and not be reserved")
    if len(set(labels)) < len(labels):
        raise ValueError(f"the metric {name} has a label twice")
    if not buckets or list(buckets) != sorted(set(buckets)) or not all(map(_is_number, buckets)):
        raise ValueError(f"the buckets of {name} must be numbers in ascending order")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _verbs(kind: Kind) -> str:
    return {"counter": "add", "gauge": "set or add", "histogram": "observe"}[kind]
