"""A host of objects whose methods do everything that a trace follows: `python -m tests.support.traced_objects`."""

from __future__ import annotations

import asyncio
import sys

import msgspec

from aidevos import Alarm, BaseDurableObject, Event, Failure, Service, command, on, permission, query, services
from aidevos.contracts.events import CloudEvent
from aidevos.process.serving import run
from aidevos.settings import load


class Worked(Event):
    step: str


class ProbeState(msgspec.Struct):
    steps: list[str] = []


class Probe(BaseDurableObject[ProbeState], type="probe"):
    """An object that notes what has happened to it."""

    @command(allow=permission("probe:write"))
    async def work(self) -> int:
        """Call, emit, tell and set an alarm."""
        self.emit(Worked("work"))
        self.tell("probe", f"{self.id}-told", "note", step="told")
        self.alarms.set("ring", in_=0.0)
        self.state.steps.append("work")
        return await self.call("counter", self.id, "increment")  # type: ignore[no-any-return]

    @command(allow=permission("probe:write") | services())
    async def note(self, step: str) -> None:
        self.state.steps.append(step)

    @on("event.probe.*.worked")
    async def react(self, event: CloudEvent[Worked]) -> None:
        self.state.steps.append("reacted")

    async def on_alarm(self, alarm: Alarm) -> None:
        self.state.steps.append(alarm.name)

    @command(allow=permission("probe:write"))
    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.state.steps.append("waited")

    @command(allow=permission("probe:write"))
    async def fail(self) -> None:
        raise RuntimeError("this always fails")

    @command(allow=permission("probe:write"))
    async def refuse(self) -> None:
        raise Failure("conflict", "this is always refused")

    @query(allow=permission("probe:read"))
    async def steps(self) -> list[str]:
        return self.state.steps

    @query(allow=permission("probe:read"))
    async def telemetry_modules(self) -> list[str]:
        """Return the modules of OpenTelemetry that this process has imported."""
        return sorted(name for name in sys.modules if name.split(".")[0] == "opentelemetry")


if __name__ == "__main__":
    run(Service("objects", (Probe,)), load(), reports_health=False)
