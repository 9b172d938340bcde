"""A host process for objects that emit an event or send tells with each command."""

from __future__ import annotations

import msgspec

from aidevos import BaseDurableObject, Service, authenticated, command
from aidevos.process.serving import run
from aidevos.settings import load
from tests.support.fault_objects import Tally


class TellerState(msgspec.Struct):
    told: int = 0


class Teller(BaseDurableObject[TellerState], type="teller"):
    """An object that tells others to count."""

    @command(allow=authenticated())
    async def pass_on(self, to: list[str]) -> None:
        """Tell each of these tallies to count once."""
        self.state.told += len(to)
        for id in to:
            self.tell("tally", id, "add", by=1)


if __name__ == "__main__":
    run(Service("objects", [Tally, Teller]), load(), reports_health=False)
