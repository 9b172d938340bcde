"""The composition root of the projects service."""

from __future__ import annotations

from typing import Any

from aidevos import BaseDurableObject
from aidevos.settings import Settings
from services.projects.departure import DepartureDO
from services.projects.project import ProjectDO
from services.projects.task import TaskDO

SERVICE = "projects"
# What has to go with a project, beside its tasks.
KEEPERS: tuple[tuple[str, str], ...] = ()
TYPES: tuple[type[BaseDurableObject[Any]], ...] = (ProjectDO, TaskDO, DepartureDO)


def build(settings: Settings) -> tuple[type[BaseDurableObject[Any]], ...]:
    """The types, with what they work with."""
    ProjectDO.keepers = KEEPERS
    return TYPES
