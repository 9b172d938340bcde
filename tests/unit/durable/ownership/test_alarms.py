"""Alarms ring once, in a turn of their own, on time, and leave no trace of undone changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from aidevos import Alarm, Backoff, BaseDurableObject, Failure
from aidevos.contracts.subjects import PARTITIONS
from aidevos.durable.base import backoff
from aidevos.durable.objects.registry import DurableObjectRegistry
from aidevos.durable.ownership import alarm_clock
from aidevos.durable.store.memory import MemoryStore
from aidevos.durable.turns.environment import Limits
from aidevos.testing import ObjectKit
from tests.support.alarms import Bell, BellState, Guest
from tests.support.kits import START, begun, crash, failure, quiet, until

HOUR = 3600.0
pytestmark = pytest.mark.usefixtures("unjittered")


@pytest.fixture
async def kit() -> AsyncIterator[ObjectKit]:
    Bell.attempts, Guest.ended = [], []
    Bell.gate = asyncio.Event()
    async with ObjectKit(Bell, Guest) as kit:
        yield kit


async def ring(kit: ObjectKit, name: str, id: str = "a", **args: Any) -> None:
    await kit.call("bell", id, "set", name=name, args=args)


async def rung(kit: ObjectKit, id: str = "a") -> list[tuple[str, float]]:
    """Return the names of the alarms that rang, with the times in seconds after the start."""
    return [(alarm["name"], at - START) for alarm, at in await kit.call("bell", id, "rung")]


def stored(kit: ObjectKit, id: str = "a", type: str = "bell") -> dict[str, Any]:
    document = kit.store.documents[type][id]
    return {name: document.get(name) for name in ("alarms", "alarm_at")}


async def test_an_alarm_rings_at_its_time_and_is_gone(kit: ObjectKit) -> None:
    await ring(kit, "tea", in_=HOUR, payload={"cups": [1, 2]})
    await kit.advance(HOUR - 1)
    assert await rung(kit) == []

    await kit.advance(1)

    [(alarm, at)] = await kit.call("bell", "a", "rung")
    assert alarm == {"name": "tea", "payload": {"cups": [1, 2]}, "due": START + HOUR, "attempt": 1, "missed": 0}
    assert at == START + HOUR
    assert [subject for subject, *_ in kit.bus.events] == ["event.bell.a.rang"]
    assert stored(kit) == {"alarms": {}, "alarm_at": None}
    await kit.advance(10 * HOUR)
    assert len(await rung(kit)) == 1


async def test_several_alarms_ring_each_at_its_own_time_and_the_document_tells_the_earliest(kit: ObjectKit) -> None:
    for name, after in (("c", 30), ("a", 10), ("b", 20)):
        await ring(kit, name, in_=after)
    assert stored(kit)["alarm_at"] == START + 10
    assert await kit.call("bell", "a", "look", name="b") == [
        ["a", "b", "c"],
        {"name": "b", "payload": None, "due": START + 20, "attempt": 1, "missed": 0},
    ]

    await kit.advance(25)

    assert await rung(kit) == [("a", 10), ("b", 20)]
    assert stored(kit)["alarm_at"] == START + 30


async def test_the_same_name_replaces_and_cancel_takes_back(kit: ObjectKit) -> None:
    await ring(kit, "moved", in_=10)
    await ring(kit, "moved", at=START + 50)
    await ring(kit, "gone", in_=20)
    assert await kit.call("bell", "a", "cancel", name="gone") is True
    assert await kit.call("bell", "a", "cancel", name="gone") is False

    await kit.advance(100)

    assert await rung(kit) == [("moved", 50)]


async def test_a_time_that_is_past_means_now(kit: ObjectKit) -> None:
    await ring(kit, "past", at=START - HOUR, catch_up="skip")
    await kit.advance(0)
    assert await rung(kit) == [("past", 0)]


async def test_a_datetime_has_a_zone(kit: ObjectKit) -> None:
    await kit.call("bell", "a", "set_at", name="spring", day=20, zoned=True)
    assert stored(kit)["alarm_at"] == datetime(2027, 3, 20, tzinfo=UTC).timestamp()
    assert (await failure(kit.call("bell", "a", "set_at", name="spring", day=20, zoned=False))).field


async def test_a_turn_that_raises_has_set_and_cancelled_nothing(kit: ObjectKit) -> None:
    await ring(kit, "there", in_=10)
    refused = await failure(kit.call("bell", "a", "set_and_raise", name="new", args={"in_": 5}))
    assert refused.code == "conflict"
    await kit.advance(60)
    assert await rung(kit) == [("there", 10)]


async def test_a_query_can_t_set_an_alarm(kit: ObjectKit) -> None:
    assert (await failure(kit.call("bell", "none", "cheat"))).code == "internal"
    await ring(kit, "there", in_=10)
    assert (await failure(kit.call("bell", "a", "cheat"))).code == "internal"
    assert list(stored(kit)["alarms"]) == ["there"]


@pytest.mark.parametrize(
    ("name", "args", "field"),
    [
        ("a.b", {"in_": 1}, "name"),
        ("$set", {"in_": 1}, "name"),
        ("", {"in_": 1}, "name"),
        ("_expire", {"in_": 1}, "name"),
        ("x" * 65, {"in_": 1}, "name"),
        ("a", {}, "at"),
        ("a", {"in_": 1, "at": START}, "at"),
        ("a", {"in_": -1}, "in_"),
        ("a", {"in_": 1e12}, "at"),
        ("a", {"in_": 1, "every": 0.5}, "every"),
        ("a", {"in_": 1, "catch_up": "some"}, "catch_up"),
        ("a", {"in_": 1, "grace": -1}, "grace"),
        ("a", {"in_": 1, "payload": "x" * 65536}, "payload"),
        ("a", {"in_": 1, "retry": {"max_attempts": 0}}, "retry.max_attempts"),
        ("a", {"in_": 1, "retry": {"backoff": 0}}, "retry.backoff"),
        ("a", {"in_": 1, "retry": {"backoff": 10, "max_backoff": 5}}, "retry.backoff"),
    ],
)
async def test_what_no_alarm_can_be_is_refused_by_name(
    kit: ObjectKit, name: str, args: dict[str, Any], field: str
) -> None:
    retry = args.pop("retry", None)
    refused = await failure(kit.call("bell", "a", "set", name=name, args=args, retry=retry))
    assert refused.code in ("invalid", "too-large")
    assert (refused.field or "").removeprefix("alarm.") == field
    assert stored(kit)["alarms"] is None


async def test_an_object_has_so_many_alarms_and_bytes_of_them(kit: ObjectKit) -> None:
    for number in range(kit.runtime.environment.limits.alarms):
        await ring(kit, f"a{number}", in_=HOUR)
    assert (await failure(ring(kit, "more", in_=1))).code == "too-large"
    await ring(kit, "a7", in_=1)

    for number in range(16):
        await ring(kit, f"b{number}", id="b", in_=HOUR, payload="x" * 65000)
    assert (await failure(ring(kit, "more", id="b", in_=1, payload="x" * 65000))).code == "too-large"


async def test_an_attempt_that_failed_is_undone_and_repeated_with_a_growing_pause(kit: ObjectKit) -> None:
    retry = {"max_attempts": 5, "backoff": 2.0, "max_backoff": 5.0}
    args = {"name": "flaky", "args": {"in_": 10, "payload": {"fails": 3}}, "retry": retry}
    await kit.call("bell", "a", "set", **args)

    await kit.advance(10 + 2 + 4)
    assert await rung(kit) == []
    assert kit.bus.events == []
    assert stored(kit)["alarm_at"] == START + 10 + 2 + 4 + 5

    await kit.advance(5)
    [(alarm, at)] = await kit.call("bell", "a", "rung")
    assert (alarm["attempt"], alarm["due"], at) == (4, START + 10, START + 21)
    assert [attempt for _, attempt, _ in Bell.attempts] == [1, 2, 3, 4]
    assert len(kit.bus.events) == 1
    assert kit.letters == {}


async def test_alarms_that_fail_together_are_repeated_apart_and_each_as_it_was_planned(
    kit: ObjectKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "JITTER", 0.5)
    ids = [f"b{number}" for number in range(20)]
    retry = {"max_attempts": 5, "backoff": 8.0}
    for id in ids:
        args = {"name": "flaky", "args": {"in_": 10, "payload": {"fails": 1}}, "retry": retry}
        await kit.call("bell", id, "set", **args)

    await kit.advance(10)

    again = [stored(kit, id)["alarm_at"] - START - 10 for id in ids]
    assert again == pytest.approx([Backoff(8.0, 300.0).pause(1, f"bell:{id}.flaky") for id in ids])
    assert max(again) - min(again) > 2
    await kit.advance(8)
    assert [await rung(kit, id) for id in ids] == [[("flaky", pytest.approx(10 + pause))] for pause in again]


async def test_after_the_last_attempt_it_is_a_dead_letter_that_a_replay_sends_again(kit: ObjectKit) -> None:
    args = {"in_": 10, "payload": {"fails": 2, "say": "é"}}
    await kit.call("bell", "a", "set", name="doomed", args=args, retry={"max_attempts": 2})

    await kit.advance(HOUR)

    [letter] = kit.letters.values()
    assert (letter.kind, letter.source, letter.subject) == ("alarm", "bell:a", "do.bell.a._alarm")
    assert (letter.code, letter.attempts, letter.at) == ("conflict", 2, START + 11)
    assert stored(kit) == {"alarms": {}, "alarm_at": None}
    assert len(Bell.attempts) == 2
    await kit.request(letter.subject, letter.payload)
    [(alarm, _)] = await kit.call("bell", "a", "rung")
    assert (alarm["name"], alarm["due"], alarm["attempt"]) == ("doomed", START + 10, 3)


async def test_a_replay_makes_no_object_that_is_gone_and_is_not_for_people(kit: ObjectKit) -> None:
    args = {"alarm": {"name": "tea"}}
    assert (await failure(kit.request("do.bell.a._alarm", msgspec.json.encode(args)))).code == "not-found"
    assert (await failure(kit.call("bell", "a", "_alarm", **args))).code == "forbidden"
    assert (await failure(kit.call("guest", "a", "_expire"))).code == "forbidden"


async def test_a_letter_is_stored_in_the_commit_that_ends_its_alarm(kit: ObjectKit) -> None:
    await kit.call(
        "bell",
        "a",
        "set",
        name="doomed",
        args={"in_": 1, "payload": {"fails": 1}},
        retry={"max_attempts": 1},
    )
    kit.clock.advance(1)

    async def never(*args: Any, **options: Any) -> bytes:
        raise ConnectionError

    kit.request = never  # type: ignore[method-assign]
    await kit.alarms.scan({"bell": range(PARTITIONS)}, 1)
    kit.alarms.ring_due()
    await quiet()
    assert stored(kit) == {"alarms": {}, "alarm_at": None}
    await crash(kit)

    async with ObjectKit(Bell, store=kit.store, clock=kit.clock) as successor:
        await successor.lifecycle.scan()
        await successor.settle()
        assert [letter.kind for letter in successor.letters.values()] == ["alarm"]


async def test_a_handler_that_ends_its_process_does_so_a_limited_number_of_times(kit: ObjectKit) -> None:
    args = {"in_": 10, "payload": {"hangs": True}}
    await kit.call("bell", "a", "set", name="deadly", args=args, retry={"max_attempts": 3})
    process = kit
    for _ in range(6):
        kit.clock.advance(60)
        await process.alarms.scan({"bell": range(PARTITIONS)}, 1)
        process.alarms.ring_due()
        await quiet()
        await crash(process)
        process = ObjectKit(Bell, store=kit.store, clock=kit.clock)

    async with process:
        await process.lifecycle.scan()
        await process.settle()
        [letter] = process.letters.values()
    # The first attempt isn't counted, because no record of it existed yet.
    assert [attempt for _, attempt, _ in Bell.attempts] == [1, 1, 2, 3]
    assert len({request_id for _, _, request_id in Bell.attempts}) == 1
    assert (letter.code, letter.attempts) == ("internal", 3)
    assert stored(kit) == {"alarms": {}, "alarm_at": None}


async def test_an_alarm_waits_while_its_letter_finds_no_room(kit: ObjectKit) -> None:
    away = Failure("unavailable", "nobody is there")

    async def refuse(*args: Any, **options: Any) -> bytes:
        raise away

    async with ObjectKit(Bell, store=kit.store, clock=kit.clock, limits=Limits(outbox=2)) as small:
        request, small.request = small.request, refuse  # type: ignore[method-assign]
        args = {"in_": 1, "every": 1, "catch_up": "all", "payload": {"fails": 1}}
        await small.call("bell", "a", "set", name="doomed", args=args, retry={"max_attempts": 1})
        for _ in range(10):
            small.clock.advance(1)
            small.alarms.ring_due()
            await quiet()
        assert len(kit.store.documents["bell"]["a"]["outbox"]) == 2
        small.request = request  # type: ignore[method-assign]
        await small.advance(60)
        assert len(small.letters) >= 10


async def test_a_handler_that_takes_too_long_has_failed() -> None:
    Bell.attempts, Bell.gate = [], asyncio.Event()
    async with ObjectKit(Bell, limits=Limits(alarm_deadline=0.01)) as kit:
        await ring(kit, "slow", in_=1, payload={"hangs": True})
        await kit.advance(1)
        assert list(kit.store.documents["bell"]["a"]["alarms"]) == ["slow"]
        Bell.gate.set()
        await kit.advance(1)
        assert await rung(kit) == [("slow", 2)]


async def test_what_an_attempt_has_committed_on_its_way_stays_and_the_alarm_with_it(kit: ObjectKit) -> None:
    await ring(kit, "steps", in_=10, payload={"checkpoint": True, "fails": 1})
    await kit.advance(60)
    assert await rung(kit) == [("steps", 10), ("steps", 11)]
    assert stored(kit)["alarms"] == {}


async def test_an_alarm_that_finds_no_room_in_the_mailbox_rings_when_there_is() -> None:
    Bell.attempts, Bell.gate = [], asyncio.Event()
    async with ObjectKit(Bell, limits=Limits(mailbox=1)) as kit:
        await ring(kit, "tea", in_=1)
        calls = [await begun(kit.call("bell", "a", "wait")) for _ in range(2)]
        kit.clock.advance(1)
        kit.alarms.ring_due()
        Bell.gate.set()
        await asyncio.gather(*calls)
        assert Bell.attempts == []
        kit.clock.advance(1)
        kit.alarms.ring_due()
        await kit.settle()
        assert await rung(kit) == [("tea", 2)]


async def test_a_repeating_alarm_keeps_its_regular_times(kit: ObjectKit) -> None:
    await ring(kit, "tick", in_=10, every=60)
    await kit.advance(200)
    assert await rung(kit) == [("tick", 10), ("tick", 70), ("tick", 130), ("tick", 190)]
    assert stored(kit)["alarm_at"] == START + 250


async def test_a_repeating_alarm_goes_on_after_a_dead_letter(kit: ObjectKit) -> None:
    args = {"in_": 10, "every": 60, "payload": {"fails": 2}}
    await kit.call("bell", "a", "set", name="tick", args=args, retry={"max_attempts": 2})
    await kit.advance(80)
    assert [(name, attempt) for name, attempt, _ in Bell.attempts] == [("tick", 1), ("tick", 2)] * 2
    assert len(kit.letters) == 2
    assert stored(kit)["alarm_at"] == START + 130


@pytest.mark.parametrize(
    ("catch_up", "every", "downtime", "expected"),
    [
        # The times 10, 70, 130 and 190 were all missed by the end of the downtime.
        ("latest", 60, 200, [(190, 3)]),
        ("all", 60, 200, [(10, 0), (70, 0), (130, 0), (190, 0)]),
        ("skip", 60, 200, [(190, 3)]),
        ("skip", 60, 225, []),
        ("latest", None, 200, [(10, 0)]),
        ("all", None, 200, [(10, 0)]),
        ("skip", None, 60, [(10, 0)]),
        ("skip", None, 200, []),
    ],
)
async def test_what_an_outage_made_late_rings_by_the_policy(
    kit: ObjectKit, catch_up: str, every: float | None, downtime: float, expected: list[tuple[float, int]]
) -> None:
    await ring(kit, "tick", in_=10, every=every, catch_up=catch_up)
    await crash(kit)
    kit.clock.advance(downtime)

    async with ObjectKit(Bell, store=kit.store, clock=kit.clock) as successor:
        await successor.advance(1)
        told = await successor.call("bell", "a", "rung")

    assert [(alarm["due"] - START, alarm["missed"]) for alarm, _ in told] == expected
    assert all(at >= START + downtime for _, at in told)
    assert stored(kit)["alarm_at"] == (START + 250 if every else None)


async def test_an_attempt_that_is_late_is_made_whatever_the_policy(kit: ObjectKit) -> None:
    await ring(kit, "flaky", in_=10, catch_up="skip", payload={"fails": 1})
    await kit.advance(10)
    await crash(kit)
    kit.clock.advance(HOUR)
    async with ObjectKit(Bell, store=kit.store, clock=kit.clock) as successor:
        await successor.advance(1)
        assert await rung(successor) == [("flaky", 10 + HOUR)]


async def test_a_handler_may_set_its_own_alarm_anew_and_set_others(kit: ObjectKit) -> None:
    await kit.call("bell", "a", "follow", args={"in_": 5})
    await ring(kit, "self", in_=10, every=1000, payload={"again": 30})
    await kit.advance(12)
    assert stored(kit)["alarm_at"] == START + 15
    await kit.advance(48)
    assert await rung(kit) == [("self", 10), ("follow", 15), ("self", 40)]
    assert stored(kit)["alarms"] == {}


async def test_a_handler_that_raises_has_set_no_alarm(kit: ObjectKit) -> None:
    await kit.call("bell", "a", "follow", args={"in_": 5})
    await ring(kit, "flaky", in_=10, payload={"fails": 1})
    await kit.advance(10.5)
    assert list(stored(kit)["alarms"]) == ["flaky"]


async def test_deletion_drops_alarms_and_an_object_made_anew_has_none(kit: ObjectKit) -> None:
    await ring(kit, "tea", in_=10)
    await kit.call("bell", "a", "remove")
    assert stored(kit) == {"alarms": {}, "alarm_at": None}
    await ring(kit, "new", in_=20)
    await kit.advance(60)
    assert await rung(kit) == [("new", 20)]


async def test_a_handler_may_delete_its_object(kit: ObjectKit) -> None:
    await ring(kit, "other", in_=20)
    await ring(kit, "last", in_=10, every=10, payload={"end": True})
    await kit.advance(60)
    assert (await failure(kit.call("bell", "a", "_read"))).code == "not-found"
    assert stored(kit) == {"alarms": {}, "alarm_at": None}


async def test_alarms_of_a_founding_commit_ring(kit: ObjectKit) -> None:
    await kit.call("bell", "a", "found", name="first", args={"in_": 10})
    assert kit.store.documents["bell"]["a"]["epoch"] == 1
    await kit.advance(10)
    assert await rung(kit) == [("first", 10)]


async def test_hibernation_keeps_alarms() -> None:
    async with ObjectKit(Bell, limits=Limits(idle_after=-1.0)) as kit:
        await ring(kit, "tea", in_=5 * HOUR)
        await kit.lifecycle.sweep()
        assert kit.catalogue.get("bell", "a") is None
        await kit.advance(5 * HOUR)
        assert await rung(kit) == [("tea", 5 * HOUR)]


async def test_an_alarm_that_was_moved_while_it_waited_for_its_turn_does_not_ring(kit: ObjectKit) -> None:
    await ring(kit, "moved", in_=1)
    first = await begun(kit.call("bell", "a", "wait"))
    setting = await begun(ring(kit, "due", in_=0))
    second = await begun(kit.call("bell", "a", "wait"))
    moving = await begun(ring(kit, "moved", in_=100))
    kit.clock.advance(1)
    kit.alarms.ring_due()
    gate, Bell.gate = Bell.gate, asyncio.Event()
    gate.set()
    await asyncio.gather(first, setting)
    Bell.gate.set()
    await asyncio.gather(second, moving)
    await kit.advance(0)
    assert [name for name, _, _ in Bell.attempts] == ["due"]


async def test_an_object_is_in_memory_when_its_alarm_is_due(kit: ObjectKit) -> None:
    await ring(kit, "tea", in_=10)
    await crash(kit)
    async with ObjectKit(Bell, store=kit.store, clock=kit.clock) as successor:
        await successor.advance(9.5)
        activation = successor.catalogue.get("bell", "a")
        assert activation is not None
        assert activation.loaded
        assert Bell.attempts == []
        await successor.advance(0.5)
        assert await rung(successor) == [("tea", 10)]


async def test_an_alarm_does_not_ring_before_the_commit_that_sets_it(kit: ObjectKit) -> None:
    await kit.call("bell", "a", "follow", args={})
    gate = asyncio.Event()
    kit.store.faults.append(gate)
    setting = await begun(ring(kit, "now", in_=0))
    activation = kit.catalogue.get("bell", "a")
    assert activation is not None
    kit.alarms.schedule_next(activation)
    kit.alarms.ring(activation)
    await quiet()
    assert Bell.attempts == []
    gate.set()
    await setting
    await kit.advance(0)
    assert await rung(kit) == [("now", 0)]


@pytest.mark.parametrize("fault", ["fail", "lose"])
async def test_an_alarm_whose_commit_is_unknown_takes_effect_once(kit: ObjectKit, fault: str) -> None:
    await ring(kit, "tea", in_=10)
    await kit.advance(9)
    kit.store.faults.append(fault)
    await kit.advance(30)
    assert len(await rung(kit)) == 1
    assert len(Bell.attempts) == (2 if fault == "fail" else 1)
    assert len({request_id for _, _, request_id in Bell.attempts}) == 1
    assert len(kit.bus.events) == 1


async def test_an_alarm_whose_commit_was_lost_rings_again_at_once_and_not_with_the_next_scan(kit: ObjectKit) -> None:
    await ring(kit, "tea", in_=1)
    kit.clock.advance(1)
    kit.store.faults.append("fail")
    kit.alarms.ring_due()
    await until(lambda: not kit.store.faults and kit.catalogue.get("bell", "a") is None)
    kit.alarms.ring_due()
    await until(lambda: len(Bell.attempts) == 2)
    await kit.settle()
    assert await rung(kit) == [("tea", 1)]


async def test_a_process_that_drains_finishes_what_rings_and_begins_nothing(kit: ObjectKit) -> None:
    await ring(kit, "first", in_=1, payload={"hangs": True})
    await ring(kit, "second", in_=1)
    kit.clock.advance(1)
    kit.alarms.ring_due()
    await until(lambda: Bell.attempts)
    kit.alarms.stop()
    Bell.gate.set()
    await kit.settle()
    kit.alarms.ring_due()
    await quiet()
    assert [name for name, _, _ in Bell.attempts] == ["first"]
    assert list(stored(kit)["alarms"]) == ["second"]


async def test_each_attempt_has_a_request_id_of_its_own(kit: ObjectKit) -> None:
    await ring(kit, "flaky", in_=10, payload={"fails": 1})
    await kit.advance(60)
    assert len({request_id for _, _, request_id in Bell.attempts}) == 2


async def test_a_process_that_was_taken_over_rings_nothing(kit: ObjectKit) -> None:
    await ring(kit, "tea", in_=10)
    async with ObjectKit(Bell, store=kit.store) as successor:
        await successor.advance(10)
        await kit.advance(9)
        assert await rung(successor) == [("tea", 10)]
        assert len(Bell.attempts) == 1
        await kit.advance(10)
        assert await rung(successor) == [("tea", 10)]


async def test_without_a_lease_nothing_rings(kit: ObjectKit) -> None:
    await ring(kit, "tea", in_=10)
    kit.lease = False
    await kit.advance(60)
    assert Bell.attempts == []


async def test_the_service_itself_is_the_caller(kit: ObjectKit) -> None:
    class Asker(BaseDurableObject[BellState], type="asker", management="raw"):
        async def on_alarm(self, alarm: Alarm) -> None:
            self.state.follow = {"caller": self.caller.subject, "service": self.caller.is_service}

        set = Bell.set

    async with ObjectKit(Asker) as asker:
        await asker.call("asker", "a", "set", name="x", args={"in_": 1})
        await asker.advance(1)
        state = (await asker.call("asker", "a", "_read"))["state"]
        assert state["follow"] == {"caller": "service:test", "service": True}


async def test_late_ones_ring_at_a_rate_and_none_on_time_waits_for_them() -> None:
    Bell.attempts = []
    store = MemoryStore()
    async with ObjectKit(Bell, store=store) as kit:
        for number in range(200):
            await ring(kit, "late", id=f"l{number}", in_=1)
        for number in range(50):
            await ring(kit, "timely", id=f"t{number}", in_=HOUR + 1 + number / 50)
        await crash(kit)
    kit.clock.advance(HOUR)
    async with ObjectKit(Bell, store=store, clock=kit.clock, limits=Limits(alarm_rate=50.0)) as successor:
        await successor.advance(2)
        names = [name for name, _, _ in Bell.attempts]
        timely = [at for number in range(50) for _, at in await rung(successor, f"t{number}")]
        assert names.count("timely") == 50
        assert max(at - (HOUR + 1 + number / 50) for number, at in enumerate(timely)) < 1e-3
        assert 80 <= names.count("late") <= 110
        await successor.advance(3)
        assert [name for name, _, _ in Bell.attempts].count("late") == 200


async def test_late_alarms_ring_after_the_clock_went_back() -> None:
    schedule = alarm_clock.Schedule(rate=50.0)
    schedule.put(("bell", "first"), START)
    assert schedule.pop(START + HOUR, 1) == [("bell", "first")]
    schedule.put(("bell", "second"), START)

    assert schedule.pop(START + 60.0, 1) == []
    assert schedule.pop(START + 60.1, 1) == [("bell", "second")]


async def test_late_ones_in_partitions_that_have_left_delay_no_others() -> None:
    Bell.attempts = []
    store, ids = MemoryStore(), [f"l{number}" for number in range(200)]
    async with ObjectKit(Bell, store=store) as kit:
        for id in ids:
            await ring(kit, "late", id=id, in_=1)
        await crash(kit)
    kit.clock.advance(HOUR)
    async with ObjectKit(Bell, store=store, clock=kit.clock, limits=Limits(alarm_rate=50.0)) as successor:
        partitions = successor.runtime.environment.partitions
        kept = [id for id in ids if partitions.of("bell", id) < 8]
        await successor.runtime.alarms.scan(partitions.owned(), 0.0)
        for partition in range(8, partitions.count):
            partitions.drop("bell", partition)
        await successor.advance(1)
        assert len(Bell.attempts) == len(kept) > 10


async def test_a_scan_finds_what_is_due_soon_however_many_are_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarm_clock, "LATE_LIMIT", 3)
    Bell.attempts = []
    store = MemoryStore()
    async with ObjectKit(Bell, store=store) as kit:
        for number in range(8):
            await ring(kit, "late", id=f"l{number}", in_=1)
            await ring(kit, "timely", id=f"t{number}", in_=HOUR + 2)
        await crash(kit)
    kit.clock.advance(HOUR)
    async with ObjectKit(Bell, store=store, clock=kit.clock, limits=Limits(alarm_rate=0.1)) as successor:
        await successor.advance(3)
        names = [name for name, _, _ in Bell.attempts]
        assert names.count("timely") == 8
        assert names.count("late") < 3


async def test_an_object_that_expires_ends_so_long_after_its_last_change(kit: ObjectKit) -> None:
    await kit.call("guest", "a", "touch")
    await kit.advance(0.9 * HOUR)
    await kit.call("guest", "a", "touch")
    await kit.advance(0.9 * HOUR)
    assert Guest.ended == []
    await kit.advance(0.1 * HOUR)
    assert Guest.ended == ["a"]
    assert (await failure(kit.call("guest", "a", "_read"))).code == "not-found"
    assert stored(kit, type="guest") == {"alarms": {}, "alarm_at": None}


async def test_a_type_without_a_handler_sets_no_alarm_and_a_wrong_handler_is_no_type(kit: ObjectKit) -> None:
    assert (await failure(kit.call("guest", "a", "set"))).code == "internal"

    class Wrong(BaseDurableObject[BellState], type="wrong"):
        async def on_alarm(self, due: Alarm) -> None:  # type: ignore[override]
            pass

    with pytest.raises(TypeError, match="on_alarm"):
        DurableObjectRegistry([Wrong])
