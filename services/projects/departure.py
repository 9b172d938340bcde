"""The departure of a deleted user from all projects.

Promise: it proceeds in bounded steps, each of which tells the next one in its own commit. Projects that
the user joins behind it remove the user themselves.
"""

from __future__ import annotations

import msgspec

from aidevos import BaseDurableObject, command, services
from aidevos.contracts import projects
from aidevos.contracts.projects import DEPARTURE_TYPE, OF_USER


class DepartureState(msgspec.Struct):
    """The progress: the last project that was told."""

    after: str = ""


class DepartureDO(BaseDurableObject[DepartureState], type=DEPARTURE_TYPE, management="read_only", internal=True):
    """The departure of the user with the same ID."""

    @command(allow=services())
    async def begin(self) -> None:
        """Tell one batch of projects to remove the user, and start the next batch."""
        found = await self.ask(projects.TYPE, OF_USER, user=self.id, after=self.state.after)
        for project in found:
            self.tell(projects.TYPE, project, "forget", user_id=self.id)
        if found:
            self.state.after = found[-1]
            self.tell(DEPARTURE_TYPE, self.id, "begin")
        else:
            await self.delete()
