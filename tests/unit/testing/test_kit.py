"""The test kit behaves like a fleet, and shows what a test wants to know."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from aidevos import BaseDurableObject, Event, Failure, Principal, Service, command, permission, query, services, upcast
from aidevos.contracts.errors import Failure as AnyFailure
from aidevos.settings import load
from aidevos.testing import ADMIN, ObjectKit, Tell
from tests.support.kits import failure


class Added(Event):
    sku: str
    count: int


class Line(msgspec.Struct):
    sku: str
    count: int


class CartState(msgspec.Struct):
    lines: list[Line] = []
    paid: float = 0.0


class Cart(BaseDurableObject[CartState], type="cart", schema_version=2):
    @command(allow=permission("cart:write"))
    async def add(self, sku: str, count: int = 1) -> Line:
        line = Line(sku, count)
        self.state.lines.append(line)
        self.emit(Added(sku=sku, count=count))
        self.tell("stock", sku, "take", count=count)
        return line

    @command(allow=permission("cart:write"))
    async def refuse(self) -> None:
        self.emit(Added(sku="none", count=0))
        raise Failure("conflict", "not today")

    @command(allow=permission("cart:write"))
    async def price(self, sku: str) -> float:
        return float(await self.call("stock", sku, "price", currency="EUR")) + len(await self.ask("stock", "find"))

    @query(allow=permission("cart:read"))
    async def lines(self) -> list[Line]:
        return self.state.lines

    @query(allow=permission("cart:read"))
    async def wrong(self) -> int:
        return "seven"  # type: ignore[return-value]

    @upcast(from_=1)
    @staticmethod
    def name_the_lines(state: dict[str, Any]) -> dict[str, Any]:
        return {"lines": [{"sku": sku, "count": count} for sku, count in state["items"].items()]}


class StockState(msgspec.Struct):
    taken: int = 0


class Stock(BaseDurableObject[StockState], type="stock"):
    @command(allow=permission("stock:write"))
    async def take(self, count: int) -> None:
        self.state.taken += count

    @query(allow=permission("stock:read"))
    async def price(self, currency: str) -> float:
        return 2.5


async def test_an_object_is_called_as_its_class_declares_with_values_of_its_types() -> None:
    async with ObjectKit(Cart, Stock) as kit:
        cart = kit.object(Cart, "ada@example.org")

        assert await cart.add("tea", count=2) == Line("tea", 2)
        assert await cart.lines() == [Line("tea", 2)]
        assert await kit.object("cart", "ada@example.org").lines() == [{"sku": "tea", "count": 2}]
        refused = await failure(kit.object(Cart, "x", caller=Principal("bob", ("user",))).add("tea"))
        assert refused.code == "forbidden"
        with pytest.raises(TypeError, match=r"Cart.add\(\)"):
            await cart.add()  # type: ignore[call-arg]


async def test_the_objects_of_a_kit_may_do_what_its_types_declare_and_no_more() -> None:
    kits = {
        "forbidden": ObjectKit(Cart),
        "by permissions": ObjectKit(Cart, permissions=["stock:read"]),
        "by a star": ObjectKit(Cart, permissions=["*"]),
        "by the setting": ObjectKit(Cart, settings=load({"AIDEVOS_SERVICE_PERMISSIONS": "stock:read, x:y"})),
        "by its types": ObjectKit(Service("shop", [Cart]), Service("depot", [Stock])),
    }
    outcomes = {}
    for name, kit in kits.items():
        async with kit:
            if "stock" not in kit.registry.types:
                kit.stub(Stock, price=2.5)
            try:
                await kit.object("stock", "tea", caller=kit.principal).price(currency="EUR")
                outcomes[name] = "done"
            except AnyFailure as refused:
                outcomes[name] = refused.code

    assert outcomes == dict.fromkeys(kits, "done") | {"forbidden": "forbidden"}


async def test_a_stub_answers_calls_queries_and_tells_and_remembers_them() -> None:
    async with ObjectKit(Cart) as kit:
        stock = kit.stub("stock", price=lambda id, currency: len(id), find=[1, 2], take=None)

        assert await kit.object(Cart, "a").price("tea") == 5.0
        await kit.object(Cart, "a").add("tea", 3)
        await kit.settle()

        assert stock.calls == [("tea", "price", {"currency": "EUR"}), ("", "find", {}), ("tea", "take", {"count": 3})]


async def test_a_stub_raises_awaits_and_refuses_what_it_does_not_know() -> None:
    async def later(id: str, currency: str) -> float:
        return 1.5

    async with ObjectKit(Cart) as kit:
        kit.stub("stock", price=Failure("conflict", "sold out"))
        assert (await failure(kit.object(Cart, "a").price("tea"))).detail == "sold out"
        kit.stub("stock", price=later, find=[])
        assert await kit.object(Cart, "a").price("tea") == 1.5
        kit.stub("stock", find=[])
        assert (await failure(kit.object(Cart, "a").price("tea"))).code == "unknown-method"
        with pytest.raises(TypeError, match="runs the type cart itself"):
            kit.stub(Cart)


async def test_a_stub_of_a_class_is_as_strict_as_the_class() -> None:
    async with ObjectKit(Cart, permissions=["stock:read"]) as kit:
        with pytest.raises(Failure, match="no method 'cost'"):
            kit.stub(Stock, cost=1)
        kit.stub(Stock, price="cheap", take=None)
        stock = kit.object("stock", "tea", caller=kit.principal)

        assert (await failure(stock.take(count=1))).code == "forbidden"
        assert (await failure(stock.price(money="EUR"))).code == "invalid"
        with pytest.raises(AssertionError, match="declares to return float"):
            await stock.price(currency="EUR")


async def test_a_type_that_is_neither_hosted_nor_stubbed_is_named() -> None:
    async with ObjectKit(Cart) as kit:
        assert "neither a class nor a stub" in (await failure(kit.object(Cart, "a").price("tea"))).detail
        await kit.object(Cart, "a").add("tea")
        with pytest.raises(AssertionError, match=r'kit\.stub\("stock", take=None\)'):
            await kit.settle()
        stock = kit.stub("stock", take=None)
        await kit.settle()

        assert len(stock.calls) == 1


async def test_what_was_committed_is_shown_and_what_was_undone_is_not() -> None:
    async with ObjectKit(Cart) as kit:
        kit.stub("stock", take=None)
        await kit.object(Cart, "a").add("tea", 2)
        await failure(kit.object(Cart, "a").refuse())

        assert kit.emitted(Added) == [Added(sku="tea", count=2)]
        assert [(event.object_id, event.type, event.data["sku"]) for event in kit.events] == [
            ("cart:a", "cart.added", "tea")
        ]
        assert kit.tells == [Tell("stock", "tea", "take", {"count": 2})]


async def test_a_state_of_an_older_class_is_upcast_when_it_is_read() -> None:
    async with ObjectKit(Cart, Stock) as kit:
        await kit.load(Cart, "a", {"items": {"tea": 2}}, schema=1)
        assert await kit.object(Cart, "a").lines() == [Line("tea", 2)]
        await kit.object(Cart, "a").add("salt")
        await kit.load(Cart, "a", {"lines": [{"sku": "oil", "count": 1}]}, schema=2)
        assert await kit.object(Cart, "a").add("tea") == Line("tea", 1)

        assert await kit.object(Cart, "a").lines() == [Line("oil", 1), Line("tea", 1)]
        await kit.load(Cart, "new", {}, schema=3)
        assert (await failure(kit.object(Cart, "new").lines())).code == "moved"


@pytest.mark.parametrize("strict", [True, False])
async def test_a_result_of_another_type_fails_as_in_a_fleet(strict: bool) -> None:
    kit = ObjectKit(Cart, strict=strict)
    async with kit:
        with pytest.raises(AssertionError if strict else Failure) as found:
            await kit.object(Cart, "a", caller=ADMIN).wrong()

    assert "declares to return int" in str(found.value) if strict else found.value.code == "internal"  # type: ignore[union-attr]


def test_services_only_is_what_the_kit_itself_may_call() -> None:
    assert services().check(ObjectKit(Cart).principal)
