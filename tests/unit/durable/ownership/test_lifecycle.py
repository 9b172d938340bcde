"""Objects are created, hibernate, change their schema and are deleted."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from aidevos import BaseDurableObject
from aidevos.durable.objects.weight import Weight
from aidevos.durable.store.memory import MemoryStore
from aidevos.durable.turns.environment import Limits
from aidevos.testing import ObjectKit
from tests.support.kits import begun, crash, failure, quiet, until
from tests.support.objects import Note, NoteState, NoteV3, Tally


async def test_a_deleted_object_is_gone_and_the_next_command_starts_anew_with_a_later_version(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "add", by=5)
    before = await kit.call("tally", "a", "_read")
    assert await kit.call("tally", "a", "_delete") is None
    assert (await failure(kit.call("tally", "a", "_read"))).code == "not-found"
    assert await kit.call("tally", "a", "value") == 0
    kit.clock.advance(1)
    assert await kit.call("tally", "a", "add") == 1
    after = await kit.call("tally", "a", "_read")
    assert (before["version"], after["version"]) == (1, 3)
    assert after["created_at"] > before["created_at"]


async def test_a_tombstone_survives_a_crash_and_keeps_version_and_records(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "add", headers={"Request-Id": "add"})
    await kit.call("tally", "a", "remove")
    stored = kit.store.documents["tally"]["a"]
    assert "state" not in stored
    assert stored["deleted"] is not None
    await crash(kit)
    successor = ObjectKit(Tally, store=kit.store)
    assert (await failure(successor.call("tally", "a", "_read"))).code == "not-found"
    assert await successor.call("tally", "a", "add", headers={"Request-Id": "add"}) == 1
    assert await successor.call("tally", "a", "value") == 0
    await successor.call("tally", "a", "add")
    assert (await successor.call("tally", "a", "_read"))["version"] == 3


async def test_create_makes_an_object_once(kit: ObjectKit) -> None:
    made = await kit.call("tally", "a", "_create", state={"value": 7})
    assert (made["object_id"], made["version"], made["status"]) == ("tally:a", 1, "active")
    assert made["state"]["value"] == 7
    assert (await failure(kit.call("tally", "a", "_create"))).status == 409
    assert await kit.call("tally", "a", "value") == 7
    await kit.call("tally", "a", "_delete")
    assert (await failure(kit.call("tally", "a", "_delete"))).code == "not-found"
    assert (await failure(kit.call("tally", "a", "_replace", state={}))).code == "not-found"


async def test_a_state_with_unknown_fields_is_refused_by_name(kit: ObjectKit) -> None:
    refused = await failure(kit.call("tally", "a", "_create", state={"value": 1, "colour": "red"}))
    assert (refused.code, refused.field) == ("invalid", "state.colour")
    assert (await failure(kit.call("tally", "a", "_read"))).code == "not-found"


@pytest.mark.parametrize(
    ("condition", "status"),
    [('"2"', None), ('"1", "2"', None), ("*", None), ('"1"', 412), ('W/"2"', 412), ("two", 400)],
)
@pytest.mark.parametrize("method", ["add", "_replace", "_delete"])
async def test_a_change_happens_only_if_its_condition_matches(
    kit: ObjectKit, method: str, condition: str, status: int | None
) -> None:
    for _ in range(2):
        await kit.call("tally", "a", "add")
    args: dict[str, Any] = {"state": {}} if method == "_replace" else {}
    call = kit.call("tally", "a", method, **args, headers={"If-Match": condition})
    if status is None:
        await call
        return
    refused = await failure(call)
    assert refused.status == status
    assert await kit.call("tally", "a", "value") == 2


async def test_a_condition_on_nothing_does_not_match(kit: ObjectKit) -> None:
    for condition in ("*", '"0"'):
        assert (await failure(kit.call("tally", "a", "add", headers={"If-Match": condition}))).status == 412
    assert await kit.call("tally", "a", "value") == 0


async def test_what_is_idle_long_enough_leaves_memory_and_keeps_everything() -> None:
    async with ObjectKit(Tally, limits=Limits(idle_after=0.0)) as kit:
        await kit.call("tally", "a", "add", by=5, headers={"Request-Id": "five"})
        await kit.lifecycle.sweep()
        await until(lambda: Tally.hooks == ["activate a", "hibernate a"])
        assert (await kit.call("tally", "a", "_read"))["status"] == "hibernated"
        assert await kit.call("tally", "a", "add", by=5, headers={"Request-Id": "five"}) == 5
        assert await kit.call("tally", "a", "value") == 5


async def test_what_was_used_a_moment_ago_stays_in_memory(kit: ObjectKit) -> None:
    await kit.call("tally", "a", "add")
    await kit.lifecycle.sweep()
    await quiet()
    assert Tally.hooks == ["activate a"]


async def test_past_the_memory_bound_the_longest_unused_leave() -> None:
    async with ObjectKit(Tally, limits=Limits(memory=36_000)) as kit:
        kit.registry.types["tally"].weight = Weight()
        for id in "abcdef":
            await kit.call("tally", id, "grow", bytes=3000)
        await kit.lifecycle.sweep()
        await quiet()
        left = [hook.removeprefix("hibernate ") for hook in Tally.hooks if hook.startswith("hibernate")]
        assert left == ["a", "b", "c"]
        for id in "abcdef":
            assert len((await kit.call("tally", id, "everything"))["tags"][0]) == 3000


@pytest.mark.parametrize("method", ["add", "add_slowly", "value"])
async def test_what_leaves_memory_waits_for_no_garbage_collector(method: str) -> None:
    gc.disable()
    try:
        async with ObjectKit(Tally, limits=Limits(idle_after=0.0)) as kit:
            Tally.gate.set()
            await kit.call("tally", "a", "add")
            await kit.call("tally", "a", method)
            left = weakref.ref(kit.catalogue._activations["tally", "a"])
            await kit.lifecycle.sweep()
            await quiet()
            assert left() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("busy", ["commit", "turn", "tell"])
async def test_what_is_busy_stays_in_memory(busy: str) -> None:
    async with ObjectKit(Tally, limits=Limits(idle_after=0.0, memory=0)) as kit:
        await kit.call("tally", "a", "value")
        gate = asyncio.Event()
        if busy == "commit":
            kit.store.faults.append(gate)
            call = await begun(kit.call("tally", "a", "add"))
        elif busy == "turn":
            call = await begun(kit.call("tally", "a", "add_slowly"))
        else:
            call = await begun(kit.call("tally", "a", "tell_other", id="b", method="add_slowly"))
        await kit.lifecycle.sweep()
        await quiet()
        assert "hibernate a" not in Tally.hooks
        gate.set()
        Tally.gate.set()
        await call


async def test_an_old_state_is_upgraded_step_by_step_when_it_is_read() -> None:
    async with ObjectKit(Note) as old:
        await old.call("note", "a", "write", text="three short words")
        async with ObjectKit(NoteV3, store=old.store) as new:
            assert await new.call("note", "a", "read") == {"title": "three short words", "words": 3}
            assert (await new.query("note", "list"))["items"][0]["state"] == {
                "title": "three short words",
                "words": 3,
            }
            await new.call("note", "a", "_replace", state={"title": "x", "words": 1})
        assert old.store.documents["note"]["a"]["schema"] == 3
        async with ObjectKit(Note, store=old.store) as older:
            assert (await failure(older.call("note", "a", "write", text="x"))).code == "moved"
        assert old.store.documents["note"]["a"]["state"] == {"title": "x", "words": 1}


def test_a_type_that_lacks_an_upcaster_or_a_default_is_refused_at_the_start() -> None:
    class Lacking(BaseDurableObject[NoteState], type="lacking", schema_version=2):
        pass

    with pytest.raises(TypeError, match="upcast"):
        ObjectKit(Lacking)


async def test_pages_list_what_exists_in_order_with_a_cursor(kit: ObjectKit) -> None:
    for id in ("c", "a", "b", "gone"):
        await kit.call("tally", id, "add")
    await kit.call("tally", "gone", "remove")
    await failure(kit.call("tally", "never", "_delete"))
    page = await kit.query("tally", "list", limit=2)
    assert ([item["id"] for item in page["items"]], page["next_cursor"]) == (["a", "b"], "b")
    page = await kit.query("tally", "list", limit=2, cursor="b")
    assert ([item["id"] for item in page["items"]], page["next_cursor"]) == (["c"], None)


async def test_the_first_query_of_an_object_only_reads_it_and_the_second_keeps_it_in_memory() -> None:
    store = MemoryStore()
    async with ObjectKit(Tally, store=store) as kit:
        await kit.call("tally", "a", "add", by=3)
    async with ObjectKit(Tally, store=store) as kit:
        epoch = store.documents["tally"]["a"]["epoch"]
        assert await kit.call("tally", "a", "value") == 3
        assert store.documents["tally"]["a"]["epoch"] == epoch
        assert await kit.call("tally", "a", "value") == 3
        assert store.documents["tally"]["a"]["epoch"] == epoch + 1
        store.down = True
        assert await kit.call("tally", "a", "value") == 3
