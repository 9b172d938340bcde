"""What the log lines of a turn name besides their messages."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import msgspec

from aidevos import BaseDurableObject, authenticated, command
from aidevos.contracts.envelope import HTTP_REQUEST_ID, REQUEST_ID
from aidevos.durable.turns.log_context import describe_turn
from aidevos.testing import ObjectKit


class Nothing(msgspec.Struct):
    pass


class Speaker(BaseDurableObject[Nothing], type="speaker"):
    lines: ClassVar[list[dict[str, str]]] = []

    @command(allow=authenticated())
    async def speak(self) -> None:
        self.lines.append(describe_turn())

    @command(allow=authenticated())
    async def pass_on(self, id: str) -> None:
        await self.call("speaker", id, "speak")
        await asyncio.gather(self.speak())


async def spoken(method: str, headers: dict[str, str], **args: Any) -> list[dict[str, str]]:
    Speaker.lines.clear()
    async with ObjectKit(Speaker) as kit:
        await kit.call("speaker", "a", method, **args, headers=headers)
    return Speaker.lines


async def test_a_turn_names_its_object_and_method_and_the_request_of_its_caller() -> None:
    described = {"type": "speaker", "object": "speaker:a", "method": "speak"}

    assert describe_turn() == {}
    assert await spoken("speak", {}) == [described]
    assert await spoken("speak", {REQUEST_ID: "r-1"}) == [{"request_id": "r-1"} | described]
    assert await spoken("speak", {REQUEST_ID: "0.1", HTTP_REQUEST_ID: "h-1"}) == [{"request_id": "h-1"} | described]
    assert await spoken("speak", {HTTP_REQUEST_ID: "x" * 1000}) == [{"request_id": "x" * 128} | described]


async def test_calls_of_a_turn_and_work_that_it_starts_belong_to_the_same_request() -> None:
    other, own = await spoken("pass_on", {HTTP_REQUEST_ID: "h-1"}, id="b")

    assert other == {"request_id": "h-1", "type": "speaker", "object": "speaker:b", "method": "speak"}
    assert own == {"request_id": "h-1", "type": "speaker", "object": "speaker:a", "method": "pass_on"}
