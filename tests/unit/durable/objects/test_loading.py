"""Loading of stored objects by the fleet's owner, as `aidevos restore` and `aidevos objects import` do it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from aidevos import Alarm, BaseDurableObject, Failure, authenticated, command, upcast
from aidevos.contracts.objects import TRANSFER
from aidevos.security.permissions import OWNER, Principal
from aidevos.testing import ObjectKit

OF_OWNER = Principal(OWNER, roles=("service",))
MADE = "2020-01-02T03:04:05Z"


class NoteState(msgspec.Struct):
    text: str = ""
    rings: int = 0


class Note(BaseDurableObject[NoteState], type="note", schema_version=2):
    @upcast(from_=1)
    @staticmethod
    def _from_1(state: dict[str, Any]) -> dict[str, Any]:
        return {"text": state["title"].upper()}

    @command(allow=authenticated())
    async def append(self, text: str) -> str:
        self.state.text += text
        return self.state.text

    @command(allow=authenticated())
    async def remind(self, in_: float) -> None:
        self.alarms.set("reminder", in_=in_)

    async def on_alarm(self, alarm: Alarm) -> None:
        self.state.rings += 1


class Sealed(BaseDurableObject[NoteState], type="sealed", management="read_only"):
    pass


async def load(kit: ObjectKit, id: str = "n", caller: Principal = OF_OWNER, **args: Any) -> Any:
    return await kit.call("note", id, "_load", **args, caller=caller)


async def read(kit: ObjectKit, id: str = "n") -> Any:
    return await kit.call("note", id, "_read")


async def failure(kit: ObjectKit, method: str = "_load", caller: Principal = OF_OWNER, **args: Any) -> str:
    with pytest.raises(Failure) as raised:
        await kit.call("note", "n", method, **args, caller=caller)
    return raised.value.code


async def test_a_loaded_object_is_what_was_stored() -> None:
    async with ObjectKit(Note) as kit:
        assert await load(kit, state={"text": "tea"}, schema=2, created_at=MADE) == "created"

        assert (await read(kit))["created_at"].startswith("2020-01-02T03:04:05")
        assert await kit.call("note", "n", "append", text="!") == "tea!"


async def test_an_older_state_is_upcast() -> None:
    async with ObjectKit(Note) as kit:
        await load(kit, state={"title": "tea"}, schema=1)

        assert await kit.call("note", "n", "append", text="!") == "TEA!"


async def test_a_replaced_object_goes_on_with_its_version_and_outcomes() -> None:
    async with ObjectKit(Note) as kit:
        once = {"headers": {"Request-Id": "once"}}
        await kit.call("note", "n", "append", text="a", **once)
        before = await read(kit)

        assert await load(kit, state={"text": "b"}, schema=2, on_conflict="replace") == "replaced"

        assert (await read(kit))["version"] == before["version"] + 1
        assert (await read(kit))["created_at"] == before["created_at"]
        assert await kit.call("note", "n", "append", text="a", **once) == "a"
        assert await kit.call("note", "n", "append", text="c") == "bc"


async def test_an_existing_object_is_kept_unless_it_may_be_replaced() -> None:
    async with ObjectKit(Note) as kit:
        await kit.call("note", "n", "append", text="mine")

        assert await failure(kit, state={"text": "b"}, schema=2) == "exists"
        assert await load(kit, state={"text": "b"}, schema=2, on_conflict="skip") == "skipped"
        assert await kit.call("note", "n", "append", text="") == "mine"


async def test_a_deleted_object_comes_back() -> None:
    async with ObjectKit(Note) as kit:
        await kit.call("note", "n", "append", text="a")
        await kit.call("note", "n", "_delete")

        assert await load(kit, state={"text": "b"}, schema=2) == "created"
        assert await kit.call("note", "n", "append", text="") == "b"


async def test_alarms_are_loaded_with_their_object() -> None:
    async with ObjectKit(Note) as kit:
        await kit.call("note", "n", "remind", in_=60)
        stored = (await kit.store.read("note", ["n"]))["n"].alarms

        await load(kit, "other", state={"text": "x"}, schema=2, alarms=stored)
        await load(kit, state={"text": "x"}, schema=2, alarms={}, on_conflict="replace")
        await kit.advance(61)

        states = await kit.store.read("note", ["n", "other"])
        assert {id: found.state["rings"] for id, found in states.items() if found.state} == {"n": 0, "other": 1}


@pytest.mark.parametrize("method", ["_load", "_check"])
@pytest.mark.parametrize(("state", "schema"), [({"text": 7}, 2), ({"text": "x"}, 1), ({"text": "x"}, 3)])
async def test_a_state_that_the_type_cannot_read_is_refused(method: str, state: dict[str, Any], schema: int) -> None:
    async with ObjectKit(Note) as kit:
        assert await failure(kit, method, state=state, schema=schema) == "invalid"
        assert await kit.store.read("note", ["n"]) == {} or not (await kit.store.read("note", ["n"]))["n"].exists


async def test_a_check_changes_nothing() -> None:
    async with ObjectKit(Note) as kit:
        assert await kit.call("note", "n", "_check", state={"text": "x"}, schema=2, caller=OF_OWNER) == "created"

        assert await kit.store.read("note", ["n"]) == {}


ADA = Principal("ada", roles=("admin",), permissions=frozenset("*"))
MOVER = Principal("bob", permissions=frozenset({TRANSFER}))
MANAGER = Principal("eve", permissions=frozenset({"objects:manage", "objects:request", "projects:manage"}))


@pytest.mark.parametrize("method", ["_load", "_check"])
async def test_only_those_with_the_permission_load_and_of_types_that_manage_themselves_the_owner_alone(
    method: str,
) -> None:
    async with ObjectKit(Note, Sealed) as kit:
        for caller in (MANAGER, Principal("service:objects", roles=("service",))):
            assert await failure(kit, method, caller, state={"text": "x"}, schema=2) == "forbidden"
        for id, mover in enumerate((ADA, MOVER)):
            assert await kit.call("note", f"{id}", method, state={"text": "x"}, schema=2, caller=mover) == "created"
            with pytest.raises(Failure, match="for the owner of the fleet only"):
                await kit.call("sealed", f"{id}", method, state={}, caller=mover)
        assert await kit.call("sealed", "o", method, state={}, caller=OF_OWNER) == "created"


@pytest.mark.parametrize("method", ["_load", "_check"])
async def test_objects_of_projects_are_loaded_by_those_who_manage_projects(method: str) -> None:
    bound = Principal("ada", permissions=frozenset("*"), key="k", project="p")
    async with ObjectKit(Note) as kit:
        assert await load(kit, "there", state={"text": "x"}, schema=2, project="p") == "created"
        for id, caller in (("new", MOVER), ("there", MOVER), ("new", bound)):
            with pytest.raises(Failure):
                await kit.call("note", id, method, state={"text": "x"}, schema=2, project="p", caller=caller)
        made = {"state": {"text": "x"}, "schema": 2, "project": "p"}
        assert await kit.call("note", "new", method, **made, caller=ADA) == "created"
