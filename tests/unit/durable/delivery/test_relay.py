"""Each message of a commit is sent after it, in order and once, even after a crash."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from aidevos.contracts import subjects
from aidevos.contracts.subjects import PARTITIONS
from aidevos.durable.base.backoff import Backoff
from aidevos.durable.bus.memory import MemoryBus
from aidevos.durable.bus.port import BusError, OrderConflict
from aidevos.durable.delivery import lanes
from aidevos.durable.store.memory import MemoryStore
from aidevos.durable.store.port import CommitPoint, StoreError
from aidevos.durable.turns.pending import PendingCommit
from aidevos.testing import ADMIN, ObjectKit
from tests.support.kits import begun, chosen, crash, failure, quiet, until
from tests.support.objects import Tally


class BrokenBus(MemoryBus):
    """A bus that reports every publish as failed, though it stores the event if `stores` is set."""

    stores = False
    broken = True

    async def publish(self, *args: Any, **options: Any) -> int:
        if not self.broken:
            return await super().publish(*args, **options)
        if self.stores:
            await super().publish(*args, **options)
        raise BusError("broken on purpose")


def values(bus: MemoryBus) -> list[int]:
    return [msgspec.json.decode(payload)["data"]["value"] for _, payload, _, _ in bus.events]


async def test_an_event_is_published_as_a_cloud_event(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "add_loudly", by=5)
    await kit.settle()
    ((subject, payload, id, number),) = kit.bus.events
    event = msgspec.json.decode(payload)
    assert subject == "event.tally.a.changed"
    assert event == {
        "specversion": "1.0",
        "id": f"tally:a:{number}",
        "source": "/durable-objects/tally:a",
        "type": "tally.changed",
        "time": "2027-01-15T08:00:00.000Z",
        "datacontenttype": "application/json",
        "data": {"value": 5},
    }
    assert id == event["id"]


async def test_events_of_an_object_are_published_in_its_order(kit: ObjectKit) -> None:
    await asyncio.gather(*(kit.call("tally", "a", "add_loudly") for _ in range(20)))
    await kit.settle()
    assert values(kit.bus) == list(range(1, 21))
    assert len({id for _, _, id, _ in kit.bus.events}) == 20
    assert kit.store.documents["tally"]["a"]["outbox"] == {}
    assert await kit.store.list_pending("tally", range(PARTITIONS), "", 1) == []


@pytest.mark.parametrize("stores", [False, True], ids=["not stored", "stored, answer lost"])
async def test_an_event_that_could_not_be_confirmed_is_published_once_all_the_same(stores: bool) -> None:
    async with ObjectKit(Tally, bus=BrokenBus()) as kit:
        kit.bus.stores = stores
        for _ in range(3):
            await kit.call("tally", "a", "add_loudly")
        await quiet()
        kit.bus.broken = False
        await kit.settle()
        assert values(kit.bus) == [1, 2, 3]


@pytest.mark.parametrize("stores", [False, True], ids=["before publishing", "after publishing"])
async def test_the_next_owner_publishes_what_a_crashed_one_has_not(stores: bool) -> None:
    async with ObjectKit(Tally, bus=BrokenBus()) as kit:
        kit.bus.stores = stores
        await kit.call("tally", "a", "add_loudly")
        await quiet()
        await crash(kit)
        kit.bus.broken = False
        async with ObjectKit(Tally, store=kit.store, bus=kit.bus) as successor:
            await successor.lifecycle.scan()
            await until(lambda: kit.bus.events)
            await successor.settle()
            assert values(kit.bus) == [1]
            await successor.call("tally", "a", "add_loudly")
            await successor.settle()
            assert values(kit.bus) == [1, 2]


async def test_a_relay_that_was_paused_neither_repeats_nor_reorders(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ObjectKit(Tally) as kit:
        gate, publish = asyncio.Event(), kit.bus.publish

        async def publish_late(*args: Any, **options: Any) -> int:
            await gate.wait()
            return await publish(*args, **options)

        monkeypatch.setattr(kit.bus, "publish", publish_late)
        await kit.call("tally", "a", "add_loudly")
        await quiet()
        monkeypatch.undo()
        async with ObjectKit(Tally, store=kit.store, bus=kit.bus) as successor:
            await successor.call("tally", "a", "add_loudly")
            await successor.settle()
            gate.set()
            await quiet()
            assert values(kit.bus) == [1, 2]


@pytest.mark.parametrize("faults", [[], ["lose"], ["fail"], ["fail", "lose", "fail"]])
async def test_a_tell_is_applied_exactly_once_whatever_becomes_of_commits(kit: ObjectKit, faults: list[str]) -> None:
    await kit.call("tally", "b", "put", key="warm", value=1)
    passing = asyncio.Event()
    passing.set()
    kit.store.faults.extend([passing, *faults])
    await kit.call("tally", "a", "tell_other", id="b", method="add", times=3)
    await kit.settle()
    assert await kit.call("tally", "b", "value") == 3
    assert not kit.store.faults


@pytest.mark.parametrize(
    ("method", "reached"), [("add_slowly", "owner"), ("add", "state")], ids=["before its turn", "after its turn"]
)
async def test_a_tell_survives_a_crash_before_it_is_settled_and_is_applied_once(
    kit: ObjectKit, method: str, reached: str
) -> None:
    await kit.call("tally", "a", "tell_other", id="b", method=method)
    await until(lambda: reached in kit.store.documents["tally"].get("b", {}))
    await crash(kit)
    assert len(kit.store.documents["tally"]["a"]["outbox"]) == 1
    Tally.gate.set()
    async with ObjectKit(Tally, store=kit.store) as successor:
        await successor.lifecycle.scan()
        await successor.settle()
        assert await successor.call("tally", "b", "value") == 1
        assert successor.store.documents["tally"]["a"]["outbox"] == {}


async def test_a_repeated_command_repeats_no_tell(kit: ObjectKit) -> None:
    for _ in range(2):
        await kit.call("tally", "a", "tell_other", id="b", method="add", headers=chosen("once"))
        await kit.settle()
    assert await kit.call("tally", "b", "value") == 1


async def test_a_tell_that_is_refused_becomes_a_dead_letter_and_holds_up_no_other(
    kit: ObjectKit, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        await kit.call("tally", "a", "tell_other", id="b", method="put")
        await kit.call("tally", "a", "tell_other", id="b", method="add")
        await kit.settle()
    (letter,) = kit.letters.values()
    assert (letter.source, letter.subject) == ("tally:a", "do.tally.b.put")
    assert (letter.kind, letter.code, letter.payload) == ("tell", "invalid", b"{}")
    assert (letter.attempts, letter.confidential, letter.from_client) == (1, False, False)
    assert "dead letter" in caplog.text
    assert await kit.call("tally", "b", "value") == 1
    assert kit.store.documents["tally"]["a"]["outbox"] == {}


async def test_a_tell_that_nobody_settles_in_time_becomes_a_dead_letter(kit: ObjectKit) -> None:
    await kit.call("tally", "b", "put", key="warm", value=1)
    await kit.call("tally", "a", "tell_other", id="b", method="add_slowly")
    await crash(kit)
    kit.clock.advance(8 * 86_400)
    async with ObjectKit(Tally, store=kit.store, clock=kit.clock) as successor:
        await successor.lifecycle.scan()
        await until(lambda: successor.letters)
        await successor.settle()
        assert [letter.code for letter in successor.letters.values()] == ["unavailable"]


async def test_a_query_can_send_nothing(kit: ObjectKit) -> None:
    assert (await failure(kit.call("tally", "a", "shout"))).code == "internal"
    await kit.settle()
    assert kit.bus.events == []
    assert kit.store.documents["tally"] == {}


class ClearingStore(MemoryStore):
    """A store whose clear waits for `go`, before or after its effect, or reports an unknown outcome."""

    before = False
    fails = False

    def __init__(self) -> None:
        super().__init__()
        self.cleared: list[int] = []
        self.go = asyncio.Event()
        self.go.set()

    async def clear_outboxes(self, type: str, points: Sequence[CommitPoint]) -> bool:
        self.cleared.append(len(points))
        if self.before:
            await self.go.wait()
        done = await super().clear_outboxes(type, points)
        if not self.before:
            await self.go.wait()
        if self.fails:
            raise StoreError("lost on purpose")
        return done


async def test_outboxes_of_many_objects_are_cleared_at_once_and_without_commits() -> None:
    store = ClearingStore()
    async with ObjectKit(Tally, store=store) as kit:
        await asyncio.gather(*(kit.call("tally", f"a{number}", "add_loudly") for number in range(30)))
        await until(lambda: store.cleared)
        commits = {id: document["commit"] for id, document in store.documents["tally"].items()}
        await until(lambda: kit.catalogue.idle)
        assert sum(store.cleared) == 30
        assert len(store.cleared) < 5
        for id, document in store.documents["tally"].items():
            assert (document["outbox"], document.get("relay"), document["commit"]) == ({}, None, commits[id])


@pytest.mark.parametrize("before", [True, False], ids=["the commit first", "the clearing first"])
async def test_what_is_to_be_sent_is_found_after_a_crash_whatever_was_cleared_meanwhile(before: bool) -> None:
    store = ClearingStore()
    store.before = before
    async with ObjectKit(Tally, store=store, bus=BrokenBus()) as kit:
        kit.bus.broken = False
        store.go.clear()
        await kit.call("tally", "a", "add_loudly")
        await until(lambda: store.cleared)
        await quiet()
        kit.bus.broken = True
        await kit.call("tally", "a", "add_loudly")
        store.go.set()
        await quiet()
        await crash(kit)
        kit.bus.broken = False
        assert await store.list_pending("tally", range(PARTITIONS), "", 1) == ["a"]
        async with ObjectKit(Tally, store=store, bus=kit.bus) as successor:
            await successor.lifecycle.scan()
            await until(lambda: len(kit.bus.events) == 2)
            await successor.settle()
        assert values(kit.bus) == [1, 2]


async def test_an_outbox_of_which_is_not_known_whether_it_was_cleared_is_emptied_by_a_commit() -> None:
    store = ClearingStore()
    store.fails = True
    async with ObjectKit(Tally, store=store) as kit:
        await kit.call("tally", "a", "add_loudly")
        turn = store.documents["tally"]["a"]["turn"]
        await until(lambda: kit.catalogue.idle)
        assert store.cleared == [1]
        assert store.documents["tally"]["a"]["turn"] == turn + 1
        assert await store.list_pending("tally", range(PARTITIONS), "", 1) == []


async def test_a_turn_that_comes_while_its_outbox_is_cleared_is_committed_all_the_same() -> None:
    store = ClearingStore()
    async with ObjectKit(Tally, store=store) as kit:
        store.go.clear()
        await kit.call("tally", "a", "add_loudly")
        await until(lambda: store.cleared)
        held = asyncio.Event()
        store.faults.append(held)
        calls = []
        for _ in range(2):
            calls.append(asyncio.create_task(kit.call("tally", "a", "add")))
            await quiet()
        store.go.set()
        await quiet()
        held.set()
        assert await asyncio.gather(*calls) == [2, 3]
        await kit.settle()
        assert store.documents["tally"]["a"]["state"]["value"] == 3


async def test_what_is_not_sent_yet_stays_when_something_else_was() -> None:
    store = ClearingStore()
    async with ObjectKit(Tally, store=store, bus=BrokenBus()) as kit:
        await kit.call("tally", "a", "add_loudly")
        await kit.call("tally", "a", "tell_other", id="b", method="add")
        await until(lambda: len(store.documents["tally"]["a"]["outbox"]) == 1)
        await crash(kit)
        kit.bus.broken = False
        async with ObjectKit(Tally, store=store, bus=kit.bus) as successor:
            await successor.lifecycle.scan()
            await until(lambda: kit.bus.events)
            await successor.settle()
        assert values(kit.bus) == [1]


def test_only_a_commit_that_does_nothing_but_empty_the_outbox_can_be_spared() -> None:
    pending = PendingCommit()
    pending.changes.drop("outbox.1")
    assert pending.only_clears_outbox
    pending.changes.set["archived"] = True
    assert not pending.only_clears_outbox
    pending.changes.set.clear()
    pending.changes.drop("replies.chosen.1")
    assert not pending.only_clears_outbox


async def test_clearing_an_outbox_erases_nothing_that_a_turn_adds_in_the_same_step_of_the_loop() -> None:
    async with ObjectKit(Tally, bus=BrokenBus()) as kit:
        kit.bus.broken = False
        await kit.call("tally", "b", "add")
        await kit.call("tally", "a", "add_loudly")
        await until(lambda: kit.catalogue.get("tally", "a").only_clears_outbox)  # type: ignore[union-attr]
        written = asyncio.Event()
        kit.store.faults.append(written)
        await begun(kit.call("tally", "b", "add"))
        kit.bus.broken = True
        answers: list[Any] = []
        subject = f"dop.{subjects.partition('tally', 'a')}.tally.a.add_loudly"

        written.set()
        kit.runtime._commits["tally"]._clear_sent()
        kit.router.dispatch(subject, b"", {}, ADMIN, answers.append)
        await until(lambda: answers)
        await crash(kit)

        kit.bus.broken = False
        async with ObjectKit(Tally, store=kit.store, bus=kit.bus) as successor:
            await successor.lifecycle.scan()
            await successor.settle()
            assert values(kit.bus) == [1, 2]


class ConflictingBus(MemoryBus):
    """A bus that refuses every event, though its last event is the one that the publisher expects."""

    published = 0

    async def publish(self, *args: Any, **options: Any) -> int:
        self.published += 1
        raise OrderConflict


async def test_a_conflict_about_the_order_is_not_retried_in_a_tight_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "BACKOFF", Backoff(60.0, 60.0))
    async with ObjectKit(Tally, bus=ConflictingBus()) as kit:
        await kit.call("tally", "a", "add_loudly")
        await until(lambda: kit.bus.published == 2)
        await quiet()
        assert kit.bus.published == 2


async def test_a_bug_while_an_entry_is_sent_does_not_end_its_lane(
    kit: ObjectKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = kit.runtime._relay._events
    sent, failed = publisher._on_sent, []

    def stumble(activation: Any, number: int) -> None:
        if not failed:
            failed.append(number)
            raise KeyError("a bug")
        sent(activation, number)

    gate = asyncio.Event()
    kit.store.faults.append(gate)
    monkeypatch.setattr(publisher, "_on_sent", stumble)
    calls = [await begun(kit.call("tally", "a", "add_loudly")) for _ in range(3)]
    gate.set()
    await asyncio.gather(*calls)

    await until(lambda: failed)
    await kit.call("tally", "a", "add_loudly")
    await until(lambda: values(kit.bus) == [1, 2, 3, 4])
    assert len(failed) == 1
