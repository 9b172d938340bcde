"""The formats of metrics: Prometheus' text format, and OpenMetrics for scrapers that ask for it.

The metrics of several processes become one valid exposition: each process gives its share of each metric, in which
every sample has the labels of the process, and the shares of a metric are joined under one head.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from copy import copy

from prometheus_client import REGISTRY
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from aidevos.contracts.fleet import MetricShare

log = logging.getLogger(__name__)
OPENMETRICS = "application/openmetrics-text"
_END = "# EOF\n"


def wants_openmetrics(accept: str) -> bool:
    """Return True if an `Accept` header names OpenMetrics, which alone carries exemplars."""
    return OPENMETRICS in accept


def content_type(*, with_exemplars: bool) -> str:
    return openmetrics.CONTENT_TYPE_LATEST if with_exemplars else CONTENT_TYPE_PLAIN_0_0_4


def exposition(*, with_exemplars: bool = False) -> bytes:
    """Return the metrics of this process: as OpenMetrics with exemplars, or as Prometheus' text."""
    return _encode(REGISTRY, with_exemplars=with_exemplars)


def shares(labels: Mapping[str, str], *, with_exemplars: bool) -> list[MetricShare]:
    """Return the metrics of this process, for `join`. Every sample gets these labels."""
    return [share(metric, labels, with_exemplars=with_exemplars) for metric in REGISTRY.collect()]


def share(metric: Metric, labels: Mapping[str, str], *, with_exemplars: bool) -> MetricShare:
    # The text format would show times of creation as metrics of their own.
    kept = [each for each in metric.samples if each.name != f"{metric.name}_created"]
    # Some collectors return the same metric each time.
    metric = copy(metric)
    metric.samples = [each._replace(labels={**labels, **each.labels}) for each in kept]
    lines = (
        _encode(_Single(metric), with_exemplars=with_exemplars).decode().removesuffix(_END).splitlines(keepends=True)
    )
    head = [line for line in lines if line.startswith("# ")]
    return MetricShare(metric.name, "".join(head), "".join(lines[len(head) :]))


def join(processes: Iterable[list[MetricShare]], *, with_exemplars: bool) -> bytes:
    """Return the metrics of several processes as one exposition.

    A share whose metric is of another kind than in the processes before is left out.
    """
    heads: dict[str, str] = {}
    samples: dict[str, list[str]] = {}
    for each in (share for process in processes for share in process):
        head = heads.setdefault(each.name, each.head)
        if _kind(head) != _kind(each.head):
            log.warning("processes have different metrics of the name %s: one of them is left out", each.name)
            continue
        samples.setdefault(each.name, []).append(each.samples)
    text = "".join(heads[name] + "".join(found) for name, found in samples.items())
    return (text + _END * with_exemplars).encode()


def _encode(registry: Collector, *, with_exemplars: bool) -> bytes:
    if with_exemplars:
        encoded: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
        return encoded
    return generate_latest(registry)


def _kind(head: str) -> list[str]:
    return [line for line in head.splitlines() if line.startswith("# TYPE ")]


class _Single:
    """A registry of a single metric."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return [self._metric]
