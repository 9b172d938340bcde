"""Confidential commands: applied once per process, with no secrets at rest."""

from __future__ import annotations

import msgspec

from aidevos import BaseDurableObject, Failure, anyone, command
from aidevos.testing import ObjectKit
from tests.support.kits import chosen, crash, failure


class SafeState(msgspec.Struct):
    turns: int = 0


class Safe(BaseDurableObject[SafeState], type="safe"):
    @command(allow=anyone(), confidential=True)
    async def exchange(self, secret: str) -> str:
        self.state.turns += 1
        return f"{secret}-{self.state.turns}"

    @command(allow=anyone(), confidential=True)
    async def refuse(self, secret: str) -> None:
        raise Failure("conflict", f"not {secret}")


async def test_a_repeat_gets_the_same_answer_and_changes_nothing() -> None:
    async with ObjectKit(Safe) as kit:
        answers = [await kit.call("safe", "s", "exchange", secret="xyzzy", headers=chosen("a")) for _ in range(3)]
        other = await failure(kit.call("safe", "s", "exchange", secret="other", headers=chosen("a")))

    assert answers == ["xyzzy-1"] * 3
    assert other.code == "request-id-reused"


async def test_neither_arguments_nor_outcome_are_stored() -> None:
    async with ObjectKit(Safe) as kit:
        await kit.call("safe", "s", "exchange", secret="xyzzy", headers=chosen("a"))
        await failure(kit.call("safe", "s", "refuse", secret="xyzzy", headers=chosen("b")))
        await kit.settle()
        stored = kit.store.documents["safe"]["s"]

    assert "xyzzy" not in repr(stored)
    assert not stored.get("replies")


async def test_after_a_crash_a_repeat_runs_again_under_the_same_id() -> None:
    async with ObjectKit(Safe) as kit:
        await kit.call("safe", "s", "exchange", secret="xyzzy", headers=chosen("a"))
        await crash(kit)
        async with ObjectKit(Safe, store=kit.store) as successor:
            again = await successor.call("safe", "s", "exchange", secret="xyzzy", headers=chosen("a"))

    assert again == "xyzzy-2"


async def test_only_the_latest_outcomes_stay_in_memory() -> None:
    async with ObjectKit(Safe) as kit:
        for number in range(65):
            await kit.call("safe", "s", "exchange", secret="x", headers=chosen(f"{number}"))

        assert await kit.call("safe", "s", "exchange", secret="x", headers=chosen("1")) == "x-2"
        assert await kit.call("safe", "s", "exchange", secret="x", headers=chosen("0")) == "x-66"
