"""Tells from outside, when something about them goes wrong: none is lost, nor those behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from aidevos import BaseDurableObject, authenticated, command, query
from aidevos.contracts.rate_limits import DEFAULT
from aidevos.durable.limiter import Limited, Verdict
from aidevos.durable.tells import Tells
from aidevos.security.gcra import Policy
from aidevos.security.permissions import Principal
from aidevos.testing import ObjectKit
from tests.kits import START, until

ADA = Principal("ada", ("user",), frozenset(), START + 3600)
NO_MORE = Limited(Verdict(DEFAULT, Policy(1, 1.0), 0, 0.05))


class SlateState(msgspec.Struct):
    lines: list[int] = []


class Slate(BaseDurableObject[SlateState], type="slate"):
    @command(allow=authenticated())
    async def write(self, line: int) -> None:
        self.state.lines.append(line)

    @query(allow=authenticated())
    async def lines(self) -> list[int]:
        return self.state.lines


class World:
    """Stands for what is around the tells; `troubles` of admission and limiter come first, one after another."""

    def __init__(self, kit: ObjectKit) -> None:
        self.kit = kit
        self.troubles: list[Exception] = []
        self.limits: list[Exception] = []
        self.done: list[str] = []
        around: Any = self
        self.tells = Tells(around, kit.router, around, around, kit.clock, lambda: True)

    async def admit_stored(self, authorization: str | None, at: float) -> Principal:
        if self.troubles:
            raise self.troubles.pop(0)
        return ADA

    def spend(self, caller: Principal, address: str, group: str) -> None:
        assert (caller, address, group) == (ADA, "", "slate")
        if self.limits:
            raise self.limits.pop(0)

    async def request(self, subject: str, payload: bytes, **options: Any) -> None:
        self.done.append(subject)

    def take(self, line: int) -> None:
        """One is given by the stream."""
        about = SimpleNamespace(
            sequence=SimpleNamespace(stream=line), timestamp=SimpleNamespace(timestamp=lambda: START)
        )
        message: Any = SimpleNamespace(
            subject="tell.slate.a.write",
            data=msgspec.json.encode({"line": line}),
            headers={"Authorization": "Bearer x"},
            reply=f"ack.{line}",
            metadata=about,
        )
        self.tells._take(message)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with ObjectKit(Slate) as kit:
        world = World(kit)
        yield world
        await world.tells.close()


@pytest.mark.parametrize("trouble", [RuntimeError("a bug"), ValueError("another"), TimeoutError()])
async def test_what_nobody_has_thought_of_holds_up_a_tell_and_loses_neither_it_nor_those_behind(
    world: World, trouble: Exception
) -> None:
    world.troubles = [trouble]
    for line in range(3):
        world.take(line)

    await until(lambda: len(world.done) == 3)

    assert await world.kit.call("slate", "a", "lines") == [0, 1, 2]
    assert world.done == ["ack.0", "ack.1", "ack.2"]


async def test_a_tell_past_its_callers_rate_limit_waits_for_it(world: World) -> None:
    world.limits = [NO_MORE, NO_MORE]
    world.take(1)
    await until(lambda: len(world.limits) == 1)
    assert await world.kit.call("slate", "a", "lines") == []

    await until(lambda: world.done)

    assert await world.kit.call("slate", "a", "lines") == [1]
    assert world.kit.letters == {}
