"""The composition root of the projects service."""

from __future__ import annotations

from typing import Any

from aidevos import BaseDurableObject
from aidevos.contracts import api_keys, data, tasks
from aidevos.security.delegations import Delegations
from aidevos.security.keys import SigningKeys
from aidevos.security.sealed import Sealer
from aidevos.settings import Settings

from .departure import DepartureDO
from .project import ProjectDO
from .task import TaskDO

SERVICE = "projects"
# What goes with a project, each beside its type.
BELONGINGS = {"tasks": tasks.TYPE, "collections": data.COLLECTION_TYPE, "keys": api_keys.TYPE}
TYPES: tuple[type[BaseDurableObject[Any]], ...] = (ProjectDO, TaskDO, DepartureDO)


def build(settings: Settings) -> tuple[type[BaseDurableObject[Any]], ...]:
    """The types, with what they work with."""
    ProjectDO.belongings = BELONGINGS
    ProjectDO.sealer = Sealer(settings)
    TaskDO.settings = settings
    TaskDO.delegations = Delegations(SigningKeys(settings.home), settings.public_url, SERVICE)
    return TYPES
