"""The service of task workers, which `services/task_worker` and `aidevos work` run."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from nats.aio.client import Client
from nats.micro import add_service

from aidevos.durable.base.backoff import FOLLOWING
from aidevos.durable.bus.port import BusError, EventBus
from aidevos.durable.client.client import DurableObjectClient
from aidevos.durable.hosting.host_name import HostName
from aidevos.durable.objects.resources import Need, Resource
from aidevos.process.service import Service
from aidevos.settings import Settings
from aidevos.work.attempt import STOP_WITHIN
from aidevos.work.handlers import Handlers
from aidevos.work.worker import Worker

log = logging.getLogger(__name__)
SERVICE = "task_worker"
VERSION = "0.1.0"
_WORKER_NEEDS = [
    Need(SERVICE, "objects", DurableObjectClient),
    Need(SERVICE, "bus", EventBus),
    Need(SERVICE, "settings", Settings),
    Need(SERVICE, "connection", Client),
    Need(SERVICE, "name", HostName),
]


def worker_service(handlers: Handlers, *, group: str, resources: Iterable[Resource[Any]] = ()) -> Service:
    """Return a service whose processes do tasks with these handlers.

    All processes with the same handlers share one `group`.
    """
    return Service(SERVICE, resources=tuple(resources), chores=(_WorkerChore(handlers, group),), tasks=tuple(handlers))


def group_name(modules: Iterable[str]) -> str:
    """Return the group of the workers with the handlers of these modules."""
    return "workers-" + "-".join(sorted(set(modules)))


class _WorkerChore:
    """The chore of a worker's process, which does tasks until it is cancelled, and then drains."""

    def __init__(self, handlers: Handlers, group: str) -> None:
        self.handlers = handlers
        self.group = group

    @property
    def needs(self) -> list[Need]:
        """The needs of the worker, and those of the handlers with their kinds as prefixes."""
        handler_needs = [_prefixed(each, kind) for kind, handler in self.handlers.items() for each in handler.needs]
        return [*_WORKER_NEEDS, *handler_needs]

    async def __call__(
        self,
        objects: DurableObjectClient,
        bus: EventBus,
        settings: Settings,
        connection: Client,
        name: HostName,
        **values: Any,
    ) -> None:
        worker = Worker(
            self._bind(values),
            objects,
            bus,
            name=name.name,
            group=self.group,
            slots=settings.task_slots,
            poll=settings.task_poll,
        )
        async with _registered(connection, self.handlers):
            try:
                await _keep_working(worker)
            finally:
                # Leave time for returning the unfinished tasks.
                await worker.drain(max(settings.drain_timeout - STOP_WITHIN - 1.0, 0.0))

    def _bind(self, values: dict[str, Any]) -> Handlers:
        return {
            kind: handler.bind({need.name: values[_prefixed(need, kind).name] for need in handler.needs})
            for kind, handler in self.handlers.items()
        }


def _prefixed(need: Need, kind: str) -> Need:
    return need._replace(name=f"{kind}:{need.name}")


async def _keep_working(worker: Worker) -> None:
    pauses = FOLLOWING.pauses()
    while True:
        try:
            await worker.run()
        except BusError as error:
            log.warning("subscribing to tasks failed, trying again: %s", error)
        await pauses.wait()


@asynccontextmanager
async def _registered(connection: Client, handlers: Handlers) -> AsyncIterator[None]:
    """Register as a NATS micro service while the block runs."""
    kinds = {"kinds": ",".join(handlers)}
    service = await add_service(connection, name=SERVICE, version=VERSION, description="does tasks", metadata=kinds)
    try:
        yield
    finally:
        await service.stop()
