"""Objects that the fault tests put under load."""

from __future__ import annotations

import asyncio
import os
import signal

import msgspec

from aidevos import BaseDurableObject, Event, authenticated, command, query

SLOW = 0.5


class TallyState(msgspec.Struct):
    value: int = 0


class Added(Event):
    value: int


class Tally(BaseDurableObject[TallyState], type="tally", management="raw"):
    """A counter that can announce its value."""

    @command(allow=authenticated())
    async def add(self, by: int = 1) -> int:
        self.state.value += by
        return self.state.value

    @command(allow=authenticated())
    async def add_slowly(self) -> int:
        """Count, with a wait in the middle of the turn."""
        before = self.state.value
        await asyncio.sleep(SLOW)
        self.state.value = before + 1
        return self.state.value

    @command(allow=authenticated())
    async def announce(self) -> int:
        """Count, and emit an event that carries the count."""
        self.state.value += 1
        self.emit(Added(self.state.value))
        return self.state.value

    @command(allow=authenticated())
    async def end_process(self) -> None:
        """Kill the process, as a bug in native code would."""
        os.kill(os.getpid(), signal.SIGKILL)

    @command(allow=authenticated())
    async def call_type(self, type: str) -> None:
        """Call an object of another type."""
        await self.call(type, self.id, "add")

    @command(allow=authenticated())
    async def spin(self) -> None:
        """Never give the event loop back, as a loop without an end would."""
        while True:
            pass

    @query(allow=authenticated())
    async def value(self) -> int:
        return self.state.value
