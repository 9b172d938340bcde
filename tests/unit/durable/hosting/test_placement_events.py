"""The events about hosts and partitions: ordered, and never in the way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import msgspec
import pytest

from aidevos.contracts.events import AnyEvent
from aidevos.durable.base.backoff import Backoff
from aidevos.durable.bus.memory import MemoryBus
from aidevos.durable.bus.port import BusError, OrderConflict
from aidevos.durable.hosting import placement_events
from aidevos.durable.hosting.placement_events import PlacementEvents, format_ranges
from aidevos.observability.metrics import DROPPED_PLACEMENT_EVENTS
from tests.support.kits import START, until


class Bus(MemoryBus):
    """A bus that raises these errors first."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)

    async def publish(self, *args: Any, **options: Any) -> int:
        if self.errors:
            raise self.errors.pop(0)
        return await super().publish(*args, **options)

    @property
    def names(self) -> list[str]:
        return [event.subject for event in self.events]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement_events, "FOLLOWING", Backoff(0.001, 0.001))


def events_of(bus: Bus, incarnation: str = "objects-0.1") -> PlacementEvents:
    return PlacementEvents(bus, service="objects", replica=0, incarnation=incarnation, version="1.2", now=lambda: START)


@asynccontextmanager
async def running(events: PlacementEvents) -> AsyncIterator[None]:
    task = asyncio.create_task(events.run())
    try:
        yield
        await events.flush(5.0)
    finally:
        task.cancel()


@contextmanager
def dropped(count: int) -> Iterator[None]:
    before = DROPPED_PLACEMENT_EVENTS.labels().value
    yield
    assert DROPPED_PLACEMENT_EVENTS.labels().value == before + count


async def test_a_life_of_a_host_is_told_in_order(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bus = Bus()
    async with running(events := events_of(bus)):
        events.host_joined()
        events.partitions_taken("counter", {5, 0})
        events.partitions_taken("account", [])
        events.partitions_released("counter", {5, 0})
        events.host_left("objects-1.9", lost=True)
        events.host_left()

    decoded = [msgspec.json.decode(event.payload, type=AnyEvent) for event in bus.events]
    assert [(event.type, event.data) for event in decoded] == [
        ("fleet.host_joined", {"incarnation": "objects-0.1", "replica": 0, "version": "1.2"}),
        ("fleet.partitions_taken", {"incarnation": "objects-0.1", "type": "counter", "partitions": [0, 5]}),
        ("fleet.partitions_released", {"incarnation": "objects-0.1", "type": "counter", "partitions": [0, 5]}),
        ("fleet.host_left", {"incarnation": "objects-1.9", "reason": "lost"}),
        ("fleet.host_left", {"incarnation": "objects-0.1", "reason": "left"}),
    ]
    assert bus.names[0] == "event.fleet.objects.host_joined"
    assert {(event.source, event.time) for event in decoded} == {
        ("/durable-objects/fleet:objects", "2027-01-15T08:00:00.000Z")
    }
    assert len({event.id for event in decoded}) == len(decoded)
    assert caplog.messages == [
        "objects-0.1 joined the fleet",
        "objects-0.1 owns 0, 5 of counter",
        "objects-0.1 released 0, 5 of counter",
        "objects-1.9 left the fleet: its lease was lost",
        "objects-0.1 left the fleet",
    ]


async def test_moves_of_a_moment_are_one_event_for_each_type() -> None:
    bus = Bus()
    async with running(events := events_of(bus)):
        for number in (7, 3, 4, 5):
            events.partitions_released("counter", [number])
            events.partitions_released("account", [number])
        events.partitions_taken("counter", [3])
        events.partitions_released("counter", [3])
        events.host_left("objects-1.1")
        events.partitions_released("counter", [9])

    decoded = [msgspec.json.decode(event.payload, type=AnyEvent) for event in bus.events]
    assert [(event.type.split(".")[1], event.data.get("type"), event.data.get("partitions")) for event in decoded] == [
        ("partitions_released", "counter", [3, 4, 5, 7]),
        ("partitions_released", "account", [3, 4, 5, 7]),
        ("partitions_taken", "counter", [3]),
        ("partitions_released", "counter", [3]),
        ("host_left", None, None),
        ("partitions_released", "counter", [9]),
    ]


async def test_events_leave_by_themselves_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement_events, "GATHER", 0.0)
    bus = Bus()
    async with running(events := events_of(bus)):
        events.host_joined()
        await until(lambda: bus.events)


@pytest.mark.parametrize(
    ("partitions", "text"),
    [([5], "5"), ([0, 1, 2, 3, 7], "0-3, 7"), ([9, 8, 1], "1, 8-9"), (range(64), "0-63")],
)
def test_partitions_are_named_in_ranges(partitions: Collection[int], text: str) -> None:
    assert format_ranges(partitions) == text


async def test_hosts_of_one_service_publish_side_by_side() -> None:
    bus = Bus(OrderConflict(), OrderConflict())
    first, second = events_of(bus), events_of(bus, "objects-1.1")
    async with running(first), running(second):
        for number in range(10):
            first.host_left(f"objects-2.{number}")
            second.host_left(f"objects-2.{number}")

    assert len({event.id for event in bus.events}) == 20


async def test_an_event_waits_for_a_bus_that_is_down_for_a_while() -> None:
    bus = Bus(*[BusError("down")] * 3)
    with dropped(0):
        async with running(events := events_of(bus)):
            events.host_joined()
            events.host_left()

    assert bus.names == ["event.fleet.objects.host_joined", "event.fleet.objects.host_left"]


@pytest.mark.parametrize("error", [BusError("down"), OrderConflict()])
async def test_an_event_that_never_gets_through_makes_room_for_the_next(error: Exception) -> None:
    bus = Bus(*[error] * placement_events.ATTEMPTS)
    with dropped(1):
        async with running(events := events_of(bus)):
            events.host_joined()
            events.host_left()

    assert bus.names == ["event.fleet.objects.host_left"]


async def test_an_unexpected_error_ends_nothing() -> None:
    bus = Bus(RuntimeError("a bug"))
    with dropped(1):
        async with running(events := events_of(bus)):
            events.host_joined()
            events.host_left()

    assert bus.names == ["event.fleet.objects.host_left"]


async def test_events_beyond_the_bound_are_dropped_and_nobody_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(placement_events, "MAX_WAITING", 2)
    events = events_of(Bus())
    with dropped(3):
        for number in range(5):
            events.host_left(f"objects-1.{number}")
        await events.flush(0.0)

    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 3
