"""The projects service: projects, their members and their tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aidevos import Service, resource
from aidevos.contracts import api_keys, data, tasks
from aidevos.security.delegations import Delegations
from aidevos.security.sealed import Sealer
from aidevos.security.service_keys import ServiceSigningKeys
from aidevos.settings import Settings

from .departure import DepartureDO
from .project import Belongings, ProjectDO
from .project_holder import ProjectHolderDO
from .task import TaskDO

NAME = "projects"
# The content that is removed with a project, with its types.
BELONGINGS = Belongings({"tasks": tasks.TYPE, "collections": data.COLLECTION_TYPE, "keys": api_keys.TYPE})


@resource
async def belongings() -> AsyncIterator[Belongings]:
    yield BELONGINGS


@resource
async def sealer(settings: Settings) -> AsyncIterator[Sealer]:
    yield Sealer(settings)


@resource
async def delegations(settings: Settings) -> AsyncIterator[Delegations]:
    yield Delegations(ServiceSigningKeys(settings.home, NAME, acts_for_others=True), settings.public_url, NAME)


service = Service(
    NAME, types=(ProjectDO, ProjectHolderDO, TaskDO, DepartureDO), resources=(belongings, sealer, delegations)
)
