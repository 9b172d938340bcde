"""Exports of stored objects, page by page: what they show, to whom, and of which moment."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from aidevos import Alarm, BaseDurableObject, authenticated, command
from aidevos.contracts.objects import TRANSFER, StoredObject
from aidevos.durable.turns.environment import Limits
from aidevos.security.permissions import OWNER, Principal
from aidevos.testing import ADMIN, ObjectKit
from tests.support.kits import failure

OF_OWNER = Principal(OWNER, roles=("service",))
MOVER = Principal("bob", permissions=frozenset({TRANSFER}))
MANAGER = Principal("eve", permissions=frozenset({"objects:manage"}))


class NoteState(msgspec.Struct):
    text: str = ""
    size: int = 0
    parts: dict[str, Any] = {}


class Note(BaseDurableObject[NoteState], type="note"):
    @command(allow=authenticated())
    async def write(self, text: str, size: int = 0) -> None:
        self.state.text, self.state.size = text, size
        self.state.parts = {"owner": {"name": text}}
        self.alarms.set("tea", in_=60)

    async def on_alarm(self, alarm: Alarm) -> None: ...


class Sealed(BaseDurableObject[NoteState], type="sealed", management="read_only"):
    pass


async def write(kit: ObjectKit, *ids: str) -> None:
    for size, id in enumerate(ids):
        await kit.call("note", id, "write", text=id, size=size)


async def export(kit: ObjectKit, caller: Principal = MOVER, type: str = "note", **args: Any) -> Any:
    return await kit.query(type, "_export", caller=caller, **args)


async def ids(kit: ObjectKit, **args: Any) -> list[str]:
    return [each["id"] for each in (await export(kit, **args))["items"]]


async def test_an_exported_object_is_what_a_load_makes_again() -> None:
    async with ObjectKit(Note) as kit:
        await write(kit, "a")
        (line,) = (await export(kit))["items"]
        known = msgspec.convert(line, StoredObject)
        loaded = {"state": line["state"], "schema": line.get("schema", 1), "alarms": line["alarms"]}
        assert await kit.call("note", "b", "_load", **loaded, created_at=line["created_at"], caller=MOVER) == "created"

        (copy,) = (await export(kit, after="a"))["items"]

        assert known.object_id == "note:a"
        assert copy | {"id": "a", "updated_at": line["updated_at"]} == line


async def test_all_pages_show_the_moment_of_the_first_one() -> None:
    async with ObjectKit(Note, limits=Limits(answer=600)) as kit:
        await write(kit, *"abcd")
        first = await export(kit)
        assert 1 <= len(first["items"]) < 4
        await write(kit, *"edcb")

        found, after = first["items"], first["items"][-1]["id"]
        while page := (await export(kit, after=after, moment=first["moment"]))["items"]:
            found, after = found + page, page[-1]["id"]

        assert [(each["id"], each["state"]["text"], each["version"]) for each in found] == [
            (id, id, 1) for id in "abcd"
        ]


async def test_conditions_and_projects_choose_objects() -> None:
    async with ObjectKit(Note) as kit:
        await write(kit, *"abc")
        await kit.call("note", "p", "_load", state={"text": "p"}, project="p1", caller=OF_OWNER)

        assert await ids(kit, where={"size": {"gte": 1, "lt": 2}}) == ["b"]
        assert await ids(kit, where={"parts.owner.name": "c", "size": 2}) == ["c"]
        assert await ids(kit, caller=OF_OWNER) == ["a", "b", "c", "p"]
        assert await ids(kit, caller=OF_OWNER, project="p1") == ["p"]
        assert await ids(kit, caller=MOVER) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "where",
    [
        {"size": {"near": 1}},
        {"$where": 1},
        {"a..b": 1},
        {"size": {"gt": [1]}},
        {"size": 2**63},
        {"": 1},
        {".".join("a" * 99): 1},
    ],
)
async def test_a_condition_that_is_none_is_refused(where: dict[str, Any]) -> None:
    async with ObjectKit(Note) as kit:
        refused = await failure(export(kit, where=where))

        assert (refused.code, str(refused.field)[:10]) == ("invalid", "args.where")


async def test_states_are_for_those_with_the_permission_and_some_for_the_owner_alone() -> None:
    bound = Principal("ada", permissions=frozenset("*"), key="k", project="p")
    async with ObjectKit(Note, Sealed) as kit:
        for caller in (MANAGER, bound, Principal("service:objects", roles=("service",))):
            assert (await failure(export(kit, caller))).code == "forbidden"
        for caller in (ADMIN, MOVER):
            assert (await failure(export(kit, caller, "sealed"))).code == "forbidden"
            assert (await kit.query("sealed", "_older", schema=2, caller=caller))["ids"] == []
        assert (await export(kit, OF_OWNER, "sealed"))["items"] == []
        assert (await failure(kit.query("note", "_older", schema=2, caller=MANAGER))).code == "forbidden"


async def test_older_states_are_found_page_by_page() -> None:
    async with ObjectKit(Note) as kit:
        await write(kit, *"abcde")
        kit.store.documents["note"]["c"]["schema"] = 2

        first = await kit.query("note", "_older", schema=2, limit=3, caller=MOVER)
        rest = await kit.query("note", "_older", schema=2, limit=3, cursor=first["next_cursor"], caller=MOVER)

        assert first == {"ids": ["a", "b"], "examined": 3, "next_cursor": "c"}
        assert rest == {"ids": ["d", "e"], "examined": 2, "next_cursor": None}
