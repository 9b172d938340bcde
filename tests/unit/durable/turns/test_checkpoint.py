"""A turn that commits in the middle: its visibility, and the state after a failure or a crash."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from aidevos import BaseDurableObject, Failure, anyone, command, query
from aidevos.testing import ObjectKit
from tests.support.kits import chosen, crash, failure, until


class StepsState(msgspec.Struct):
    steps: list[str] = []


class Steps(BaseDurableObject[StepsState], type="steps"):
    gate: asyncio.Event

    @command(allow=anyone())
    async def go(self, fail: bool = False) -> int:
        self.state.steps.append("first")
        self.tell("steps", "told", "note")
        await self.checkpoint()
        self.state.steps.append("second")
        await self.gate.wait()
        if fail:
            raise Failure("conflict", "it was to fail")
        return self.version

    @command(allow=anyone())
    async def note(self) -> None:
        self.state.steps.append("told")

    @query(allow=anyone())
    async def steps(self) -> list[str]:
        return self.state.steps


@pytest.fixture
def gate() -> asyncio.Event:
    Steps.gate = asyncio.Event()
    return Steps.gate


async def test_what_stands_at_a_checkpoint_is_committed_and_sent_before_the_turn_ends(gate: asyncio.Event) -> None:
    async with ObjectKit(Steps) as kit:
        going = asyncio.create_task(kit.call("steps", "one", "go"))
        await until(lambda: "told" in kit.store.documents["steps"])
        committed = kit.store.documents["steps"]["one"]["state"]["steps"]
        gate.set()

        assert committed == ["first"]
        assert await going == 1
        assert await kit.call("steps", "one", "steps") == ["first", "second"]
        await kit.settle()
        assert await kit.call("steps", "told", "steps") == ["told"]


async def test_a_turn_that_fails_goes_back_to_its_checkpoint(gate: asyncio.Event) -> None:
    gate.set()
    async with ObjectKit(Steps) as kit:
        assert (await failure(kit.call("steps", "one", "go", fail=True))).code == "conflict"
        assert await kit.call("steps", "one", "steps") == ["first"]


async def test_a_repeat_after_a_crash_runs_again_from_the_checkpoint(gate: asyncio.Event) -> None:
    async with ObjectKit(Steps) as kit:
        going = asyncio.create_task(kit.call("steps", "one", "go", headers=chosen("r")))
        await until(lambda: "told" in kit.store.documents["steps"])
        await crash(kit)
        going.cancel()
        gate.set()
        async with ObjectKit(Steps, store=kit.store) as successor:
            assert await successor.call("steps", "one", "steps") == ["first"]
            await successor.call("steps", "one", "go", headers=chosen("r"))
            repeated = await successor.call("steps", "one", "go", headers=chosen("r"))

            assert repeated == 2
            assert await successor.call("steps", "one", "steps") == ["first", "first", "second"]
