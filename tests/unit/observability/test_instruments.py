"""Counters, gauges and histograms count what they are told, in valid formats and with a bounded number of labels."""

from __future__ import annotations

import gc
import itertools

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from aidevos.contracts.fleet import MetricShare
from aidevos.observability import metrics
from aidevos.observability.exposition import exposition, join, share, shares
from aidevos.observability.instruments import OTHER, Counter, Family, Gauge, Histogram, Reading
from aidevos.observability.metrics import PROCESS_INFO
from tests.support.metrics import parse, value_of

numbers = itertools.count(1)


def new_name() -> str:
    return f"test_instrument_{next(numbers)}"


def test_a_histogram_counts_each_value_in_every_bucket_that_it_fits_in() -> None:
    name = new_name()
    histogram = Histogram(name, "About it", ["type"], buckets=[1, 2.5])
    for value in (0.5, 1, 2, 9):
        histogram.labels("cart").observe(value)

    found = [value_of(f"{name}_bucket", type="cart", le=le) for le in ("1.0", "2.5", "+Inf")]
    assert (found, value_of(f"{name}_sum", type="cart"), value_of(f"{name}_count", type="cart")) == ([2, 3, 4], 12.5, 4)


def test_an_exemplar_names_the_trace_of_the_latest_value_in_its_bucket() -> None:
    name = new_name()
    histogram = Histogram(name, "About it", buckets=[1, 2])
    histogram.observe(1.5, "a" * 32)
    histogram.observe(1.7, "b" * 32)
    histogram.observe(1.9)

    found = {sample.labels["le"]: sample.exemplar for sample in parsed() if sample.name == f"{name}_bucket"}
    exemplar = found["2.0"]
    assert exemplar is not None
    assert (exemplar.labels, exemplar.value) == ({"trace_id": "b" * 32}, 1.7)
    assert (found["1.0"], found["+Inf"]) == (None, None)


def test_past_the_bound_of_label_values_everything_counts_as_other(caplog: pytest.LogCaptureFixture) -> None:
    counter = Counter(f"{new_name()}_total", "About it", ["kind"], most=2)
    for kind in ("a", "b", "c", "d", "c", "a"):
        counter.labels(kind).inc()

    assert [value_of(counter.name, kind=kind) for kind in ("a", "b", OTHER, "c")] == [2, 1, 3, None]
    assert len([record for record in caplog.records if counter.name in record.getMessage()]) == 1


def test_a_wrong_number_of_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="has the labels"):
        Counter(f"{new_name()}_total", "About it", ["kind"]).labels("a", "b")


def test_a_gauge_is_shown_from_when_it_is_set_until_it_is_cleared() -> None:
    gauge = Gauge(new_name(), "About it")
    before = value_of(gauge.name)
    gauge.set(7)
    during = value_of(gauge.name)
    gauge.clear()

    assert (before, during, value_of(gauge.name)) == (None, 7, None)


class Source:
    def __init__(self, value: float) -> None:
        self.value = value


def test_a_reading_adds_up_its_sources_until_they_are_forgotten_or_gone() -> None:
    total, greatest = Reading(new_name(), "About it", ["type"]), Reading(new_name(), "About it", greatest=True)
    sources = [Source(3), Source(4), Source(5)]
    for source in sources:
        total.read_from(source, lambda each: {("cart",): each.value})
        greatest.read_from(source, lambda each: {(): each.value})
    found = [(value_of(total.name, type="cart"), value_of(greatest.name))]
    total.forget(sources[2])
    greatest.forget(sources[2])
    found.append((value_of(total.name, type="cart"), value_of(greatest.name)))
    del source, sources
    gc.collect()
    found.append((value_of(total.name, type="cart"), value_of(greatest.name)))

    assert found == [(12, 5), (7, 4), (None, None)]


def test_both_formats_of_this_process_are_valid() -> None:
    assert parsed()
    assert b"# EOF" not in exposition()


def parsed() -> list:  # type: ignore[type-arg]
    return parse(exposition(with_exemplars=True).decode())


@pytest.mark.parametrize("with_exemplars", [True, False])
def test_the_metrics_of_two_processes_are_one_valid_exposition(
    monkeypatch: pytest.MonkeyPatch, with_exemplars: bool
) -> None:
    histogram = Histogram(new_name(), "About it", buckets=[1])
    histogram.observe(0.5, "c" * 32)
    # Without the instruments of other tests, whose labels may be those of a process.
    registry = CollectorRegistry()
    for each in (histogram, *(each for each in vars(metrics).values() if isinstance(each, Family))):
        registry.register(each)
    monkeypatch.setattr("aidevos.observability.exposition.REGISTRY", registry)
    # It names its process itself, which would be the same for both here.
    PROCESS_INFO.clear()
    # What earlier tests have left must not go away between the two.
    gc.collect()
    processes = [
        shares({"service": "objects", "replica": replica}, with_exemplars=with_exemplars) for replica in ("0", "1")
    ]

    text = join(processes, with_exemplars=with_exemplars).decode()

    lines = text.splitlines()
    heads = [line for line in lines if line.startswith("# TYPE ")]
    assert len(heads) == len(set(heads)) == len(list(registry.collect()))
    # Metrics about processes name a service themselves.
    samples = [line for line in lines if not line.startswith(("#", "aidevos_process_"))]
    assert all('service="objects"' in line for line in samples)
    assert sum('replica="1"' in line for line in samples) == len(samples) / 2
    if with_exemplars:
        assert len(list(text_string_to_metric_families(text))) == len(heads)


def test_a_metric_that_another_process_has_as_another_kind_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    first = MetricShare("app_x", "# HELP app_x X\n# TYPE app_x gauge\n", 'app_x{replica="0"} 1.0\n')
    second = MetricShare("app_x", "# HELP app_x X\n# TYPE app_x counter\n", 'app_x_total{replica="1"} 1.0\n')

    text = join([[first], [second]], with_exemplars=True).decode()

    assert [(sample.name, sample.labels) for sample in parse(text)] == [("app_x", {"replica": "0"})]
    assert "app_x" in caplog.text


def test_labels_of_a_sample_win_over_those_of_its_process() -> None:
    gauge = Gauge(new_name(), "About it", ["service"])
    gauge.labels("nats").set(1)

    found = share(next(iter(gauge.collect())), {"service": "objects", "replica": "0"}, with_exemplars=True)

    assert found.samples == f'{gauge.name}{{replica="0",service="nats"}} 1.0\n'
