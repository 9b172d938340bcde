"""The holder of the projects that a user has created: their number."""

from __future__ import annotations

from aidevos.contracts.projects import HOLDER_TYPE, TYPE
from aidevos.work.holders import Holder


class ProjectHolderDO(Holder, type=HOLDER_TYPE, management="read_only", internal=True):
    """A user's projects, under the user's ID."""

    held = TYPE
    noun = "projects"

    @property
    def limit(self) -> int:
        return self.settings.max_projects
