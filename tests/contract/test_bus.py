"""The contract of event buses: in memory, on JetStream and on RabbitMQ."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import time
from typing import Any

import pytest

from aidevos.contracts.errors import Failure
from aidevos.durable.bus import delivering
from aidevos.durable.bus.memory import MemoryBus
from aidevos.durable.bus.port import BusError, Delivery, Event, OrderConflict, PositionLost


class Reader:
    """A group member that records delivered and buried events; the first deliveries raise `errors`."""

    def __init__(self, *errors: Exception) -> None:
        self.seen: list[Delivery] = []
        self.refused: list[Delivery] = []
        self.buried: list[tuple[Delivery, Failure]] = []
        self.errors = list(errors)
        self.burials_to_fail = 0
        self._came = asyncio.Event()

    async def __call__(self, delivery: Delivery) -> None:
        await asyncio.sleep(0)
        if self.errors:
            self.refused.append(delivery)
            raise self.errors.pop(0)
        self.seen.append(delivery)
        self._came.set()

    async def bury(self, delivery: Delivery, failure: Failure) -> None:
        if self.burials_to_fail:
            self.burials_to_fail -= 1
            raise RuntimeError("no graves today")
        self.buried.append((delivery, failure))
        self._came.set()

    async def wait(self, count: int) -> list[str]:
        """Return the seen IDs, once there are at least `count`."""
        await self.until(lambda: len(self.seen) >= count)
        return [delivery.id for delivery in self.seen]

    async def grave(self) -> tuple[Delivery, Failure]:
        """Return the first buried event."""
        await self.until(lambda: bool(self.buried))
        return self.buried[0]

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(8):
            while not condition():
                self._came.clear()
                await self._came.wait()


@contextlib.asynccontextmanager
async def subscribed(bus: Any, pattern: str, group: str, reader: Reader, **options: Any) -> Any:
    subscription = await bus.subscribe(pattern, group, reader, reader.bury, **options)
    try:
        yield reader
    finally:
        await subscription.close()


@pytest.fixture
def thing() -> str:
    """Return the ID of an object that no other test uses, because tests share the real streams."""
    return secrets.token_hex(6)


@pytest.fixture
def group(thing: str) -> str:
    return f"g.{thing}"


async def publish(bus: Any, thing: str, *numbers: int, name: str = "changed", after: int = 0) -> list[int]:
    """Publish events of the object in sequence, and return their sequence numbers."""
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


async def test_events_come_in_order_with_what_was_published(bus: Any, thing: str, group: str) -> None:
    async with subscribed(bus, f"event.thing.{thing}.>", group, Reader()) as reader:
        await publish(bus, thing, 1, 2, 3)
        assert await reader.wait(3) == [f"{thing}:{number}" for number in (1, 2, 3)]
    assert [delivery.payload for delivery in reader.seen] == [b"1", b"2", b"3"]
    assert {delivery.subject for delivery in reader.seen} == {f"event.thing.{thing}.changed"}
    assert {delivery.attempt for delivery in reader.seen} == {1}


async def test_an_event_behind_another_than_the_last_is_misplaced(guarding_bus: Any, thing: str) -> None:
    first, second = await publish(guarding_bus, thing, 1, 2, name="changed")
    for after in (0, first, second + 1):
        with pytest.raises(OrderConflict):
            await publish(guarding_bus, thing, 3, after=after, name="other")
    assert await guarding_bus.read_last(f"event.thing.{thing}.>") == (second, 2)


async def test_a_repeated_publish_is_stored_once_or_comes_again_under_its_id(bus: Any, thing: str, group: str) -> None:
    async with subscribed(bus, f"event.thing.{thing}.>", group, Reader()) as reader:
        (first,) = await publish(bus, thing, 1)
        if bus.guards_order:
            with pytest.raises(OrderConflict):
                await publish(bus, thing, 1)
            assert await bus.read_last(f"event.thing.{thing}.>") == (first, 1)
        else:
            await publish(bus, thing, 1)
        await publish(bus, thing, 2, after=first)
        expected = [1, 2] if bus.guards_order else [1, 1, 2]
        assert await reader.wait(len(expected)) == [f"{thing}:{number}" for number in expected]


async def test_scopes_have_places_of_their_own(guarding_bus: Any, thing: str) -> None:
    bus, other = guarding_bus, f"{thing}-other"
    assert await bus.read_last(f"event.thing.{thing}.>") == (0, 0)
    (first,) = await publish(bus, thing, 5)
    (second,) = await publish(bus, other, 1)
    await publish(bus, thing, 6, after=first)
    assert await bus.read_last(f"event.thing.{other}.>") == (second, 1)


def event(thing: str, number: int, after: int = 0) -> Event:
    payload = f"{number}".encode()
    return Event(f"event.thing.{thing}.changed", payload, f"{thing}:{number}", number, f"event.thing.{thing}.>", after)


async def test_the_events_of_a_batch_are_stored_in_the_order_of_each_object(bus: Any, thing: str, group: str) -> None:
    things = [f"{thing}-{number}" for number in range(20)]
    async with subscribed(bus, "event.thing.*.changed", group, Reader()) as reader:
        results = await bus.publish_batch([event(each, number) for each in things for number in range(1, 6)])
        ids = await reader.wait(100)
    for each in things:
        assert [id for id in ids if id.startswith(f"{each}:")] == [f"{each}:{number}" for number in range(1, 6)]
    if bus.guards_order:
        assert len(set(results)) == 100
        for place, each in enumerate(things, 1):
            assert await bus.read_last(f"event.thing.{each}.>") == (results[5 * place - 1], 5)


async def test_a_misplaced_event_holds_up_only_its_own_object(guarding_bus: Any, thing: str) -> None:
    bus, others = guarding_bus, [f"{thing}-{number}" for number in range(10)]
    (first,) = await publish(bus, thing, 1)
    batch = [event(each, number) for each in (*others[:5], thing, *others[5:]) for number in (2, 3)]
    results = await bus.publish_batch(batch)
    refused = [isinstance(result, OrderConflict) for result in results]
    assert refused == [*[False] * 10, True, True, *[False] * 10]
    assert await bus.read_last(f"event.thing.{thing}.>") == (first, 1)
    assert [await bus.read_last(f"event.thing.{each}.>") for each in others] == [
        (result, 3) for result in (*results[1:10:2], *results[13::2])
    ]
    (second, third) = await bus.publish_batch([event(thing, number, after=first) for number in (2, 3)])
    assert first < second < third


async def test_a_batch_that_is_repeated_is_stored_once(guarding_bus: Any, thing: str) -> None:
    bus, batch = guarding_bus, [event(f"{thing}-{each}", number) for each in range(5) for number in (1, 2)]
    results = await bus.publish_batch(batch)
    repeated = await bus.publish_batch(batch)
    assert all(isinstance(result, OrderConflict) for result in repeated)
    assert await bus.read_last(f"event.thing.{thing}-4.>") == (results[-1], 2)


async def test_events_published_at_once_are_all_stored_each_at_its_own_place(guarding_bus: Any, thing: str) -> None:
    bus, things = guarding_bus, [f"{thing}-{number}" for number in range(250)]
    found = await asyncio.gather(*(publish(bus, each, 1) for each in things))
    places = dict(zip(things, [sequence for (sequence,) in found], strict=True))
    assert len({*places.values()}) == len(things)
    for each in (things[0], things[1], things[150], things[-1]):
        assert await bus.read_last(f"event.thing.{each}.>") == (places[each], 1)


async def test_of_events_published_at_once_only_those_that_are_misplaced_are_refused(
    guarding_bus: Any, thing: str
) -> None:
    bus = guarding_bus
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
    assert [isinstance(result, OrderConflict) for result in results] == [*[False] * 10, True, True, *[False] * 12]
    assert [await bus.read_last(f"event.thing.{each}.>") for each in others] == [
        (result[0], 1) for result in (*results[:10], *results[12:22]) if isinstance(result, list)
    ]
    assert (await bus.read_last(f"event.thing.{thing}.>"))[1] == 2


async def test_many_events_published_at_once_all_come_each_object_s_in_order(bus: Any, thing: str, group: str) -> None:
    things = [f"{thing}-{number}" for number in range(40)]
    async with subscribed(bus, "event.thing.*.changed", group, Reader()) as reader:
        await asyncio.gather(*(publish(bus, each, *range(1, 11), after=0) for each in things))
        ids = await reader.wait(400)
    for each in things:
        assert [id for id in ids if id.startswith(f"{each}:")] == [f"{each}:{number}" for number in range(1, 11)]


async def test_thousands_may_publish_at_once(bus: Any, thing: str) -> None:
    """Thousands publish at once after a broker outage, but a RabbitMQ connection has only 2,047 channels."""
    await asyncio.gather(*(publish(bus, f"{thing}-{number}", 1) for number in range(2_500)))


async def test_an_event_whose_handler_raises_comes_again_before_it_is_done(bus: Any, thing: str, group: str) -> None:
    errors = RuntimeError("on purpose"), Failure("unavailable", "not now")
    async with subscribed(bus, f"event.thing.{thing}.>", group, Reader(*errors)) as reader:
        await publish(bus, thing, 1)
        await reader.wait(1)
    assert [delivery.attempt for delivery in [*reader.refused, *reader.seen]] == [1, 2, 3]
    assert {(each.id, each.subject, each.payload) for each in [*reader.refused, *reader.seen]} == {
        (f"{thing}:1", f"event.thing.{thing}.changed", b"1")
    }
    assert reader.buried == []


async def test_pauses_between_attempts_grow(bus: Any, thing: str, group: str) -> None:
    if isinstance(bus, MemoryBus):
        return  # its tests don't wait
    times: list[float] = []
    reader = Reader()

    async def refuse(delivery: Delivery) -> None:
        times.append(time.monotonic())
        raise RuntimeError("on purpose")

    subscription = await bus.subscribe(f"event.thing.{thing}.>", group, refuse, reader.bury, attempts=3)
    await publish(bus, thing, 1)
    await reader.grave()
    await subscription.close()
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(real >= planned * 0.9 for real, planned in zip(pauses, delivering.PAUSES, strict=False)), pauses


async def test_after_its_attempts_an_event_is_a_dead_letter(bus: Any, thing: str, group: str) -> None:
    pattern, errors = f"event.thing.{thing}.>", [RuntimeError(f"{number}") for number in range(5)]
    async with subscribed(bus, pattern, group, Reader(*errors), attempts=2) as reader:
        await publish(bus, thing, 1)
        delivery, failure = await reader.grave()
        reader.errors.clear()
        await publish(bus, f"{thing}", 2, after=(await bus.read_last(f"event.thing.{thing}.>"))[0])
        await reader.wait(1)
    assert (delivery.id, delivery.payload, delivery.attempt, len(reader.refused)) == (f"{thing}:1", b"1", 2, 2)
    assert failure.detail == "RuntimeError: 1"
    assert [each.id for each in reader.seen] == [f"{thing}:2"]


async def test_what_is_refused_for_good_is_a_dead_letter_at_once(bus: Any, thing: str, group: str) -> None:
    async with subscribed(bus, f"event.thing.{thing}.>", group, Reader(Failure("invalid", "never"))) as reader:
        await publish(bus, thing, 1)
        delivery, failure = await reader.grave()
    assert (delivery.attempt, failure.code, failure.detail, len(reader.refused)) == (1, "invalid", "never", 1)


async def test_an_event_that_could_not_be_buried_is_not_lost(
    bus: Any, thing: str, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The longest pause is too long for a test.
    monkeypatch.setattr(delivering, "PAUSES", delivering.PAUSES[:1])
    reader = Reader(*(Failure("invalid", "never") for _ in range(9)))
    reader.burials_to_fail = 1
    async with subscribed(bus, f"event.thing.{thing}.>", group, reader, attempts=5):
        await publish(bus, thing, 1)
        delivery, failure = await reader.grave()
    assert (delivery.id, delivery.attempt, failure.code) == (f"{thing}:1", 2, "invalid")


async def test_a_buried_event_can_be_replayed_to_its_group_alone(bus: Any, thing: str, group: str) -> None:
    pattern, broken = f"event.thing.{thing}.>", Reader(Failure("invalid", "a bug"))
    async with subscribed(bus, pattern, group, broken), subscribed(bus, pattern, f"{group}2", Reader()) as other:
        await publish(bus, thing, 1)
        delivery, _ = await broken.grave()
        await bus.replay(pattern, group, delivery)
        await broken.wait(1)
        await publish(bus, thing, 2, after=(await bus.read_last(f"event.thing.{thing}.>"))[0])
        assert await other.wait(2) == [f"{thing}:1", f"{thing}:2"]
    assert (broken.seen[0].subject, broken.seen[0].payload, broken.seen[0].id, broken.seen[0].attempt) == (
        *delivery[:3],
        1,
    )


async def test_a_group_gets_what_is_selected_from_then_on_and_keeps_its_place(bus: Any, thing: str, group: str) -> None:
    pattern, one, two = f"event.thing.{thing}.>", f"event.thing.{thing}.one", f"event.thing.{thing}.two"
    async with subscribed(bus, pattern, group, Reader(), only=[one]) as reader:
        (last,) = await publish(bus, thing, 1, name="one")
        (last,) = await publish(bus, thing, 2, name="two", after=last)
        await reader.wait(1)
        await bus.select(pattern, group, [one, two])
        (last,) = await publish(bus, thing, 3, name="two", after=last)
        (last,) = await publish(bus, thing, 4, name="one", after=last)
        # The second event may come, because it is wanted now.
        await reader.until(lambda: reader.seen[-1].id == f"{thing}:4")
        assert [each.id for each in reader.seen if each.id != f"{thing}:2"] == [f"{thing}:{each}" for each in (1, 3, 4)]
        await bus.select(pattern, group, [two])
    (last,) = await publish(bus, thing, 5, name="one", after=last)
    (last,) = await publish(bus, thing, 6, name="two", after=last)
    async with subscribed(bus, pattern, group, Reader(), only=[two]) as reader:
        (last,) = await publish(bus, thing, 7, name="one", after=last)
        await publish(bus, thing, 8, name="two", after=last)
        numbers = (6, 8) if bus.guards_order else (5, 6, 7, 8)
        assert await reader.wait(len(numbers)) == [f"{thing}:{number}" for number in numbers]


async def test_a_group_keeps_its_place_while_nobody_reads(bus: Any, thing: str, group: str) -> None:
    pattern = f"event.thing.{thing}.>"
    async with subscribed(bus, pattern, group, Reader()) as first:
        sequences = await publish(bus, thing, 1, 2)
        await first.wait(2)
    await publish(bus, thing, 3, after=sequences[-1])
    async with subscribed(bus, pattern, group, Reader()) as second:
        assert await second.wait(1) == [f"{thing}:3"]


async def test_what_a_member_had_in_hand_goes_to_another_when_it_leaves(bus: Any, thing: str, group: str) -> None:
    pattern, started = f"event.thing.{thing}.>", asyncio.Event()

    async def hang(delivery: Delivery) -> None:
        started.set()
        await asyncio.Event().wait()

    hanging = await bus.subscribe(pattern, group, hang, Reader().bury)
    await publish(bus, thing, 1, 2)
    await asyncio.wait_for(started.wait(), 4)
    await hanging.close()
    async with subscribed(bus, pattern, group, Reader()) as heir:
        assert sorted(await heir.wait(2)) == [f"{thing}:1", f"{thing}:2"]


async def test_a_group_begins_when_its_first_member_comes(bus: Any, thing: str, group: str) -> None:
    (first,) = await publish(bus, thing, 1)
    async with subscribed(bus, f"event.thing.{thing}.>", group, Reader()) as reader:
        await publish(bus, thing, 2, after=first)
        assert await reader.wait(1) == [f"{thing}:2"]


async def test_every_group_gets_each_event(bus: Any, thing: str, group: str) -> None:
    pattern = f"event.thing.{thing}.>"
    async with subscribed(bus, pattern, group, Reader()) as one, subscribed(bus, pattern, f"{group}2", Reader()) as two:
        await publish(bus, thing, 1, 2)
        for reader in (one, two):
            assert await reader.wait(2) == [f"{thing}:1", f"{thing}:2"]


async def test_two_members_of_a_group_share_its_events(bus: Any, thing: str, group: str) -> None:
    both, pattern = Reader(), f"event.thing.{thing}.>"
    async with subscribed(bus, pattern, group, both), subscribed(bus, pattern, group, both):
        await publish(bus, thing, *range(1, 21))
        assert sorted(await both.wait(20)) == sorted(f"{thing}:{number}" for number in range(1, 21))


async def test_objects_don_t_wait_for_each_other(bus: Any, thing: str, group: str) -> None:
    if isinstance(bus, MemoryBus):
        return  # one event at a time, which is easier to follow in a test
    free, seen = asyncio.Event(), asyncio.Event()

    async def handle(delivery: Delivery) -> None:
        if delivery.id.endswith("-slow:1"):
            await free.wait()
        else:
            seen.set()

    subscription = await bus.subscribe("event.thing.*.changed", group, handle, Reader().bury)
    await publish(bus, f"{thing}-slow", 1)
    await publish(bus, f"{thing}-fast", 1)
    await asyncio.wait_for(seen.wait(), 4)
    free.set()
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
async def test_a_pattern_selects_events(bus: Any, thing: str, group: str, pattern: str, expected: list[str]) -> None:
    async with subscribed(bus, pattern.format(thing), group, Reader()) as reader:
        (first,) = await publish(bus, thing, 1, name="changed")
        await publish(bus, thing, 2, name="ended", after=first)
        await publish(bus, f"{thing}-other", 1, name="ended")
        await reader.wait(len(expected))
    assert [delivery.subject.rpartition(".")[2] for delivery in reader.seen] == expected


class Follower:
    """Reads without a group until it is stopped; `old` holds the events from before it was up to date."""

    def __init__(self, bus: Any, *patterns: str, **start: Any) -> None:
        self.old: list[Delivery] = []
        self.new: list[Delivery] = []
        self._current = asyncio.Event()
        self._came = asyncio.Event()
        self._task = asyncio.create_task(self._follow(bus, patterns, start))

    async def _follow(self, bus: Any, patterns: tuple[str, ...], start: dict[str, Any]) -> None:
        async with contextlib.aclosing(bus.follow(patterns, **start)) as events:
            async for event in events:
                if event is None:
                    self._current.set()
                else:
                    (self.new if self._current.is_set() else self.old).append(event)
                    self._came.set()

    async def current(self) -> list[str]:
        """Return the IDs of earlier events, once the follower is up to date."""
        await self._first(self._current.wait())
        return [event.id for event in self.old]

    async def wait(self, count: int) -> list[str]:
        """Return the IDs of new events, once there are at least `count`."""
        while len(self.new) < count:
            self._came.clear()
            await self._first(self._came.wait())
        return [event.id for event in self.new]

    async def ended(self) -> BaseException | None:
        await asyncio.wait([self._task], timeout=8)
        return self._task.exception()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _first(self, event: Any) -> None:
        waiting = asyncio.ensure_future(event)
        await asyncio.wait([waiting, self._task], timeout=8, return_when=asyncio.FIRST_COMPLETED)
        assert waiting.done(), "it didn't happen"


async def test_a_follower_gets_what_was_since_a_time_and_then_what_comes(bus: Any, thing: str) -> None:
    (first,) = await publish(bus, thing, 1)
    follower = Follower(bus, f"event.thing.{thing}.>", since=time.time() - 60)
    assert await follower.current() == [f"{thing}:1"]
    await publish(bus, thing, 2, 3, after=first)
    assert await follower.wait(2) == [f"{thing}:2", f"{thing}:3"]
    assert (follower.new[0].subject, follower.new[0].payload) == (f"event.thing.{thing}.changed", b"2")
    await follower.close()


async def test_a_follower_without_a_start_gets_only_what_is_new(bus: Any, thing: str) -> None:
    (first,) = await publish(bus, thing, 1)
    follower = Follower(bus, f"event.thing.{thing}.>")
    assert await follower.current() == []
    await publish(bus, thing, 2, after=first)
    assert await follower.wait(1) == [f"{thing}:2"]
    await follower.close()


async def test_a_follower_resumes_behind_a_position(bus: Any, thing: str) -> None:
    pattern, places = f"event.thing.{thing}.>", await publish(bus, thing, 1, 2, 3)
    first = Follower(bus, pattern, since=time.time() - 60)
    await first.current()
    for index in range(3):
        follower = Follower(bus, pattern, after=first.old[index].position)
        assert await follower.current() == [f"{thing}:{number}" for number in (1, 2, 3)][index + 1 :]
        if index == 2:
            await publish(bus, thing, 4, after=places[-1])
            assert await follower.wait(1) == [f"{thing}:4"]
        await follower.close()
    await first.close()


async def test_the_end_is_a_position_from_which_one_misses_nothing(bus: Any, thing: str) -> None:
    (first,) = await publish(bus, thing, 1)
    end = await bus.find_end(["event.>"])
    (second,) = await publish(bus, thing, 2, after=first)
    follower = Follower(bus, "event.>", after=end)
    found = [id for id in await follower.current() if id.startswith(thing)]
    await publish(bus, thing, 3, after=second)
    assert (found, await follower.wait(1)) == ([f"{thing}:2"], [f"{thing}:3"])
    assert int(end) < int(follower.old[0].position) < int(follower.new[0].position)
    await follower.close()


async def test_a_position_behind_the_end_is_lost(bus: Any, thing: str) -> None:
    await publish(bus, thing, 1)
    follower = Follower(bus, "event.>", after=str(int(await bus.find_end(["event.>"])) + 1_000_000))
    assert isinstance(await follower.ended(), PositionLost)


async def test_followers_of_several_patterns_get_each_event_that_matches_one(bus: Any, thing: str) -> None:
    follower = Follower(bus, f"event.thing.{thing}.ended", f"event.thing.{thing}-b.*")
    await follower.current()
    (first,) = await publish(bus, thing, 1, name="changed")
    await publish(bus, thing, 2, name="ended", after=first)
    await publish(bus, f"{thing}-b", 1, name="changed")
    assert await follower.wait(2) == [f"{thing}:2", f"{thing}-b:1"]
    await follower.close()


async def test_a_follower_is_told_when_the_connection_is_lost(bus: Any, thing: str) -> None:
    if isinstance(bus, MemoryBus):
        return  # the memory bus has no connection
    follower = Follower(bus, f"event.thing.{thing}.>")
    await follower.current()
    await (bus._js._nc if bus.guards_order else bus).close()
    assert isinstance(await follower.ended(), BusError)


async def test_a_member_that_pauses_leaves_what_comes_to_others_and_goes_on(bus: Any, thing: str, group: str) -> None:
    pattern, busy, idle = f"event.thing.{thing}.>", Reader(), Reader()
    pausing = await bus.subscribe(pattern, group, busy, busy.bury, at_once=1)
    await publish(bus, thing, 1)
    await busy.wait(1)
    await pausing.pause()
    async with subscribed(bus, pattern, group, idle, at_once=1):
        await publish(bus, thing, 2, 3, after=await place(bus, thing))
        # Events requested before the pause may still arrive.
        async with asyncio.timeout(8):
            while len(idle.seen) + len(busy.seen) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert len(idle.seen) >= 1
    await pausing.resume()
    before = len(busy.seen)
    await publish(bus, thing, 4, after=await place(bus, thing))
    await busy.wait(before + 1)
    await pausing.close()


async def test_one_that_pauses_while_it_handles_an_event_gets_no_other(bus: Any, thing: str, group: str) -> None:
    pattern = f"event.thing.{thing}.>"
    seen: list[str] = []
    members: list[Any] = []

    async def handler(delivery: Delivery) -> None:
        seen.append(delivery.id)
        await members[0].pause()

    members.append(await bus.subscribe(pattern, group, handler, Reader().bury, at_once=1))
    await publish(bus, thing, 1, 2)
    async with subscribed(bus, pattern, group, Reader(), at_once=1) as idle:
        assert await idle.wait(1) == [f"{thing}:2"]
    assert seen == [f"{thing}:1"]
    await members[0].resume()
    await publish(bus, thing, 3, after=await place(bus, thing))
    async with asyncio.timeout(8):
        while len(seen) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await members[0].close()


async def place(bus: Any, thing: str) -> int:
    """Return the sequence of the object's last event."""
    return int((await bus.read_last(f"event.thing.{thing}.>"))[0])


async def test_a_bus_has_every_event_since_before_the_first_that_it_has_kept(bus: Any, thing: str) -> None:
    pattern = f"event.thing.{thing}.>"
    follower = Follower(bus, pattern)
    await follower.current()
    await publish(bus, thing, 1)
    await follower.close()

    assert await bus.complete_since([pattern]) <= time.time()
