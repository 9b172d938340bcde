"""Events are published in few batches, each object's in order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from aidevos.durable.bus.memory import MemoryBus
from aidevos.durable.bus.port import BusError, Event
from aidevos.durable.delivery import event_publisher
from aidevos.testing import ObjectKit
from tests.support.kits import quiet, until
from tests.support.objects import Tally


class HoldingBus(MemoryBus):
    """A bus that holds every batch until `gate` is set, or fails it while `fails`."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.fails = False

    async def publish_batch(self, events: Sequence[Event]) -> list[int | Exception]:
        self.batches.append([event.id.rpartition(":")[0] for event in events])
        await self.gate.wait()
        if self.fails:
            return [BusError("failed on purpose")] * len(events)
        return await super().publish_batch(events)


@pytest.fixture
def bus() -> HoldingBus:
    return HoldingBus()


async def add(kit: ObjectKit, *ids: str) -> None:
    await asyncio.gather(*(kit.call("tally", id, "add_loudly") for id in ids))
    await quiet()


async def test_what_comes_while_a_batch_is_in_progress_goes_together_into_the_next(bus: HoldingBus) -> None:
    async with ObjectKit(Tally, bus=bus) as kit:
        await add(kit, "a")
        await add(kit, "b", "c")
        await add(kit, "b")
        assert bus.batches == [["tally:a"]]
        bus.gate.set()
        await kit.settle()
        assert bus.batches[0] == ["tally:a"]
        assert sorted(bus.batches[1]) == ["tally:b", "tally:b", "tally:c"]
        assert len(bus.batches) == 2


async def test_the_events_of_one_object_gather_in_one_batch_and_stay_in_order(bus: HoldingBus) -> None:
    async with ObjectKit(Tally, bus=bus) as kit:
        for _ in range(20):
            await add(kit, "a")
        bus.gate.set()
        await kit.settle()
        assert [len(batch) for batch in bus.batches] == [1, 19]
        values = [msgspec.json.decode(payload)["data"]["value"] for _, payload, _, _ in bus.events]
        assert values == list(range(1, 21))


async def test_a_further_batch_begins_before_the_first_has_ended_only_if_it_is_full(
    bus: HoldingBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_publisher, "BATCH_COUNT", 5)
    async with ObjectKit(Tally, bus=bus) as kit:
        await add(kit, "first")
        await add(kit, *(f"o{number}" for number in range(4)))
        assert [len(batch) for batch in bus.batches] == [1]
        await add(kit, "o4")
        assert [len(batch) for batch in bus.batches] == [1, 5]
        await add(kit, *(f"o{number}" for number in range(5)))
        assert [len(batch) for batch in bus.batches] == [1, 5], "one object's events were in two batches"
        await add(kit, *(f"p{number}" for number in range(25)))
        assert [len(batch) for batch in bus.batches] == [1, 5, 5, 5]
        bus.gate.set()
        await kit.settle()
        assert len(bus.events) == 36


async def test_while_many_events_come_a_batch_gathers_until_it_is_full(
    bus: HoldingBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_publisher, "GATHER_FOR", 3600.0)
    monkeypatch.setattr(event_publisher, "BATCH_COUNT", 40)
    bus.gate.set()
    async with ObjectKit(Tally, bus=bus) as kit:
        for number in range(3):
            await add(kit, f"lone{number}")
        assert [len(batch) for batch in bus.batches] == [1, 1, 1]
        await add(kit, *(f"o{number}" for number in range(30)))
        await until(lambda: len(bus.events) == 33)
        batches = len(bus.batches)
        for number in range(10):
            await add(kit, f"p{number}")
        assert len(bus.batches) == batches
        await add(kit, *(f"q{number}" for number in range(30)))
        await until(lambda: len(bus.events) == 73)
        assert [len(batch) for batch in bus.batches[batches:]] == [40]


async def test_a_batch_does_not_gather_for_long(bus: HoldingBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_publisher, "GATHER_FOR", 0.1)
    bus.gate.set()
    async with ObjectKit(Tally, bus=bus) as kit:
        await add(kit, *(f"o{number}" for number in range(30)))
        await add(kit, "last")
        await until(lambda: len(bus.events) == 31)


async def test_one_object_fills_no_batch_alone_and_delays_no_other(
    bus: HoldingBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_publisher, "OBJECT_COUNT", 3)
    async with ObjectKit(Tally, bus=bus) as kit:
        await add(kit, "first")
        for _ in range(10):
            await add(kit, "busy")
        await add(kit, "other")
        bus.gate.set()
        await kit.settle()
        assert bus.batches[1] == ["tally:busy"] * 3 + ["tally:other"]


async def test_a_batch_holds_a_bounded_number_of_bytes(bus: HoldingBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_publisher, "BATCH_BYTES", 1)
    async with ObjectKit(Tally, bus=bus) as kit:
        await add(kit, "a")
        await add(kit, "b", "b", "c")
        bus.gate.set()
        await kit.settle()
        assert [len(batch) for batch in bus.batches] == [1, 1, 1, 1]


async def test_the_events_of_a_batch_that_has_failed_are_published_in_order_once(bus: HoldingBus) -> None:
    bus.fails = True
    bus.gate.set()
    async with ObjectKit(Tally, bus=bus) as kit:
        await add(kit, *"aabb")
        await until(lambda: len(bus.batches) > 2)
        bus.fails = False
        await kit.settle()
        values = [
            (subject.split(".")[2], msgspec.json.decode(payload)["data"]["value"])
            for subject, payload, _, _ in bus.events
        ]
        assert sorted(values) == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
        assert [value for id, value in values if id == "a"] == [1, 2]
