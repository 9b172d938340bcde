"""The state of an object changes only in its turns, and code that outlives a turn is told so by name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from aidevos import BaseDurableObject, authenticated, command, query
from aidevos.durable.objects.defect import Defect
from aidevos.testing import ObjectKit


class PotState(msgspec.Struct):
    value: int = 0
    marks: list[str] = []


class Pot(BaseDurableObject[PotState], type="pot"):
    """An object whose methods leave something behind that uses the state later."""

    go: asyncio.Event
    later: list[asyncio.Task[Any]]

    def _later(self, use: Callable[[], Any]) -> None:
        async def wait() -> None:
            await Pot.go.wait()
            use()

        Pot.later.append(asyncio.create_task(wait()))

    def _add(self) -> None:
        self.state.value += 100

    def _replace(self) -> None:
        self.state = PotState(100)

    async def on_activate(self) -> None:
        assert self.state.marks is not None

    async def on_hibernate(self) -> None:
        assert self.state.marks is not None
        self._later(self._add)

    @command(allow=authenticated())
    async def add(self) -> int:
        self.state.value += 1
        return self.state.value

    @command(allow=authenticated())
    async def add_later(self) -> None:
        self._later(self._add)

    @command(allow=authenticated())
    async def add_later_and_wait(self) -> None:
        self._later(self._add)
        await asyncio.Event().wait()

    @command(allow=authenticated())
    async def replace_later(self) -> None:
        self._later(self._replace)

    @query(allow=authenticated())
    async def read_later(self) -> None:
        self._later(lambda: self.state)

    @command(allow=authenticated())
    async def keep_a_reference(self) -> None:
        state = self.state
        self._later(lambda: state.marks.append("late"))

    @command(allow=authenticated())
    async def add_in_tasks(self) -> int:
        async def add() -> None:
            await asyncio.sleep(0)
            self._add()

        await asyncio.gather(add(), asyncio.create_task(add()), asyncio.to_thread(self._add))
        return self.state.value

    @query(allow=authenticated())
    async def value(self) -> int:
        return self.state.value

    @command(allow=authenticated())
    async def wait(self) -> int:
        await Pot.go.wait()
        await asyncio.gather(*Pot.later, return_exceptions=True)
        return self.state.value


@pytest.fixture
async def lax() -> AsyncIterator[ObjectKit]:
    Pot.go, Pot.later = asyncio.Event(), []
    async with ObjectKit(Pot, strict=False) as kit:
        yield kit


async def outcome() -> Any:
    """Let what was left behind go on, and return what the last of it raises."""
    Pot.go.set()
    return (await asyncio.gather(*Pot.later, return_exceptions=True))[-1]


@pytest.mark.parametrize("method", ["add_later", "replace_later", "read_later"])
async def test_code_that_outlives_its_turn_cannot_use_the_state(
    lax: ObjectKit, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    await lax.call("pot", "a", "add")
    await lax.call("pot", "a", method)

    defect = await outcome()

    assert isinstance(defect, Defect)
    assert str(defect) == f"the state of pot:a was used by code of pot.{method} that goes on after its turn"
    assert str(defect) in caplog.text
    assert [await lax.call("pot", "a", call) for call in ("value", "add")] == [1, 2]


async def test_nor_can_it_while_another_turn_of_the_object_runs(lax: ObjectKit) -> None:
    await lax.call("pot", "a", "add_later")
    waiting = asyncio.create_task(lax.call("pot", "a", "wait"))

    assert isinstance(await outcome(), Defect)
    assert await waiting == 0


async def test_nor_can_what_a_cancelled_turn_leaves_behind(lax: ObjectKit) -> None:
    call = asyncio.create_task(lax.call("pot", "a", "add_later_and_wait"))
    async with asyncio.timeout(5):
        while not Pot.later:  # noqa: ASYNC110
            await asyncio.sleep(0)
    lax.catalogue.drop_all()
    await asyncio.gather(call, return_exceptions=True)

    assert "pot.add_later_and_wait" in str(await outcome())


async def test_what_a_method_awaits_may_use_the_state(lax: ObjectKit) -> None:
    assert await lax.call("pot", "a", "add_in_tasks") == 300


async def test_a_hook_may_use_the_state_but_nothing_that_it_leaves_behind(lax: ObjectKit) -> None:
    await lax.call("pot", "a", "add")
    lax.lifecycle._hibernate(lax.catalogue.get("pot", "a"))
    async with asyncio.timeout(5):
        while not Pot.later:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert "a lifecycle hook" in str(await outcome())


async def test_an_object_that_a_test_constructs_has_no_turns() -> None:
    pot = Pot("a", PotState(3))
    assert await pot.add() == 4


async def test_a_test_with_the_kit_fails() -> None:
    Pot.go, Pot.later = asyncio.Event(), []
    async with ObjectKit(Pot) as kit:
        await kit.call("pot", "a", "add_later")
        await outcome()
        with pytest.raises(AssertionError, match=r"pot\.add_later that goes on after its turn"):
            await kit.call("pot", "a", "value")


async def test_the_kit_also_finds_a_change_through_a_reference_and_undoes_it() -> None:
    Pot.go, Pot.later = asyncio.Event(), []
    async with ObjectKit(Pot) as kit:
        await kit.call("pot", "a", "keep_a_reference")
        await outcome()
        sentence = r"the state of pot:a was changed outside its turn, after pot\.keep_a_reference had ended"
        with pytest.raises(AssertionError, match=sentence):
            await kit.call("pot", "a", "add")
        assert kit.store.documents["pot"]["a"]["state"] == {"value": 1, "marks": []}
