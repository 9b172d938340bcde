"""The composition root of the projects service."""

from __future__ import annotations

from typing import Any

from aidevos import BaseDurableObject
from aidevos.contracts import api_keys, data, tasks
from aidevos.settings import Settings
from services.projects.departure import DepartureDO
from services.projects.project import ProjectDO
from services.projects.task import TaskDO

SERVICE = "projects"
# What goes with a project, each beside its type.
BELONGINGS = {"tasks": tasks.TYPE, "collections": data.COLLECTION_TYPE, "keys": api_keys.TYPE}
TYPES: tuple[type[BaseDurableObject[Any]], ...] = (ProjectDO, TaskDO, DepartureDO)


def build(settings: Settings) -> tuple[type[BaseDurableObject[Any]], ...]:
    """The types, with what they work with."""
    ProjectDO.belongings = BELONGINGS
    return TYPES
