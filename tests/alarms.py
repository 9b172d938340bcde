"""An object that is rung, and notes it: what the tests of alarms run."""

from __future__ import annotations

from typing import Any

import msgspec

from aidevos import Alarm, AlarmRetry, BaseDurableObject, Event, Failure, authenticated, command, query


class Rang(Event):
    name: str


class BellState(msgspec.Struct):
    """`rung` has what `on_alarm` was called with, and when."""

    rung: list[tuple[Alarm, float]] = []
    fails: int = 0
    follow: dict[str, Any] = {}


class Bell(BaseDurableObject[BellState], type="bell", management="raw"):
    """Notes each alarm in its state, emits and tells; the first `fails` of a payload `{"fails": …}` raise.
    `attempts` tells over all tests' objects what has run, also what was undone."""

    attempts: list[tuple[str, int, str]] = []  # noqa: RUF012

    async def on_alarm(self, alarm: Alarm) -> None:
        Bell.attempts.append((alarm.name, alarm.attempt, self.request_id))
        self.state.rung.append((alarm, self.now))
        self.emit(Rang(alarm.name))
        if isinstance(alarm.payload, dict):
            if self.state.follow:
                self.alarms.set("follow", **self.state.follow)
            if alarm.attempt <= alarm.payload.get("fails", 0):
                raise Failure("conflict", "it fails on purpose")
            if alarm.payload.get("again"):
                self.alarms.set(alarm.name, in_=alarm.payload["again"])
            if alarm.payload.get("end"):
                await self.delete()

    @command(allow=authenticated())
    async def set(self, name: str, args: dict[str, Any], retry: AlarmRetry | None = None) -> None:
        self.alarms.set(name, **args, **({"retry": retry} if retry else {}))

    @command(allow=authenticated())
    async def set_and_raise(self, name: str, args: dict[str, Any]) -> None:
        self.alarms.set(name, **args)
        self.alarms.cancel("there")
        raise Failure("conflict", "it fails on purpose")

    @command(allow=authenticated(), founds=True)
    async def found(self, name: str, args: dict[str, Any]) -> None:
        self.alarms.set(name, **args)

    @command(allow=authenticated())
    async def cancel(self, name: str) -> bool:
        return self.alarms.cancel(name)

    @command(allow=authenticated())
    async def look(self, name: str) -> tuple[list[str], Alarm | None]:
        return self.alarms.names, self.alarms.get(name)

    @command(allow=authenticated())
    async def follow(self, args: dict[str, Any]) -> None:
        self.state.follow = args

    @command(allow=authenticated())
    async def remove(self) -> None:
        self.alarms.set("late", in_=1)
        await self.delete()

    @query(allow=authenticated())
    async def rung(self) -> list[tuple[Alarm, float]]:
        return self.state.rung

    @query(allow=authenticated())
    async def cheat(self) -> None:
        self.alarms.set("secret", in_=1)


class Guest(BaseDurableObject[BellState], type="guest", management="raw"):
    """Ends an hour after it was last changed."""

    expires_after = 3600.0
    ended: list[str] = []  # noqa: RUF012

    async def on_delete(self) -> None:
        Guest.ended.append(self.id)

    @command(allow=authenticated())
    async def touch(self) -> int:
        self.state.fails += 1
        return self.state.fails

    @command(allow=authenticated())
    async def set(self) -> None:
        self.alarms.set("none", in_=1)
