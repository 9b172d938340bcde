"""Memory stays within its bound, outboxes are found again, tombstones are kept long enough, and nothing stalls."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from aidevos.contracts.subjects import PARTITIONS, partition
from aidevos.durable.base import slices
from aidevos.durable.bus.memory import MemoryBus
from aidevos.durable.bus.port import BusError, Event
from aidevos.durable.delivery import event_publisher, lanes
from aidevos.durable.ownership import commit, housekeeping, lifecycle
from aidevos.durable.ownership.housekeeping import Housekeeping
from aidevos.durable.store.memory import MemoryStore
from aidevos.durable.store.port import Commit, Outcome
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.environment import Limits
from aidevos.testing import ObjectKit
from tests.support.kits import begun, chosen, crash, failure, quiet, until
from tests.support.objects import Tally

DAY = 86_400.0


class DownBus(MemoryBus):
    """A bus that is down until it is `up`."""

    up = False

    async def publish(self, *args: Any, **options: Any) -> int:
        if self.up:
            return await super().publish(*args, **options)
        raise BusError("down")


def chores(kit: ObjectKit) -> Housekeeping:
    return kit.runtime.housekeeping()


async def swept(kit: ObjectKit) -> None:
    await kit.lifecycle.sweep()
    await quiet()


async def test_with_the_bus_down_memory_stays_bounded_and_no_event_is_lost() -> None:
    bus = DownBus()
    async with ObjectKit(Tally, bus=bus, limits=Limits(memory=300_000)) as kit:
        await asyncio.gather(*(kit.call("tally", f"o{number}", "add_loudly") for number in range(300)))
        await swept(kit)
        assert 0 < kit.catalogue.residents.memory <= 300_000
        assert len(kit.catalogue) < 300
        bus.up = True
        while not await kit.lifecycle.scan() or kit.catalogue.residents.entries:
            await swept(kit)
            await asyncio.sleep(0.01)
        await kit.settle()
        assert sorted({subject for subject, *_ in bus.events}) == sorted(
            f"event.tally.o{number}.changed" for number in range(300)
        )
        assert await kit.store.list_pending("tally", range(PARTITIONS), "", 1) == []


async def test_an_object_with_unsent_entries_stays_in_memory_while_there_is_room() -> None:
    async with ObjectKit(Tally, bus=DownBus(), limits=Limits(idle_after=0.0)) as kit:
        await kit.call("tally", "a", "add_loudly")
        await swept(kit)
        assert len(kit.catalogue) == 1


async def test_an_object_in_use_stays_in_memory_past_the_bound() -> None:
    Tally.gate = asyncio.Event()
    async with ObjectKit(Tally, limits=Limits(memory=1)) as kit:
        call = await begun(kit.call("tally", "a", "add_slowly"))
        await swept(kit)
        await swept(kit)
        assert len(kit.catalogue) == 1
        Tally.gate.set()
        assert await call == 1
        await swept(kit)
        assert len(kit.catalogue) == 0


async def test_objects_with_something_to_send_are_woken_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "WAKE_LIMIT", 10)
    monkeypatch.setattr(lifecycle, "SCAN_PAGE", 4)
    async with ObjectKit(Tally, bus=DownBus()) as first:
        await asyncio.gather(*(first.call("tally", f"o{number:02}", "add_loudly") for number in range(25)))
        await crash(first)
        async with ObjectKit(Tally, store=first.store, bus=DownBus()) as heir:
            woken = []
            for _ in range(3):
                done = await heir.lifecycle.scan()
                await quiet()
                woken.append((len(heir.catalogue), done))
            assert woken == [(10, False), (20, False), (25, True)]


async def test_a_scan_wakes_nothing_while_memory_exceeds_its_bound() -> None:
    async with ObjectKit(Tally, bus=DownBus()) as first:
        await asyncio.gather(*(first.call("tally", f"o{number}", "add_loudly") for number in range(5)))
        await crash(first)
        async with ObjectKit(Tally, store=first.store, limits=Limits(memory=1)) as heir:
            await heir.call("tally", "other", "add")
            assert not await heir.lifecycle.scan()
            assert len(heir.catalogue) == 1


async def test_few_tasks_send_however_many_objects_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    class HangingBus(MemoryBus):
        gate = asyncio.Event()

        async def publish_batch(self, events: Sequence[Event]) -> list[int | Exception]:
            await self.gate.wait()
            return await super().publish_batch(events)

    monkeypatch.setattr(event_publisher, "BATCH_COUNT", 5)
    async with ObjectKit(Tally, bus=HangingBus()) as kit:
        before = len(asyncio.all_tasks())
        await asyncio.gather(*(kit.call("tally", f"o{number}", "add_loudly") for number in range(200)))
        await quiet()
        assert len(asyncio.all_tasks()) == before + event_publisher.BATCHES
        HangingBus.gate.set()
        await kit.settle()
        assert len(kit.bus.events) == 200


async def test_a_type_that_does_not_answer_delays_no_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "AT_ONCE", 2)
    never = asyncio.Event()
    async with ObjectKit(Tally) as kit:

        async def hang(*args: Any, **options: Any) -> bytes:
            await never.wait()
            return b"null"

        kit.request = hang  # type: ignore[method-assign]
        kit.runtime.environment.partitions.leave("tally", [partition("tally", "z")])
        for number in range(5):
            await kit.call("tally", f"o{number}", "tell_other", id="z", method="add")
        await kit.call("tally", "a", "add_loudly")
        await until(lambda: kit.bus.events)
        await crash(kit)


async def test_an_outbox_that_a_former_owner_commits_late_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "SWEEP_EVERY", 0.01)
    monkeypatch.setattr(housekeeping, "SCAN_EVERY", 0.02)
    async with ObjectKit(Tally, bus=DownBus()) as former:
        async with ObjectKit(Tally, store=former.store) as heir:
            scanning = asyncio.ensure_future(chores(heir).keep_scanning())
            for id in ("a", "b"):
                await former.call("tally", id, "add_loudly")
                await until(lambda: len(heir.bus.events) == "ab".index(id) + 1)  # noqa: B023
            scanning.cancel()
        await crash(former)


async def test_a_tombstone_is_purged_only_when_no_outcome_can_be_asked_for() -> None:
    async with ObjectKit(Tally) as kit:
        await kit.call("tally", "a", "add", headers=chosen("one"))
        await kit.call("tally", "a", "remove")
        kit.clock.advance(6 * DAY)
        await chores(kit).purge()
        assert "a" in kit.store.documents["tally"]
        kit.clock.advance(2 * DAY)
        await chores(kit).purge()
        assert "a" not in kit.store.documents["tally"]


async def test_a_purge_goes_on_until_nothing_is_left() -> None:
    class SlowlyPurged(MemoryStore):
        left = 3

        async def purge(self, *args: Any) -> int:
            self.left -= 1
            return self.left

    async with ObjectKit(Tally, store=SlowlyPurged()) as kit:
        await chores(kit).purge()
        assert kit.store.left == 0


async def test_pressure_starts_a_sweep_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "SWEEP_EVERY", 60.0)
    async with ObjectKit(Tally, limits=Limits(memory=1)) as kit:
        sweeping = asyncio.ensure_future(chores(kit).keep_sweeping())
        await kit.call("tally", "a", "add")
        await until(lambda: not len(kit.catalogue))
        sweeping.cancel()


async def test_a_sweep_looks_only_at_objects_whose_time_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    def look(self: Activation) -> bool:
        nonlocal looks
        looks += 1
        return idle(self)

    async with ObjectKit(Tally) as kit:
        await asyncio.gather(*(kit.call("tally", f"o{number}", "add") for number in range(100)))
        idle = Activation.idle.fget  # type: ignore[attr-defined]
        monkeypatch.setattr(Activation, "idle", property(look))
        await kit.lifecycle.sweep()
        assert looks == 0


async def test_the_handover_of_a_partition_waits_only_for_its_own_objects() -> None:
    Tally.gate = asyncio.Event()
    async with ObjectKit(Tally) as kit:
        await asyncio.gather(*(kit.call("tally", f"o{number}", "add") for number in range(100)))
        call = await begun(kit.call("tally", "slow", "add_slowly"))
        slow = partition("tally", "slow")
        await kit.catalogue.settle(10.0, ("tally", (slow + 1) % PARTITIONS))
        waiting = await begun(kit.catalogue.settle(10.0, ("tally", slow)))
        assert not waiting.done()
        Tally.gate.set()
        await waiting
        assert await call == 1


async def test_a_partition_is_given_up_without_the_others() -> None:
    async with ObjectKit(Tally) as kit:
        ids = [f"o{number}" for number in range(100)]
        await asyncio.gather(*(kit.call("tally", id, "add") for id in ids))
        await kit.catalogue.give_up(("tally", 5))
        gone = {id for id in ids if kit.catalogue.get("tally", id) is None}
        assert gone == {id for id in ids if partition("tally", id) == 5} != set()


async def test_a_drain_commits_what_nobody_waits_for() -> None:
    async with ObjectKit(Tally) as kit:
        await kit.call("tally", "a", "add_loudly")
        await until(lambda: kit.bus.events)
        await kit.catalogue.settle(10.0)
        assert kit.store.documents["tally"]["a"]["outbox"] == {}


async def test_a_drain_ends_in_time_though_a_turn_hangs() -> None:
    Tally.gate = asyncio.Event()
    async with ObjectKit(Tally) as kit:
        call = await begun(kit.call("tally", "slow", "add_slowly"))
        await kit.catalogue.settle(0.05)
        await kit.catalogue.give_up()
        assert (await failure(call)).code == "unavailable"
        assert len(kit.catalogue) == 0


async def test_the_loop_turns_while_everything_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE", 0.0)
    async with ObjectKit(Tally, limits=Limits(idle_after=0.0)) as kit:
        await asyncio.gather(*(kit.call("tally", f"o{number}", "add") for number in range(50)))
        assert await _count_turns(kit.lifecycle.sweep()) >= 50
        assert len(kit.catalogue) == 0


async def test_the_loop_turns_while_a_drain_looks_at_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE", 0.0)
    async with ObjectKit(Tally) as kit:
        await asyncio.gather(*(kit.call("tally", f"o{number}", "add") for number in range(50)))
        assert await _count_turns(kit.catalogue.settle(1.0)) >= 50


async def _count_turns(work: Coroutine[Any, Any, None]) -> int:
    """Return how often the loop turns until the work is done."""
    working, turns = asyncio.ensure_future(work), 0
    while not working.done():
        await asyncio.sleep(0)
        turns += 1
    return turns


async def test_a_batch_of_large_commits_stays_within_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Batches(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.sizes: list[int] = []

        async def commit(self, type: str, commits: Sequence[Commit]) -> list[Outcome]:
            self.sizes.append(sum(each.size for each in commits))
            return await super().commit(type, commits)

    monkeypatch.setattr(commit, "BATCH_BYTES", 100_000)
    async with ObjectKit(Tally, store=Batches()) as kit:
        await asyncio.gather(*(kit.call("tally", f"o{number}", "grow", bytes=20_000) for number in range(20)))
        assert len(kit.store.sizes) > 4
        assert max(kit.store.sizes) <= 100_000
