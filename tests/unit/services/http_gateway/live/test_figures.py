"""The figures of the fleet, summarized from the answers of its processes."""

from __future__ import annotations

import pytest

from aidevos.contracts.fleet import BusyObject, ProcessFigures
from services.http_gateway.live.figures import SHOWN, summarize


def figures(process: str, requests: float, seconds: float = 0.0, *busiest: BusyObject) -> ProcessFigures:
    return ProcessFigures(process, requests, seconds, requests / 10, 1, 2, 300, 1, list(busiest))


def by_name(*found: ProcessFigures) -> dict[str, ProcessFigures]:
    return {each.process: each for each in found}


def test_rates_come_of_two_samples_and_numbers_are_added_up() -> None:
    before = by_name(figures("gateway-0", 100, 2.0), figures("objects-0", 0))
    after = by_name(figures("objects-0", 0), figures("gateway-0", 120, 2.5))
    first, second = summarize({}, before, 99.0), summarize(before, after, 2.0)
    assert (first.requests, first.latency, first.failures) == (None, None, None)
    assert (second.requests, second.latency) == (10.0, pytest.approx(0.025))
    assert second.failures == pytest.approx(1.0)
    assert (second.objects, second.memory, second.problems, second.dead_letters) == (4, 600, 2, 2)
    assert [load.process for load in second.processes] == ["gateway-0", "objects-0"]


def test_a_process_that_comes_or_begins_anew_makes_no_peak_and_no_negative_rate() -> None:
    before = by_name(figures("a", 1000))
    after = by_name(figures("a", 4), figures("b", 5000))
    assert summarize(before, after, 2.0).requests == 2.0
    assert summarize(before, before, 2.0).latency is None


def test_the_busiest_of_all_processes_come_first() -> None:
    one = figures("a", 0, 0.0, *(BusyObject(f"counter:{number}", number) for number in range(SHOWN)))
    other = figures("b", 0, 0.0, BusyObject("counter:hot", 5.5))
    busiest = summarize({}, by_name(one, other), 1.0).busiest
    assert len(busiest) == SHOWN
    assert busiest[0].object_id == f"counter:{SHOWN - 1}"
    assert busiest.index(BusyObject("counter:hot", 5.5)) == SHOWN - 6
