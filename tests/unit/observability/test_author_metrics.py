"""Metrics of users' code: in objects, elsewhere, and in the test kit."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

import aidevos
from aidevos import BaseDurableObject, authenticated, command, query
from aidevos.observability.author_metrics import MOST_OF_AUTHOR
from aidevos.testing import ObjectKit
from tests.support.kits import failure
from tests.support.metrics import value_of

numbers = itertools.count(1)
IMPORTED = aidevos.metric("test_imported_rows", "Rows that were read", labels=["source"])


def new_name() -> str:
    return f"test_author_{next(numbers)}"


class BasketState(msgspec.Struct):
    items: int = 0


class Basket(BaseDurableObject[BasketState], type="basket"):
    @command(allow=authenticated())
    async def check_out(self, channel: str, fails: bool = False) -> None:
        self.metrics.add("test_orders", channel=channel)
        self.metrics.observe("test_order_seconds", 0.2)
        self.metrics.set("test_stock", 3)
        self.metrics.add("test_stock", -1)
        IMPORTED.add(5, source="csv")
        if fails:
            raise aidevos.Failure("conflict", "it fails on purpose")

    @query(allow=authenticated())
    async def look(self) -> None:
        self.metrics.add("test_looks")

    @command(allow=authenticated())
    async def misuse(self) -> None:
        self.metrics.set("test_orders", 1)


async def test_an_object_counts_under_its_type_and_the_kit_says_what_it_has_counted() -> None:
    async with ObjectKit(Basket) as kit:
        for channel in ("web", "web", "shop"):
            await kit.call("basket", "b1", "check_out", channel=channel)
        await kit.call("basket", "b2", "look")

        assert kit.metric("test_orders", type="basket", channel="web") == 2
        assert kit.metric("test_order_seconds", type="basket") == 3
        assert kit.metric("test_stock", type="basket") == 2
        assert kit.metric("test_looks", type="basket") == 1
        assert kit.metric("test_imported_rows", source="csv") == 15
        assert value_of("app_test_orders_total", type="basket", channel="shop") == 1
        with pytest.raises(KeyError):
            kit.metric("test_never_used")


async def test_a_kit_counts_only_what_happened_in_it() -> None:
    for _ in range(2):
        async with ObjectKit(Basket) as kit:
            await kit.call("basket", "b1", "check_out", channel="phone")
            assert kit.metric("test_orders", type="basket", channel="phone") == 1


async def test_a_metric_counts_also_in_a_command_that_is_undone() -> None:
    async with ObjectKit(Basket) as kit:
        await failure(kit.call("basket", "b1", "check_out", channel="web", fails=True))

        assert kit.metric("test_orders", type="basket", channel="web") == 1


async def test_a_misuse_in_an_object_undoes_the_turn_and_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    async with ObjectKit(Basket) as kit:
        await kit.call("basket", "b1", "check_out", channel="web")
        assert (await failure(kit.call("basket", "b1", "misuse"))).code == "internal"

    assert "the metric app_test_orders exists already: it is a counter with the labels type, channel" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"name": "Orders"}, "is not a metric's name"),
        ({"name": "orders_total"}, "is not a metric's name"),
        ({"name": "orders", "kind": "timer"}, "is not a kind of metric"),
        ({"name": "orders", "labels": "kind"}, "must be a sequence"),
        ({"name": "orders", "labels": ["service"]}, "can't be a label"),
        ({"name": "orders", "labels": ["kind", "kind"]}, "a label twice"),
        ({"name": "orders", "kind": "histogram", "buckets": [2, 1]}, "ascending order"),
        ({"name": "orders", "kind": "histogram", "buckets": []}, "ascending order"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        aidevos.metric(arguments.pop("name"), **arguments)


def test_the_same_declaration_gives_the_same_metric_and_another_one_is_refused() -> None:
    name = new_name()
    first = aidevos.metric(name, "First", labels=["kind"])

    assert aidevos.metric(name, "Again", labels=["kind"]) is first
    for other in ({"kind": "gauge", "labels": ["kind"]}, {"labels": ["other"]}):
        with pytest.raises(TypeError, match="exists already: it is a counter with the labels kind"):
            aidevos.metric(name, **other)  # type: ignore[arg-type]


def test_a_wrong_use_says_what_is_allowed() -> None:
    counter = aidevos.metric(new_name(), labels=["kind"])
    gauge = aidevos.metric(new_name(), kind="gauge")
    histogram = aidevos.metric(new_name(), kind="histogram")

    for misuse, complaint in (
        (lambda: counter.set(1, kind="a"), "is a counter: use add"),
        (lambda: gauge.observe(1), "is a gauge: use set or add"),
        (lambda: histogram.add(1), "is a histogram: use observe"),
        (lambda: counter.add(1), "with the labels none: it has kind"),
        (lambda: counter.add(1, kind="a", id="7"), "with the labels kind, id: it has kind"),
    ):
        with pytest.raises(TypeError, match=complaint):
            misuse()  # type: ignore[no-untyped-call]
    for misuse, complaint in (
        (lambda: counter.add(-1, kind="a"), "can't grow by -1"),
        (lambda: counter.add(1, kind="x" * 101), "more than 100 characters"),
        (lambda: gauge.set(float("nan")), "no finite number"),
        (lambda: histogram.observe(-0.1), "at least 0"),
    ):
        with pytest.raises(ValueError, match=complaint):
            misuse()  # type: ignore[no-untyped-call]


def test_ids_as_label_values_can_not_fill_the_memory() -> None:
    counter = aidevos.metric(new_name(), labels=["id"])
    for number in range(MOST_OF_AUTHOR + 50):
        counter.add(1, id=f"id-{number}")

    assert value_of(f"{counter.name}_total", id="other") == 50
