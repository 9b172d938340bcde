"""What the framework and its users rely on in an event bus, kept in memory and by JetStream alike."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest

from aidevos.durable.bus.memory import MemoryBus
from aidevos.durable.bus.port import Delivery, Misplaced


class Reader:
    """A member of a group that keeps what it is given; the first `refusals` deliveries fail."""

    def __init__(self, refusals: int = 0) -> None:
        self.seen: list[Delivery] = []
        self.refused: list[Delivery] = []
        self._refusals = refusals
        self._came = asyncio.Event()

    async def __call__(self, delivery: Delivery) -> None:
        await asyncio.sleep(0)
        if len(self.refused) < self._refusals:
            self.refused.append(delivery)
            raise RuntimeError("refused on purpose")
        self.seen.append(delivery)
        self._came.set()

    async def wait(self, count: int) -> list[str]:
        """The IDs seen, when there are that many."""
        async with asyncio.timeout(4):
            while len(self.seen) < count:
                self._came.clear()
                await self._came.wait()
        return [delivery.id for delivery in self.seen]


@pytest.fixture
def thing() -> str:
    """The ID of an object that no other test publishes for: the real stream is shared."""
    return secrets.token_hex(6)


async def publish(bus: Any, thing: str, *numbers: int, name: str = "changed", after: int = 0) -> list[int]:
    """Publish events of the object, each behind the one before; their sequences."""
    sequences = []
    for number in numbers:
        payload = f"{number}".encode()
        after = await bus.publish(
            f"event.thing.{thing}.{name}",
            payload,
            f"{thing}:{number}",
            number=number,
            scope=f"event.thing.{thing}.>",
            after=after,
        )
        sequences.append(after)
    return sequences


async def test_events_come_in_order_with_what_was_published(bus: Any, thing: str) -> None:
    sequences = await publish(bus, thing, 1, 2, 3)
    reader = Reader()
    subscription = await bus.subscribe(f"event.thing.{thing}.>", f"g{thing}", reader)
    assert await reader.wait(3) == [f"{thing}:{number}" for number in (1, 2, 3)]
    assert [delivery.sequence for delivery in reader.seen] == sequences == sorted(set(sequences))
    assert [delivery.payload for delivery in reader.seen] == [b"1", b"2", b"3"]
    assert {delivery.subject for delivery in reader.seen} == {f"event.thing.{thing}.changed"}
    assert {delivery.attempt for delivery in reader.seen} == {1}
    await subscription.close()


async def test_an_event_behind_another_than_the_last_is_misplaced(bus: Any, thing: str) -> None:
    first, second = await publish(bus, thing, 1, 2, name="changed")
    for after in (0, first, second + 1):
        with pytest.raises(Misplaced):
            await publish(bus, thing, 3, after=after, name="other")
    assert await bus.last(f"event.thing.{thing}.>") == (second, 2)


async def test_a_repeated_publish_is_misplaced_and_stored_once(bus: Any, thing: str) -> None:
    (first,) = await publish(bus, thing, 1)
    with pytest.raises(Misplaced):
        await publish(bus, thing, 1)
    assert await bus.last(f"event.thing.{thing}.>") == (first, 1)


async def test_scopes_have_places_of_their_own(bus: Any, thing: str) -> None:
    other = f"{thing}-other"
    assert await bus.last(f"event.thing.{thing}.>") == (0, 0)
    (first,) = await publish(bus, thing, 5)
    (second,) = await publish(bus, other, 1)
    await publish(bus, thing, 6, after=first)
    assert await bus.last(f"event.thing.{other}.>") == (second, 1)


async def test_events_published_at_once_are_all_stored_each_at_its_own_place(bus: Any, thing: str) -> None:
    things = [f"{thing}-{number}" for number in range(250)]
    found = await asyncio.gather(*(publish(bus, each, 1) for each in things))
    places = dict(zip(things, [sequence for (sequence,) in found], strict=True))
    assert len({*places.values()}) == len(things)
    for each in (things[0], things[1], things[150], things[-1]):
        assert await bus.last(f"event.thing.{each}.>") == (places[each], 1)


async def test_of_events_published_at_once_only_those_that_are_misplaced_are_refused(bus: Any, thing: str) -> None:
    (first,) = await publish(bus, thing, 1)
    others = [f"{thing}-{number}" for number in range(20)]
    results = await asyncio.gather(
        *(publish(bus, each, 1) for each in others[:10]),
        publish(bus, thing, 1),
        publish(bus, thing, 2),
        *(publish(bus, each, 1) for each in others[10:]),
        publish(bus, thing, 2, after=first),
        publish(bus, f"{thing}-last", 1),
        return_exceptions=True,
    )
    assert [isinstance(result, Misplaced) for result in results] == [*[False] * 10, True, True, *[False] * 12]
    assert [await bus.last(f"event.thing.{each}.>") for each in others] == [
        (result[0], 1) for result in (*results[:10], *results[12:22]) if isinstance(result, list)
    ]
    assert (await bus.last(f"event.thing.{thing}.>"))[1] == 2


async def test_an_event_whose_handler_raises_comes_again_before_it_is_done(bus: Any, thing: str) -> None:
    await publish(bus, thing, 1)
    reader = Reader(refusals=2)
    subscription = await bus.subscribe(f"event.thing.{thing}.>", f"g{thing}", reader)
    await reader.wait(1)
    assert [delivery.attempt for delivery in [*reader.refused, *reader.seen]] == [1, 2, 3]
    assert {delivery.id for delivery in [*reader.refused, *reader.seen]} == {f"{thing}:1"}
    await subscription.close()


async def test_a_group_keeps_its_place_while_nobody_reads(bus: Any, thing: str) -> None:
    pattern, group = f"event.thing.{thing}.>", f"g{thing}"
    sequences = await publish(bus, thing, 1, 2)
    first, second = Reader(), Reader()
    subscription = await bus.subscribe(pattern, group, first)
    await first.wait(2)
    await subscription.close()
    await publish(bus, thing, 3, after=sequences[-1])
    subscription = await bus.subscribe(pattern, group, second)
    assert await second.wait(1) == [f"{thing}:3"]
    await subscription.close()


async def test_a_new_group_reads_from_the_first_event_kept(bus: Any, thing: str) -> None:
    await publish(bus, thing, 1, 2)
    readers = [Reader(), Reader()]
    for number, reader in enumerate(readers):
        subscription = await bus.subscribe(f"event.thing.{thing}.>", f"g{number}{thing}", reader)
        assert await reader.wait(2) == [f"{thing}:1", f"{thing}:2"]
        await subscription.close()


async def test_two_members_of_a_group_share_its_events(bus: Any, thing: str) -> None:
    both = Reader()
    subscriptions = [await bus.subscribe(f"event.thing.{thing}.>", f"g{thing}", both) for _ in range(2)]
    await publish(bus, thing, *range(1, 21))
    assert sorted(await both.wait(20)) == sorted(f"{thing}:{number}" for number in range(1, 21))
    for subscription in subscriptions:
        await subscription.close()


async def test_a_subscription_ends_with_its_connection(bus: Any, thing: str) -> None:
    if isinstance(bus, MemoryBus):
        return  # it has none
    subscription = await bus.subscribe(f"event.thing.{thing}.>", f"g{thing}", Reader())
    await bus._js._nc.close()
    async with asyncio.timeout(4):
        await subscription._task
        await subscription.close()


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("event.thing.{}.>", ["changed", "ended"]),
        ("event.*.{}.*", ["changed", "ended"]),
        ("event.thing.{}.ended", ["ended"]),
        ("event.*.{}.changed", ["changed"]),
    ],
)
async def test_a_pattern_selects_events(bus: Any, thing: str, pattern: str, expected: list[str]) -> None:
    (first,) = await publish(bus, thing, 1, name="changed")
    await publish(bus, thing, 2, name="ended", after=first)
    await publish(bus, f"{thing}-other", 1, name="ended")
    reader = Reader()
    subscription = await bus.subscribe(pattern.format(thing), f"g{thing}", reader)
    await reader.wait(len(expected))
    assert [delivery.subject.rpartition(".")[2] for delivery in reader.seen] == expected
    await subscription.close()
