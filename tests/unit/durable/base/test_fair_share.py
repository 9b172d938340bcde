"""Operations at once are bounded, and callers take turns."""

from __future__ import annotations

import asyncio
import math

import pytest

from aidevos.contracts.errors import Failure
from aidevos.durable.base.fair_share import FairShare, waits_until
from tests.support.kits import quiet


class Operations:
    """Operations that run until they are told to end. `begun` lists them in the order of their start."""

    def __init__(self, share: FairShare) -> None:
        self.share = share
        self.begun: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[str]] = {}

    def ask(self, caller: str, name: str, *, small: bool = False) -> None:
        self.ends[name] = asyncio.Event()
        operation = self.share.run(caller, lambda: self._operate(name), small=small)
        self.tasks[name] = asyncio.get_running_loop().create_task(operation)

    async def end(self, name: str) -> None:
        self.ends[name].set()
        assert await self.tasks[name] == name
        await quiet()

    async def _operate(self, name: str) -> str:
        self.begun.append(name)
        await self.ends[name].wait()
        return name


async def test_no_more_than_the_limit_run_at_once() -> None:
    operations = Operations(FairShare(3))
    for name in "abcd":
        operations.ask(name, name)
    await quiet()
    assert operations.begun == ["a", "b", "c"]
    await operations.end("b")
    assert operations.begun == ["a", "b", "c", "d"]


async def test_a_greedy_caller_leaves_room_for_another_one() -> None:
    operations = Operations(FairShare(3))
    for number in range(5):
        operations.ask("greedy", f"greedy {number}")
    await quiet()
    assert operations.begun == ["greedy 0", "greedy 1"]
    operations.ask("other", "other")
    await quiet()
    assert operations.begun[2:] == ["other"]


async def test_an_operation_takes_a_quarter_of_the_places_unless_it_is_small() -> None:
    operations = Operations(FairShare(8))
    for number in range(5):
        operations.ask("greedy", f"large {number}")
    operations.ask("greedy", "behind them", small=True)
    for name in ("a", "b", "c"):
        operations.ask(name, name, small=True)
    await quiet()
    assert operations.begun == ["large 0", "large 1", "large 2", "a", "b"]
    await operations.end("a")
    assert operations.begun[5:] == ["c"]
    await operations.end("large 0")
    assert operations.begun[6:] == ["large 3"]


async def test_a_large_operation_is_not_overtaken_for_ever() -> None:
    operations = Operations(FairShare(8))
    for number in range(7):
        operations.ask("others", f"small {number}", small=True)
    operations.ask("a", "large")
    operations.ask("b", "late", small=True)
    await quiet()
    assert "large" not in operations.begun
    await operations.end("small 0")
    assert operations.begun[7:] == ["large"]
    await operations.end("small 1")
    assert operations.begun[8:] == ["late"]


async def test_a_turn_that_has_come_is_passed_on_if_its_caller_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    operations = Operations(FairShare(2))
    for name in ("first", "second", "gone", "next"):
        operations.ask(name, name)
    await quiet()
    admit = operations.share._admit

    def admit_and_go() -> None:
        admit()
        operations.tasks["gone"].cancel()

    monkeypatch.setattr(operations.share, "_admit", admit_and_go)
    await operations.end("first")
    assert operations.begun == ["first", "second", "next"]


async def test_waiting_callers_take_turns() -> None:
    operations = Operations(FairShare(2))
    operations.ask("first", "first")
    operations.ask("second", "second")
    for caller in ("a", "b", "c"):
        for number in (1, 2):
            operations.ask(caller, f"{caller}{number}")
    await quiet()
    for name in ("first", "a1", "b1", "c1", "a2"):
        await operations.end(name)
    assert operations.begun == ["first", "second", "a1", "b1", "c1", "a2", "b2"]


async def test_a_cancelled_or_failed_operation_makes_room() -> None:
    share = FairShare(2)
    operations = Operations(share)
    for name in ("a", "b", "c", "d"):
        operations.ask(name, name)
    await quiet()
    operations.tasks["c"].cancel()
    operations.tasks["a"].cancel()
    await quiet()
    assert operations.begun == ["a", "b", "d"]

    async def fail() -> None:
        raise ValueError

    await operations.end("b")
    with pytest.raises(ValueError):
        await share.run("e", fail)
    operations.ask("f", "f")
    await quiet()
    assert operations.begun[-1] == "f"


async def test_nothing_begins_after_its_caller_has_stopped_waiting() -> None:
    operations = Operations(FairShare(2))
    operations.ask("first", "first")
    operations.ask("second", "second")
    waits_until.set(asyncio.get_running_loop().time() - 1)
    operations.ask("gone", "gone")
    waits_until.set(math.inf)
    operations.ask("other", "other")
    await quiet()
    await operations.end("first")
    assert operations.begun == ["first", "second", "other"]
    with pytest.raises(Failure, match="waiting for its turn"):
        await operations.tasks["gone"]
