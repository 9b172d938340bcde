"""Objects that the fault tests put under load."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import msgspec

from aidevos import Alarm, BaseDurableObject, Event, Failure, authenticated, command, query

SLOW = 0.5
# Seconds between two looks for a file.
LOOK_EVERY = 0.01


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

    @command(allow=authenticated())
    async def add_after(self, file: str) -> int:
        """Count, and end the turn when there is such a file. A file `<file>.begun` says that the turn has begun."""
        self.state.value += 1
        _begin(file)
        while not Path(file).exists():  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(LOOK_EVERY)
        return self.state.value

    @query(allow=authenticated())
    async def value(self) -> int:
        return self.state.value

    @query(allow=authenticated())
    async def value_after(self, file: str) -> int:
        """Keep the event loop from turning until there is such a file; otherwise like `add_after`."""
        _begin(file)
        while not Path(file).exists():  # noqa: ASYNC240
            time.sleep(LOOK_EVERY)  # noqa: ASYNC251
        return self.state.value


def _begin(file: str) -> None:
    Path(f"{file}.begun").touch()


class LedgerState(msgspec.Struct):
    trail: list[int] = msgspec.field(default_factory=lambda: [0])
    told: list[int] = []
    rung: list[str] = []


class Ledger(BaseDurableObject[LedgerState], type="ledger", management="raw"):
    """A register that keeps all its values, and everything that it was told, in order."""

    @command(allow=authenticated())
    async def swap(self, old: int, new: int) -> int:
        """Set the register to `new` if its value is `old`. Return the value before."""
        before = self.state.trail[-1]
        if before == old:
            self.state.trail.append(new)
        return before

    @command(allow=authenticated())
    async def note(self, number: int) -> None:
        """Note a number."""
        self.state.told.append(number)

    @command(allow=authenticated())
    async def pass_on(self, to: str, number: int) -> None:
        """Tell another ledger to note a number."""
        self.tell("ledger", to, "note", number=number)

    @command(allow=authenticated())
    async def ring(self, name: str, seconds: float) -> None:
        """Set an alarm."""
        self.alarms.set(name, in_=seconds)

    async def on_alarm(self, alarm: Alarm) -> None:
        self.state.rung.append(alarm.name)

    @query(allow=authenticated())
    async def value(self) -> int:
        return self.state.trail[-1]

    @query(allow=authenticated())
    async def progress(self) -> tuple[int, int]:
        """Return how many numbers the ledger was told, and how many of its alarms have rung."""
        return len(self.state.told), len(self.state.rung)

    @query(allow=authenticated())
    async def history(self) -> LedgerState:
        """Return everything that the ledger keeps."""
        return self.state


class NameState(msgspec.Struct):
    holder: str = ""


class Name(BaseDurableObject[NameState], type="name", management="raw"):
    """A name that one holder has at a time; it exists only while somebody holds it."""

    @command(allow=authenticated(), creates=True)
    async def claim(self, holder: str) -> None:
        """Take the name. Raises `exists` if somebody holds it."""
        if self.state.holder:
            raise Failure("exists", f"{self.state.holder} holds the name")
        self.state.holder = holder

    @command(allow=authenticated())
    async def release(self, holder: str) -> None:
        """Give the name up. Raises `not-holder` if somebody else, or nobody, holds it."""
        if not holder or self.state.holder != holder:
            raise Failure("not-holder", f"{holder} doesn't hold the name", status=409)
        await self.delete()

    @query(allow=authenticated())
    async def holder(self) -> str:
        """Return the holder, or an empty string."""
        return self.state.holder
