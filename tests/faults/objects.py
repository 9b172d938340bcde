"""Objects that the fault tests put under load."""

from __future__ import annotations

import msgspec

from aidevos import BaseDurableObject, Event, authenticated, command, query


class TallyState(msgspec.Struct):
    value: int = 0


class Added(Event):
    value: int


class Tally(BaseDurableObject[TallyState], type="tally", management="raw"):
    """Counts, and says so."""

    @command(allow=authenticated())
    async def add(self, by: int = 1) -> int:
        self.state.value += by
        return self.state.value

    @command(allow=authenticated())
    async def announce(self) -> int:
        """Count, and emit an event that carries the count."""
        self.state.value += 1
        self.emit(Added(self.state.value))
        return self.state.value

    @query(allow=authenticated())
    async def value(self) -> int:
        return self.state.value
