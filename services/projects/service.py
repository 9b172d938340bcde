"""The projects service: projects, their members and their tasks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

from aidevos import DurableObjectClient, Failure, Service, resource
from aidevos.contracts import api_keys, data, tasks
from aidevos.observability.metrics import TASKS_QUEUED
from aidevos.security.delegations import Delegations
from aidevos.security.sealed import Sealer
from aidevos.security.service_keys import ServiceSigningKeys
from aidevos.settings import Settings

from .departure import DepartureDO
from .project import Belongings, ProjectDO
from .project_holder import ProjectHolderDO
from .task import TaskDO

log = logging.getLogger(__name__)
NAME = "projects"
# Seconds between two counts of the tasks that wait for a worker.
COUNT_EVERY = 15.0
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


async def keep_counting_tasks(objects: DurableObjectClient) -> None:
    """Show how many tasks wait for a worker, until cancelled."""
    try:
        while True:
            try:
                TASKS_QUEUED.set(await objects.query(tasks.TYPE, tasks.COUNT_DUE))
            except Failure as failure:
                TASKS_QUEUED.clear()
                log.warning("counting the tasks that wait failed, trying again: %s", failure)
            await asyncio.sleep(COUNT_EVERY)
    finally:
        TASKS_QUEUED.clear()


service = Service(
    NAME,
    types=(ProjectDO, ProjectHolderDO, TaskDO, DepartureDO),
    resources=(belongings, sealer, delegations),
    chores=(keep_counting_tasks,),
)
