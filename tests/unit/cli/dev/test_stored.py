"""Stored states against the code that was just loaded."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from aidevos import BaseDurableObject, upcast
from aidevos.cli.dev.stored import describe_unfit
from aidevos.durable.objects.registry import ObjectType
from aidevos.durable.store import codec


class Line(msgspec.Struct):
    count: int = 0


class BasketState(msgspec.Struct):
    lines: dict[str, Line] = {}
    note: str = ""


class Basket(BaseDurableObject[BasketState], type="basket"):
    pass


class LaterBasket(BaseDurableObject[BasketState], type="basket", schema_version=2):
    @upcast(from_=1)
    @staticmethod
    def to_2(state: dict[str, Any]) -> dict[str, Any]:
        return {"lines": state["rows"]}


def stored(state: dict[str, Any], id: str = "ada", schema: int = 1) -> dict[str, Any]:
    return {"_id": id, "state": codec.Encoded(codec.encode(state)), "schema": schema}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"lines": {"tea": {"count": 1}}, "note": "x"}, []),
        ({}, []),
        ({"lines": [], "note": "x"}, ["1 of 2 stored objects don't fit BasketState", "basket:bob (lines: "]),
        ({"lines": {"tea": {"count": "one"}}}, ["(lines[...].count: ", "schema_version=2", "@upcast(from_=1)"]),
        ({"remark": "x"}, ["basket:bob has the field remark, which BasketState lacks", "schema_version=2"]),
        ({"lines": {"tea": {"number": 1}}}, ["has the field lines.tea.number, which"]),
    ],
)
def test_a_changed_state_without_an_upcast_is_told(state: dict[str, Any], words: list[str]) -> None:
    told = describe_unfit(ObjectType(Basket), [stored({}), stored(state, "bob")])

    assert all(word in told for word in words), told
    assert bool(told) == bool(words)


def test_what_an_upcast_handles_is_not_told() -> None:
    older, newer = stored({"rows": {}}), stored({"note": "x"}, schema=2)

    assert describe_unfit(ObjectType(LaterBasket), [older, newer]) == ""
    assert "an upcast raised" in describe_unfit(ObjectType(LaterBasket), [stored({})])


def test_a_state_of_newer_code_is_told() -> None:
    assert "schema version 3, newer than" in describe_unfit(ObjectType(LaterBasket), [stored({}, schema=3)])
