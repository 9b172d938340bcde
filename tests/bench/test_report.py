"""The bench's evaluation of its samples."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.bench.cases import CASES
from tests.bench.comparison import Compared
from tests.bench.hosts import Spent, rows
from tests.bench.load import Sample
from tests.bench.report import Measure, Row, report, table
from tests.bench.steadiness import Steadiness


def _row(name: str, rates: Mapping[str, list[float]]) -> Row:
    names = {name for case in CASES for name in (case.product, case.echo, case.plain)}
    measures = {name: [Measure(Sample(rate, 1, 2), {}) for rate in rates.get(name, [1.0] * 3)] for name in names}
    return next(row for row in report(measures, []).rows if row.name == name)


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    row = _row("http query on 1", {"http query on 1": [40, 10, 90], "plain query on 1": [10, 5, 100]})

    assert row.times_plain == 2
    assert row.rate == 40


@pytest.mark.parametrize(("rate", "missed"), [(2.9, True), (3.0, False)])
def test_a_target_is_missed_below_it_and_met_from_it_on(rate: float, missed: bool) -> None:
    assert _row("http query on 1", {"http query on 1": [rate] * 3}).missed is missed


def test_every_case_has_its_row_in_the_table() -> None:
    names = {name for case in CASES for name in (case.product, case.echo, case.plain)}
    text = table(report({name: [Measure(Sample(1, 1, 2), {"mongod": 0.5})] for name in names}, []))

    assert [line.split("  ")[0] for line in text.splitlines()[1:]] == [case.product for case in CASES]


@pytest.mark.parametrize(
    ("own", "at_least", "at_most", "missed"),
    [(9.0, 1.0, None, True), (10.0, 1.0, None, False), (11.0, None, 1.0, True), (10.0, 0.9, 1.1, False)],
)
def test_a_comparison_is_missed_beyond_either_bound(
    own: float, at_least: float | None, at_most: float | None, missed: bool
) -> None:
    samples = [Sample(own, 1, 2)], [Sample(10.0, 1, 2)]
    compared = Compared("own", "other", "rate", *samples, at_least, at_most)

    assert compared.missed is missed
    assert ("MISSED" in table(report({}, [compared]))) is missed


@pytest.mark.parametrize(("lag", "answered", "missed"), [(50.0, 1.0, False), (50.1, 1.0, True), (9.0, 0.999, True)])
def test_a_case_is_steady_if_the_loop_is_never_late_and_everything_is_answered(
    lag: float, answered: float, missed: bool
) -> None:
    case = Steadiness("sweep", lag, 60.0, 70.0, answered, 3.0)
    shown = report({}, [], [case])

    assert shown.missed is missed
    assert ("MISSED" in table(shown)) is missed


def _spent(hosts: float, mongod: float, client: float, requests: float) -> Spent:
    return Spent({"hosts": hosts, "mongod": mongod, "client": client}, requests)


@pytest.mark.parametrize(("hosts", "missed"), [(0.399, False), (0.401, True)])
def test_the_cost_of_a_request_counts_hosts_and_servers_but_not_the_client(hosts: float, missed: bool) -> None:
    spent = {4: [_spent(hosts, 0.15, 9.0, 1000)], 1: [_spent(0.6, 0.4, 0.1, 2000)]}

    whole, *parts = rows("query", spent, 1.1)

    assert whole.ratio == pytest.approx((hosts + 0.15) * 1000 / 500)
    assert whole.missed is missed
    assert [part.name.split(": ")[1] for part in parts] == ["hosts", "mongod", "client (not counted)"]
    assert [part.other[0].p99 for part in parts] == pytest.approx([300, 200, 50])
    assert not any(part.missed for part in parts)
