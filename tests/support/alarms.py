"""An object that records its alarms, for the tests of alarms."""

from __future__ import annotations

import asyncio
import secrets
import time
from datetime import UTC, datetime
from typing import Any

import msgspec

from aidevos import (
    Alarm,
    AlarmRetry,
    BaseDurableObject,
    DurableObjectClient,
    Event,
    Failure,
    authenticated,
    command,
    query,
)


class Rang(Event):
    name: str


class BellState(msgspec.Struct):
    """`rung` holds the argument and the time of each `on_alarm` call."""

    rung: list[tuple[Alarm, float]] = []
    fails: int = 0
    follow: dict[str, Any] = {}


class Bell(BaseDurableObject[BellState], type="bell", management="raw"):
    """Records each alarm in its state, and emits an event; the alarm's payload can request more.

    The first `fails` attempts raise. `attempts` lists all attempts of all objects, including those rolled back.
    `gate` releases a handler that hangs.
    """

    gate: asyncio.Event
    attempts: list[tuple[str, int, str]] = []  # noqa: RUF012

    async def on_alarm(self, alarm: Alarm) -> None:
        Bell.attempts.append((alarm.name, alarm.attempt, self.request_id))
        self.state.rung.append((alarm, self.now))
        self.emit(Rang(alarm.name))
        if isinstance(alarm.payload, dict):
            if self.state.follow:
                self.alarms.set("follow", **self.state.follow)
            if alarm.payload.get("checkpoint"):
                await self.checkpoint()
            if alarm.payload.get("hangs"):
                await Bell.gate.wait()
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

    @command(allow=authenticated(), creates=True)
    async def found(self, name: str, args: dict[str, Any]) -> None:
        self.alarms.set(name, **args)

    @command(allow=authenticated())
    async def set_at(self, name: str, day: int, zoned: bool) -> None:
        self.alarms.set(name, at=datetime(2027, 3, day, tzinfo=UTC if zoned else None))

    @command(allow=authenticated())
    async def wait(self) -> None:
        await Bell.gate.wait()

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
    """An object that expires an hour after its last change."""

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


async def set_evenly(caller: DurableObjectClient, count: int, start: float, seconds: float) -> list[str]:
    """Create `count` objects with one alarm each, spread over `seconds` from `start` (epoch seconds); return IDs."""
    ids = [secrets.token_hex(8) for _ in range(count)]
    at_once = asyncio.Semaphore(256)

    async def set(number: int, id: str) -> None:
        async with at_once:
            args = {"name": "due", "args": {"at": start + number * seconds / count}}
            await caller.object("bell", id, deadline=30.0).set(**args)

    await asyncio.gather(*(set(*item) for item in enumerate(ids)))
    assert time.time() < start, "it took too long to set them"
    return ids


async def lateness(caller: DurableObjectClient, ids: list[str], until: float) -> list[float]:
    """Return by how many seconds the objects' alarms rang late, sorted; all must have rung by `until`."""
    await asyncio.sleep(max(0.0, until - time.time()))
    at_once = asyncio.Semaphore(256)

    async def of(id: str) -> float:
        async with at_once:
            [(alarm, at)] = await caller.object("bell", id, deadline=30.0).rung()
        return float(at - alarm["due"])

    return sorted(await asyncio.gather(*map(of, ids)))
