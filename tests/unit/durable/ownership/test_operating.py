"""Operators see what an object has yet to do, let it leave memory, and find the busiest objects."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from aidevos import Alarm, BaseDurableObject, authenticated, command, query
from aidevos.durable.ownership import lifecycle, turn_counter
from aidevos.testing import ObjectKit
from tests.support.kits import begun, failure, until
from tests.support.objects import Tally


class ClockState(msgspec.Struct):
    rings: int = 0


class Clock(BaseDurableObject[ClockState], type="clock", management="raw"):
    @command(allow=authenticated())
    async def wind(self) -> None:
        self.alarms.set("later", in_=600, payload="hunter2")
        self.alarms.set("soon", in_=60, every=3600, payload="hunter2")
        self.tell("tally", "slow", "add_slowly", by=4711)

    @query(allow=authenticated())
    async def watch(self) -> int:
        await Tally.gate.wait()
        return self.state.rings

    async def on_alarm(self, alarm: Alarm) -> None:
        self.state.rings += 1


class Closed(Clock, type="closed", management="lifecycle"):
    """A type that shows its state to nobody."""


async def test_alarms_and_the_outbox_are_shown_without_what_they_hold() -> None:
    async with ObjectKit(Clock, Closed, Tally) as kit:
        await kit.call("clock", "a", "wind")
        found = await kit.call("clock", "a", "_pending")
        assert [(alarm["name"], alarm["every"]) for alarm in found["alarms"]] == [("soon", 3600.0), ("later", None)]
        assert [(entry["kind"], entry["subject"]) for entry in found["outbox"]] == [
            ("tell", "do.tally.slow.add_slowly")
        ]
        assert found["outbox_count"] == 1
        assert "hunter2" not in str(found)
        assert "4711" not in str(found)
        Tally.gate.set()


async def test_what_waits_in_an_object_is_shown_only_where_its_state_is() -> None:
    async with ObjectKit(Clock, Closed, Tally) as kit:
        assert (await failure(kit.call("clock", "absent", "_pending"))).code == "not-found"
        await kit.call("closed", "a", "wind")
        assert (await failure(kit.call("closed", "a", "_pending"))).code == "forbidden"
        Tally.gate.set()


async def test_an_object_hibernates_when_an_operator_says_so(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "add_loudly")
    assert (await kit.call("tally", "a", "_read"))["status"] == "active"
    await kit.call("tally", "a", "_hibernate")
    await until(lambda: "hibernate a" in Tally.hooks)
    assert (await kit.call("tally", "a", "_read"))["status"] == "hibernated"
    assert await kit.call("tally", "a", "_hibernate") is None
    assert await kit.call("tally", "a", "add") == 2
    assert (await failure(kit.call("tally", "absent", "_hibernate"))).code == "not-found"


async def test_looking_at_an_object_again_and_again_keeps_it_out_of_memory(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "add")
    await kit.call("tally", "a", "_hibernate")
    for method in ("_pending", "_pending", "_hibernate", "_pending"):
        await kit.call("tally", "a", method)
        assert (await kit.call("tally", "a", "_read"))["status"] == "hibernated"


async def test_an_object_hibernates_after_its_running_turn_and_commit(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "add")
    turn = await begun(kit.call("tally", "a", "add_slowly"))
    hibernation = await begun(kit.call("tally", "a", "_hibernate"))
    assert "hibernate a" not in Tally.hooks
    commit = asyncio.Event()
    kit.store.faults.append(commit)
    Tally.gate.set()
    await begun(asyncio.sleep(0))
    assert "hibernate a" not in Tally.hooks
    commit.set()
    assert await turn == 2
    await hibernation
    assert (await kit.call("tally", "a", "_read"))["status"] == "hibernated"
    assert await kit.call("tally", "a", "value") == 2


async def test_an_object_that_stays_in_use_stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "IDLE_WITHIN", 0.05)
    async with ObjectKit(Clock) as kit:
        await kit.call("clock", "a", "_create")
        watching = await begun(kit.call("clock", "a", "watch"))
        refused = await failure(kit.call("clock", "a", "_hibernate"))
        assert refused.code == "conflict"
        assert kit.catalogue.get("clock", "a") is not None
        Tally.gate.set()
        assert await watching == 0


async def test_a_message_that_can_t_be_sent_keeps_no_object_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "IDLE_WITHIN", 0.05)
    async with ObjectKit(Clock, Tally) as kit:
        await kit.call("clock", "a", "wind")
        await kit.call("clock", "a", "_hibernate")
        assert (await kit.call("clock", "a", "_pending"))["outbox_count"] == 1
        Tally.gate.set()
        await kit.lifecycle.scan()
        await until(lambda: kit.catalogue.get("clock", "a") and kit.catalogue.get("clock", "a").loaded)
        await until(lambda: not kit.catalogue.get("clock", "a").outbox)
        assert await kit.call("tally", "slow", "value") == 4711


async def test_the_objects_with_the_most_turns_are_found_while_somebody_asks(
    kit: ObjectKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, uncounted = kit.runtime.turns, kit.runtime.turns.start
    monkeypatch.setattr(turn_counter, "WINDOW", 0.0)
    monkeypatch.setattr(turn_counter, "CAPACITY", 2)
    await kit.call("tally", "earlier", "add")
    assert turns.find_busiest() == []
    for id, count in (("a", 1), ("b", 3), ("too many", 1)):
        for _ in range(count):
            await kit.call("tally", id.replace(" ", "_"), "value")
    found = turns.find_busiest()
    assert [each.object_id for each in found] == ["tally:b", "tally:a"]
    assert found[0].turns == pytest.approx(3 * found[1].turns)
    assert turns.find_busiest() == []
    turns._stop()
    assert turns.start is uncounted
