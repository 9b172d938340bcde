"""A host process of a type that keeps a history."""

from __future__ import annotations

import msgspec

from aidevos import Alarm, BaseDurableObject, Service, command, permission
from aidevos.process.serving import run
from aidevos.settings import load


class SheetState(msgspec.Struct):
    lines: list[str] = []


class Sheet(BaseDurableObject[SheetState], type="sheet", management="raw", history=60):
    """A sheet of lines, whose versions are kept."""

    @command(allow=permission("sheet:write"))
    async def add(self, line: str) -> int:
        self.state.lines.append(line)
        return len(self.state.lines)

    @command(allow=permission("sheet:write"))
    async def check_later(self, seconds: float) -> None:
        self.alarms.set("check", in_=seconds, every=60)

    async def on_alarm(self, alarm: Alarm) -> None:
        """Keep the state as it is."""


if __name__ == "__main__":
    run(Service("objects", (Sheet,)), load(), reports_health=False)
