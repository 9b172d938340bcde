"""The departure of a user that was erased from all projects.

Promise: it goes in bounded steps, each of which tells the next one in its own commit. Projects of
which the user becomes a member behind it let go of the user themselves.
"""

from __future__ import annotations

import msgspec

from aidevos import BaseDurableObject, command, services
from aidevos.contracts import projects
from aidevos.contracts.projects import DEPARTURE_TYPE, OF_USER


class DepartureState(msgspec.Struct):
    """The last project that was told."""

    after: str = ""


class DepartureDO(BaseDurableObject[DepartureState], type=DEPARTURE_TYPE, management="read_only", internal=True):
    """Takes a user, whose ID is its own, out of all projects."""

    @command(allow=services())
    async def begin(self) -> None:
        """Tell a step of the projects, and see to the next one."""
        found = await self.ask(projects.TYPE, OF_USER, user=self.id, after=self.state.after)
        for project in found:
            self.tell(projects.TYPE, project, "forget", user_id=self.id)
        if found:
            self.state.after = found[-1]
            self.tell(DEPARTURE_TYPE, self.id, "begin")
        else:
            await self.delete()
