"""Two versions of a service side by side: the newer reads what the older wrote, which leaves alone what it can't.

Two kits on one store are the processes. `take_over` lets a kit own an object that the other one has had.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from aidevos import Alarm, BaseDurableObject, Event, authenticated, command, query, upcast
from aidevos.contracts.subjects import partition
from aidevos.durable.base.clock import ManualClock
from aidevos.durable.bus.memory import MemoryBus
from aidevos.durable.store.memory import MemoryStore
from aidevos.queries import EVERYTHING, Find, Reader, Search, View
from aidevos.testing import ObjectKit
from tests.support.kits import chosen, failure


class Priced(Event):
    cents: int


class Wanted(msgspec.Struct):
    limit: int = 10
    cursor: str | None = None


class Shown(msgspec.Struct):
    id: str
    price: float


async def count_prices(reader: Reader, args: Wanted) -> int:
    return len(await reader.find("price", Find(EVERYTHING, args.limit)))


async def read_prices(reader: Reader, args: Wanted) -> list[str]:
    return list(await reader.read("price", ["a", "b"]))


VIEWS = (View("count", authenticated(), Wanted, count_prices), View("known", authenticated(), Wanted, read_prices))


class PriceState1(msgspec.Struct):
    euros: float = 0.0
    rung: int = 0


class Price1(BaseDurableObject[PriceState1], type="price", management="raw"):
    """A price in euros."""

    searches = (
        Search(
            "all",
            authenticated(),
            Wanted,
            find=lambda args: Find(EVERYTHING, args.limit),
            show=lambda id, state, version: Shown(id, state.euros),
        ),
    )
    views = VIEWS

    @command(allow=authenticated())
    async def set(self, euros: float) -> float:
        self.state.euros = euros
        self.emit(Priced(cents=round(euros * 100)))
        return euros

    @command(allow=authenticated())
    async def ring_in(self, seconds: float) -> None:
        self.alarms.set("ring", in_=seconds)

    @query(allow=authenticated())
    async def euros(self) -> float:
        return self.state.euros

    async def on_alarm(self, alarm: Alarm) -> None:
        self.state.rung += 1


class PriceState2(msgspec.Struct):
    cents: int = 0
    currency: str = "EUR"
    rung: int = 0


class Price2(BaseDurableObject[PriceState2], type="price", schema_version=2, management="raw"):
    """The same price in cents, of any currency."""

    searches = (
        Search(
            "all",
            authenticated(),
            Wanted,
            find=lambda args: Find(EVERYTHING, args.limit),
            show=lambda id, state, version: Shown(id, state.cents / 100),
        ),
    )
    views = VIEWS

    @upcast(from_=1)
    @staticmethod
    def in_cents(state: dict[str, Any]) -> dict[str, Any]:
        return {"cents": round(state["euros"] * 100), "rung": state["rung"]}

    @command(allow=authenticated())
    async def set(self, euros: float, currency: str = "EUR") -> float:
        self.state.cents, self.state.currency = round(euros * 100), currency
        self.emit(Priced(cents=self.state.cents))
        return euros

    @command(allow=authenticated())
    async def ring_in(self, seconds: float) -> None:
        self.alarms.set("ring", in_=seconds)

    @query(allow=authenticated())
    async def euros(self) -> float:
        return self.state.cents / 100

    async def on_alarm(self, alarm: Alarm) -> None:
        self.state.rung += 1


class Fleet:
    """A process with each version, of which at most one at a time has objects in memory."""

    def __init__(self) -> None:
        store, bus, clock = MemoryStore(), MemoryBus(), ManualClock()
        self.bus = bus
        self.old = ObjectKit(Price1, store=store, bus=bus, clock=clock)
        self.new = ObjectKit(Price2, store=store, bus=bus, clock=clock)

    async def take_over(self, kit: ObjectKit) -> ObjectKit:
        for each in (self.old, self.new):
            await each.settle()
            each.catalogue.drop_all()
        return kit

    async def set(self, kit: ObjectKit, euros: float, id: str = "a", **more: Any) -> Any:
        await self.take_over(kit)
        return await kit.call("price", id, "set", **{"euros": euros, **more})


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    made = Fleet()
    async with made.old, made.new:
        yield made


async def test_the_newer_version_reads_requests_and_states_of_the_older(fleet: Fleet) -> None:
    await fleet.set(fleet.old, 1.5)
    await fleet.take_over(fleet.new)
    read = await fleet.new.call("price", "a", "euros")
    # A caller of the older version doesn't know of currencies.
    answered = await fleet.new.call("price", "a", "set", euros=2.5)
    state = (await fleet.new.call("price", "a", "_read"))["state"]

    assert (read, answered, state) == (1.5, 2.5, {"cents": 250, "currency": "EUR", "rung": 0})


async def test_a_request_that_the_older_version_has_done_is_not_done_again(fleet: Fleet) -> None:
    await fleet.take_over(fleet.old)
    done = await fleet.old.call("price", "a", "set", euros=1.0, headers=chosen("r"))
    await fleet.old.call("price", "a", "set", euros=2.0)
    await fleet.take_over(fleet.new)
    repeated = await fleet.new.call("price", "a", "set", euros=1.0, headers=chosen("r"))

    assert (done, repeated, await fleet.new.call("price", "a", "euros")) == (1.0, 1.0, 2.0)


async def test_an_alarm_of_the_older_version_rings_in_the_newer(fleet: Fleet) -> None:
    await fleet.take_over(fleet.old)
    await fleet.old.call("price", "a", "ring_in", seconds=60.0)
    await fleet.take_over(fleet.new)
    await fleet.new.advance(61.0)

    assert (await fleet.new.call("price", "a", "_read"))["state"]["rung"] == 1


async def test_versions_alternate_while_neither_meets_a_newer_state(fleet: Fleet) -> None:
    kits = (fleet.old, fleet.new, fleet.old, fleet.new)
    seen = [await fleet.set(kit, float(number), f"o{number}") for number, kit in enumerate(kits)]
    read = [await (await fleet.take_over(fleet.new)).call("price", f"o{number}", "euros") for number in range(4)]

    assert seen == read == [0.0, 1.0, 2.0, 3.0]
    assert len(fleet.bus.events) == 4


@pytest.mark.parametrize(("method", "args"), [("set", {"euros": 9.0}), ("euros", {}), ("_delete", {}), ("_read", {})])
async def test_the_older_version_leaves_a_newer_state_to_others_and_says_so_once(
    fleet: Fleet, caplog: pytest.LogCaptureFixture, method: str, args: dict[str, Any]
) -> None:
    caplog.set_level(logging.WARNING)
    await fleet.set(fleet.new, 1.5)
    await fleet.take_over(fleet.old)
    refused = [await failure(fleet.old.call("price", "a", method, **args)) for _ in range(3)]
    # An object of another partition is served as ever.
    await fleet.old.call("price", "b", "set", euros=4.0)

    assert [(each.code, each.retryable) for each in refused] == [("moved", True)] * 3
    assert fleet.old.declined == [("price", partition("price", "a"))]
    (line,) = [record.getMessage() for record in caplog.records if "newer" in record.getMessage()]
    assert line.startswith(f"partition {partition('price', 'a')} of price")
    await fleet.take_over(fleet.new)
    assert await fleet.new.call("price", "a", "euros") == 1.5
    assert fleet.new.declined == []


async def test_an_alarm_of_a_newer_state_makes_the_older_version_decline_it(fleet: Fleet) -> None:
    await fleet.take_over(fleet.new)
    await fleet.new.call("price", "a", "ring_in", seconds=60.0)
    await fleet.take_over(fleet.old)
    fleet.old.clock.advance(61.0)
    fleet.old.catalogue.wake("price", "a", alarm=True)
    await fleet.old.settle()
    declined = list(fleet.old.declined)
    await fleet.new.advance(0.0)

    assert declined == [("price", partition("price", "a"))]
    assert (await fleet.new.call("price", "a", "_read"))["state"]["rung"] == 1


@pytest.mark.parametrize("name", ["all", "count", "known"])
async def test_the_older_version_answers_searches_over_newer_states_with_a_retryable_error(
    fleet: Fleet, name: str
) -> None:
    await fleet.set(fleet.old, 1.0, "b")
    before = await fleet.old.query("price", name)
    await fleet.set(fleet.new, 1.5)
    refused = await failure(fleet.old.query("price", name))

    assert before
    assert (refused.code, refused.retryable) == ("moved", True)
    assert await fleet.new.query("price", name)


async def test_the_older_version_lists_a_newer_state_as_it_is_stored(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    await fleet.set(fleet.new, 1.5)
    (item,) = (await fleet.old.query("price", "list"))["items"]

    assert item["state"] == {"cents": 150, "currency": "EUR", "rung": 0}
    assert [record for record in caplog.records if record.exc_info] == []
