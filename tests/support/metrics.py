"""Metrics for tests: what has been counted since a moment, and what an exposition says."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


class Growth:
    """What the metrics of this process have counted since this was made."""

    def __init__(self) -> None:
        self._before = {_key(sample): sample.value for sample in _samples()}

    def of(self, name: str, /, **labels: str) -> float:
        """Return by how much a sample has grown, summed over the labels that aren't named."""
        return sum(
            sample.value - self._before.get(_key(sample), 0.0)
            for sample in _samples()
            if sample.name == name and labels.items() <= sample.labels.items()
        )


def value_of(name: str, /, **labels: str) -> float | None:
    """Return the value of a sample in this process; None if it isn't shown."""
    return REGISTRY.get_sample_value(name, labels)


def parse(text: str) -> list[Sample]:
    """Return the samples of an OpenMetrics exposition, which must be valid."""
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def _samples() -> Iterator[Sample]:
    for family in REGISTRY.collect():
        yield from family.samples


def _key(sample: Sample) -> tuple[str, frozenset[tuple[str, str]]]:
    return sample.name, frozenset(sample.labels.items())
