"""A turn that takes too long is stopped and undone. Its caller learns it, and so does whoever repeats the request."""

from __future__ import annotations

import asyncio
import logging

import msgspec
import pytest

from aidevos import Alarm, BaseDurableObject, Event, Failure, authenticated, command, query
from aidevos.contracts import subjects
from aidevos.durable.turns import execution
from aidevos.durable.turns.environment import Limits
from aidevos.durable.turns.headers import Reply
from aidevos.testing import ADMIN, ObjectKit
from tests.support.kits import chosen, failure, quiet, until

SHORT = 0.02
LONG = {"Deadline": "60000"}


class Napped(Event):
    naps: int


class SlothState(msgspec.Struct):
    naps: int = 0


class Sloth(BaseDurableObject[SlothState], type="sloth", management="raw"):
    """It sleeps until `alarm_clock` rings, and some of its naps can't be interrupted."""

    alarm_clock: asyncio.Event

    @command(allow=authenticated())
    async def nap(self) -> int:
        self._begin()
        await Sloth.alarm_clock.wait()
        return self.state.naps

    @command(allow=authenticated(), turn_deadline=SHORT)
    async def doze(self) -> int:
        return await self.nap()

    @command(allow=authenticated(), turn_deadline=3600)
    async def hibernate(self) -> int:
        return await self.nap()

    @query(allow=authenticated(), turn_deadline=SHORT)
    async def dream(self) -> int:
        await Sloth.alarm_clock.wait()
        return self.state.naps

    @command(allow=authenticated(), turn_deadline=SHORT)
    async def mumble(self) -> int:
        try:
            return await self.nap()
        except asyncio.CancelledError:
            return self.state.naps

    @command(allow=authenticated(), turn_deadline=SHORT)
    async def grumble(self) -> int:
        try:
            return await self.nap()
        except asyncio.CancelledError:
            raise ValueError("awake") from None

    @command(allow=authenticated(), turn_deadline=SHORT)
    async def snore(self) -> int:
        self._begin()
        while not Sloth.alarm_clock.is_set():
            try:
                await Sloth.alarm_clock.wait()
            except asyncio.CancelledError:
                continue
        self.state.naps = 1000
        return self.state.naps

    @command(allow=authenticated(), confidential=True, turn_deadline=SHORT)
    async def whisper(self) -> int:
        return await self.nap()

    @command(allow=authenticated())
    async def set_alarm(self, takes: float) -> None:
        self.alarms.set("nap", in_=1, payload=takes)

    async def on_alarm(self, alarm: Alarm) -> None:
        await asyncio.sleep(alarm.payload)
        self._begin()

    @query(allow=authenticated())
    async def naps(self) -> int:
        return self.state.naps

    def _begin(self) -> None:
        self.state.naps += 1
        self.emit(Napped(self.state.naps))


@pytest.fixture(autouse=True)
def asleep() -> None:
    Sloth.alarm_clock = asyncio.Event()


async def test_a_turn_past_its_limit_is_undone_and_its_caller_gets_a_timeout(caplog: pytest.LogCaptureFixture) -> None:
    async with ObjectKit(Sloth, limits=Limits(turn_deadline=SHORT)) as kit:
        with caplog.at_level(logging.ERROR):
            refused = await failure(kit.call("sloth", "s", "nap", headers=LONG))
        assert (refused.code, refused.status) == ("turn-timeout", 504)
        assert "0.02 seconds" in refused.detail
        assert "sloth:s.nap" in caplog.text
        await kit.settle()
        assert (await kit.call("sloth", "s", "naps"), kit.bus.events) == (0, [])


@pytest.mark.parametrize("method", ["doze", "whisper"])
async def test_a_repeat_gets_the_same_timeout(method: str) -> None:
    async with ObjectKit(Sloth) as kit:
        first = await failure(kit.call("sloth", "s", method, headers=chosen("once", **LONG)))
        Sloth.alarm_clock.set()
        second = await failure(kit.call("sloth", "s", method, headers=chosen("once", **LONG)))
        assert (first.code, second.code, second.detail) == ("turn-timeout", "turn-timeout", first.detail)
        assert await kit.call("sloth", "s", method, headers=chosen("twice", **LONG)) == 1


async def test_a_repeat_gets_the_same_timeout_from_the_next_process() -> None:
    async with ObjectKit(Sloth) as kit:
        await failure(kit.call("sloth", "s", "doze", headers=chosen("once", **LONG)))
        Sloth.alarm_clock.set()
        async with ObjectKit(Sloth, store=kit.store) as other:
            refused = await failure(other.call("sloth", "s", "doze", headers=chosen("once", **LONG)))
            assert refused.code == "turn-timeout"


async def test_a_method_has_a_limit_of_its_own() -> None:
    async with ObjectKit(Sloth, limits=Limits(turn_deadline=SHORT)) as kit:
        call = asyncio.ensure_future(kit.call("sloth", "s", "hibernate", headers=LONG))
        await failure(kit.call("sloth", "other", "nap", headers=LONG))
        assert not call.done()
        Sloth.alarm_clock.set()
        assert await call == 1


async def test_a_query_has_a_limit_too() -> None:
    async with ObjectKit(Sloth) as kit:
        assert (await failure(kit.call("sloth", "s", "dream", headers=LONG))).code == "turn-timeout"


async def test_a_caller_who_waits_less_has_its_own_deadline() -> None:
    async with ObjectKit(Sloth) as kit:
        refused = await failure(kit.call("sloth", "s", "nap", headers=chosen("once", Deadline="10")))
        assert refused.code == "deadline-exceeded"
        Sloth.alarm_clock.set()
        assert await kit.call("sloth", "s", "nap", headers=chosen("once")) == 1


@pytest.mark.parametrize("method", ["mumble", "grumble"])
async def test_a_method_that_catches_its_cancellation_is_undone_all_the_same(method: str) -> None:
    async with ObjectKit(Sloth) as kit:
        assert (await failure(kit.call("sloth", "s", method, headers=LONG))).code == "turn-timeout"
        assert await kit.call("sloth", "s", "naps") == 0


async def test_a_method_that_goes_on_after_its_cancellation_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(execution, "STOPS_WITHIN", SHORT)
    async with ObjectKit(Sloth) as kit:
        call = asyncio.ensure_future(kit.call("sloth", "s", "snore", headers=LONG))
        await asyncio.sleep(0)
        waiting = asyncio.ensure_future(kit.call("sloth", "s", "naps", headers=LONG))
        assert (await failure(call)).code == "turn-timeout"
        assert await waiting == 0
        assert "sloth:s.snore" in caplog.text
        Sloth.alarm_clock.set()
        assert await kit.call("sloth", "s", "nap", headers=LONG) == 1
        await kit.settle()
        assert len(kit.bus.events) == 1


async def test_a_request_is_answered_once_even_if_its_method_ends_after_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "STOPS_WITHIN", SHORT)
    answers: list[Reply | None] = []
    async with ObjectKit(Sloth) as kit:
        subject = f"dop.{subjects.partition('sloth', 's')}.sloth.s.snore"
        kit.router.dispatch(subject, b"{}", LONG, ADMIN, answers.append)
        await until(lambda: answers)
        Sloth.alarm_clock.set()
        await quiet()

    assert [Failure.decode(answer.payload).code for answer in answers if answer] == ["turn-timeout"]


async def test_an_alarm_has_a_limit_of_its_own() -> None:
    async with ObjectKit(Sloth, limits=Limits(turn_deadline=SHORT)) as kit:
        await kit.call("sloth", "s", "set_alarm", takes=5 * SHORT)
        await kit.advance(1)
        assert await kit.call("sloth", "s", "naps") == 1


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf"), "1"])
def test_a_limit_that_is_none_is_refused(limit: float) -> None:
    async def rest(self: Sloth) -> None: ...

    with pytest.raises(TypeError, match=r"rest.*turn_deadline"):
        command(allow=authenticated(), turn_deadline=limit)(rest)
