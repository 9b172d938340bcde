"""A seed plans the faults of a campaign, and the report says what they cost."""

from __future__ import annotations

import random
from itertools import islice

from aidevos.testing import Operation, Outcome, Refusal, Unknown, Value
from tests.support.campaign.faults import KINDS, Happened, plan
from tests.support.campaign.report import NO_FAULT, SEVERAL, Report, find_outages

KILLED = Happened("host killed", "objects-0", 10.0, 12.0)
FROZEN = Happened("MongoDB primary frozen", "m1", 13.0, 20.0)


def operation(called: float, returned: float, outcome: Outcome | None = None, object: str = "tally:a") -> Operation:
    return Operation("a", object, "add", {}, outcome or Value(1), called, returned)


def test_a_seed_repeats_the_faults() -> None:
    planned = [list(islice(plan(random.Random(seed), can_cut=True), 50)) for seed in (1, 1, 2)]

    assert planned[0] == planned[1] != planned[2]


def test_every_kind_of_fault_is_planned_where_a_network_can_be_cut() -> None:
    kinds = {planned.kind for planned in islice(plan(random.Random(1), can_cut=True), 1000)}

    assert kinds == set(KINDS)


def test_a_plan_can_be_limited_to_some_kinds() -> None:
    planned = islice(plan(random.Random(1), can_cut=True, only=["host paused", "rolling restart"]), 100)

    assert {each.kind for each in planned} == {"host paused", "rolling restart"}


def test_without_a_private_network_nothing_is_cut_off() -> None:
    kinds = {planned.kind for planned in islice(plan(random.Random(1), can_cut=False), 1000)}

    assert kinds == {kind for kind, fault in KINDS.items() if not fault.cuts}


def test_an_outage_lasts_from_a_call_to_the_next_answer_of_its_object() -> None:
    history = [
        operation(10.0, 10.1),
        operation(10.2, 22.0, Unknown("unavailable")),
        operation(10.5, 14.5),
        operation(10.3, 10.4, object="tally:b"),
    ]

    assert find_outages(history, [KILLED]) == {"host killed": 14.5 - 10.2}


def test_an_outage_ends_when_nobody_asks_any_more() -> None:
    unknown = Unknown("unavailable")
    history = [operation(10.0, 12.0, unknown), operation(12.5, 14.0, unknown), operation(40.0, 40.1)]

    assert find_outages(history, [KILLED]) == {"host killed": 4.0, NO_FAULT: 40.1 - 40.0}


def test_an_outage_belongs_to_the_only_fault_that_was_there() -> None:
    history = [operation(1.0, 1.5), operation(10.0, 11.0), operation(14.0, 19.0), operation(30.0, 30.2)]

    assert find_outages(history, [KILLED, FROZEN]) == {
        NO_FAULT: 0.5,
        "host killed": 1.0,
        SEVERAL: 5.0,
    }


def test_a_report_shows_faults_errors_and_violations() -> None:
    report = Report(seed=7)
    history = [operation(10.0, 12.5), operation(11.0, 12.5, Refusal("exists")), operation(12.0, 30.0, Unknown("x"))]

    report.add(history, [KILLED], ["a counter went back"])

    assert report.summary == "seed 7, 1 faults, 3 operations, 2 errors, 1 violations"
    lines = str(report).splitlines()
    assert "      1      2.50  host killed" in lines
    assert "      1  exists" in lines
    assert lines[-3:] == ["a counter went back", "", report.summary]
