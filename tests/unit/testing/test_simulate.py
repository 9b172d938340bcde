"""The simulation of a user's own objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st

from aidevos import BaseDurableObject, Failure, authenticated, command, query
from aidevos.testing import Model, Refusal, Workload, simulate
from tests.support.snippets import file_named


class CartState(msgspec.Struct):
    items: dict[str, int] = {}


class Cart(BaseDurableObject[CartState], type="cart"):
    LIMIT = 3

    @command(allow=authenticated())
    async def add(self, item: str, count: int) -> int:
        """Add some of an item, and return how many there are. Raises `cart-full`."""
        total = self.state.items.get(item, 0) + count
        if self.is_full(total):
            raise Failure("cart-full", "there is no room for more", status=409)
        self.state.items[item] = total
        return total

    @query(allow=authenticated())
    async def count(self, item: str) -> int:
        return self.state.items.get(item, 0)

    def is_full(self, total: int) -> bool:
        return total > self.LIMIT


class WrongCart(Cart, type="wrong_cart"):
    def is_full(self, total: int) -> bool:
        return total > self.LIMIT + 1


class MiscountingCart(Cart, type="miscounting_cart"):
    @query(allow=authenticated())
    async def count(self, item: str) -> int:
        return min(self.state.items.get(item, 0), 1)


CALLS = {
    "add": {"item": st.sampled_from(["tea", "milk"]), "count": st.integers(1, 2)},
    "count": {"item": st.sampled_from(["tea", "milk"])},
}


def _is_within_limit(state: CartState) -> bool:
    return all(count <= Cart.LIMIT for count in state.items.values())


def _step(state: frozenset[tuple[str, int]], method: str, arguments: Mapping[str, Any]) -> tuple[Any, Any]:
    items = dict(state)
    held = items.get(arguments["item"], 0)
    if method == "count":
        return state, held
    if held + arguments["count"] > Cart.LIMIT:
        return state, Refusal("cart-full")
    items[arguments["item"]] = held + arguments["count"]
    return frozenset(items.items()), items[arguments["item"]]


MODEL = Model(frozenset(), _step, queries=frozenset({"count"}), refusals=frozenset({"cart-full"}))


def test_a_right_object_passes_its_invariant_and_its_model() -> None:
    report = simulate(Cart, Workload(CALLS, invariant=_is_within_limit, model=MODEL), seeds=3, operations=20)
    assert report.seeds == 3
    assert report.operations == 60


def test_a_state_against_the_invariant_is_found_with_a_short_plan() -> None:
    with pytest.raises(AssertionError, match="the invariant doesn't hold for wrong_cart:") as failed:
        simulate(WrongCart, Workload(CALLS, invariant=_is_within_limit), seeds=5, operations=12)
    assert "The history:" in str(failed.value)
    assert str(failed.value).count(": add(") <= 4


def test_an_answer_against_the_model_is_found() -> None:
    with pytest.raises(AssertionError, match="has no order of operations that explains"):
        simulate(MiscountingCart, Workload(CALLS, ids=["one"], model=MODEL), seeds=[1], operations=20)


def test_the_tutorial_finds_its_bug() -> None:
    names: dict[str, Any] = {"__name__": __name__}
    exec(file_named("test_cart_limit.py"), names)
    with pytest.raises(AssertionError, match=r"the invariant doesn't hold for cart:\w+ with CartState") as failed:
        names["test_a_cart_holds_three_of_an_item_at_most"]()
    assert str(failed.value).count(": add(") <= 4


def test_examples_of_strategies_are_the_same_in_each_run() -> None:
    reports = [simulate(Cart, Workload(CALLS), seeds=[7], operations=10) for _ in range(2)]
    assert reports[0] == reports[1]
