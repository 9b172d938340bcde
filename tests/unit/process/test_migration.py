"""Stored states are tried against today's types, and rewritten in turns of their objects."""

from __future__ import annotations

from typing import Any

import msgspec

from aidevos import BaseDurableObject, Principal, authenticated, command, upcast
from aidevos.contracts.objects import TRANSFER
from aidevos.durable.objects.registry import DurableObjectRegistry
from aidevos.process.migration import Findings, examine
from aidevos.security.permissions import OWNER
from aidevos.testing import ObjectKit
from aidevos.testing.kit import ADMIN
from tests.support.kits import failure

CHIEF = Principal(OWNER, ("service",))
MOVER = Principal("bob", permissions=frozenset({TRANSFER}))
MANAGER = Principal("eve", permissions=frozenset({"objects:manage"}))


class FormerState(msgspec.Struct):
    name: str = ""


class Former(BaseDurableObject[FormerState], type="label", management="raw"):
    expires_after = 3600.0

    @command(allow=authenticated())
    async def rename(self, name: str) -> None:
        self.state.name = name


class Part(msgspec.Struct):
    size: int = 0


class LabelState(msgspec.Struct):
    title: str = ""
    parts: list[Part] = []


class Label(BaseDurableObject[LabelState], type="label", schema_version=3, management="raw", history=10):
    expires_after = 3600.0

    @upcast(from_=1)
    @staticmethod
    def _rename(state: dict[str, Any]) -> dict[str, Any]:
        return {"title": state["name"]}

    @upcast(from_=2)
    @staticmethod
    def _keep(state: dict[str, Any]) -> dict[str, Any]:
        return state


def test_every_state_is_counted_and_what_can_t_be_read_is_described() -> None:
    type = DurableObjectRegistry([Label]).types["label"]
    states: list[tuple[str, dict[str, Any], int]] = [
        ("current", {"title": "x", "parts": []}, 3),
        ("older", {"name": "x"}, 1),
        ("lacking", {"nam": "x"}, 1),
        ("wrong", {"title": "x", "parts": [{"size": "big"}]}, 2),
        ("newer", {"anything": 1}, 4),
    ]
    found = Findings("label", 3)
    for id, state, schema in states:
        examine(found, type, id, state, schema)

    assert (found.objects, found.older, found.newer, found.failing) == (5, 3, 1, 2)
    lacking, wrong, newer = found.problems
    assert (lacking.id, lacking.schema, lacking.detail) == ("lacking", 1, "an upcast raised KeyError('name')")
    assert (wrong.id, wrong.field, wrong.detail) == ("wrong", "parts[0].size", "Expected `int`, got `str`")
    assert (newer.id, newer.schema) == ("newer", 4)


async def test_an_object_rewrites_its_state_in_today_s_schema_and_changes_nothing_else() -> None:
    async with ObjectKit(Former) as former:
        await former.call("label", "a", "rename", name="x")
        before = dict(former.store.documents["label"]["a"])
    former.clock.advance(60.0)
    async with ObjectKit(Label, store=former.store, clock=former.clock) as kit:
        assert await kit.call("label", "a", "_migrate", caller=CHIEF) == 3
        assert (await failure(kit.call("label", "b", "_migrate", caller=CHIEF))).code == "not-found"
        after = kit.store.documents["label"]["a"]
        assert (after["schema"], after["state"]) == (3, {"title": "x", "parts": []})
        for field in ("version", "updated_at", "made_at", "alarms", "alarm_at"):
            assert after[field] == before[field], field
        assert [each["version"] for each in (await kit.call("label", "a", "_versions"))["items"]] == [1]


async def test_only_those_with_the_permission_rewrite() -> None:
    async with ObjectKit(Label) as kit:
        for caller in (MANAGER, Principal("service:objects", ("service",))):
            assert (await failure(kit.call("label", "a", "_migrate", caller=caller))).code == "forbidden"
        for caller in (ADMIN, MOVER):
            assert (await failure(kit.call("label", "a", "_migrate", caller=caller))).code == "not-found"
