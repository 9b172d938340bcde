"""Running a process that does tasks: the composition root of `services/task_worker` and of `aidevos work`."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Iterable

import msgspec
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.micro import add_service

from aidevos.contracts import subjects
from aidevos.contracts.fleet_events import FLEET_EVENTS
from aidevos.durable.base.backoff import FOLLOWING
from aidevos.durable.bus.chosen import open_bus
from aidevos.durable.bus.port import BusError
from aidevos.durable.client.client import DurableObjectClient
from aidevos.durable.client.connection import connect
from aidevos.durable.hosting.host_name import HostName
from aidevos.observability import logs
from aidevos.security.credentials import ServiceCredential
from aidevos.settings import Settings, SettingsError
from aidevos.work.attempt import STOP_WITHIN
from aidevos.work.handlers import Handlers
from aidevos.work.worker import Worker

log = logging.getLogger(__name__)
SERVICE = "task_worker"
VERSION = "0.1.0"


def run(handlers: Handlers, settings: Settings, *, group: str, reports_health: bool = False) -> None:
    """Do tasks until SIGTERM or SIGINT. What can't be used ends the process with one line and status 2."""
    logs.configure(settings.log_level, SERVICE)
    try:
        uvloop.run(serve(handlers, settings, group=group, reports_health=reports_health))
    except SettingsError as error:
        print(f"aidevos: {error}", file=sys.stderr)
        raise SystemExit(2) from None


async def serve(handlers: Handlers, settings: Settings, *, group: str, reports_health: bool) -> None:
    """Do tasks until the process gets SIGTERM or SIGINT; then end within the drain time."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    name = HostName(settings.home, SERVICE, settings.replica)
    connection = await connect(settings.nats_url, f"{SERVICE}-{name.replica}")
    objects = DurableObjectClient(
        connection,
        ServiceCredential(settings, SERVICE).authorization,
        attempt_timeout=settings.attempt_timeout,
        default_deadline=settings.default_deadline,
    )
    await objects.start()
    bus = await open_bus(settings, connection, FLEET_EVENTS)
    worker = Worker(
        handlers,
        objects,
        bus,
        name=name.name,
        group=group,
        slots=settings.task_slots,
        poll=settings.task_poll,
    )
    working = asyncio.create_task(_keep_working(worker))
    await _register(connection, handlers, name.replica, reports_health=reports_health)
    await stop.wait()
    # What is given back needs its time too.
    await worker.drain(max(settings.drain_timeout - STOP_WITHIN - 1.0, 0.0))
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    await bus.close()
    await connection.close()
    name.close()


def group_of(modules: Iterable[str]) -> str:
    """The group of workers with the handlers of these modules."""
    return "workers-" + "-".join(sorted(set(modules)))


async def _keep_working(worker: Worker) -> None:
    pauses = FOLLOWING.pauses()
    while True:
        try:
            await worker.run()
        except BusError as error:
            log.warning("tasks can't be heard of, trying again: %s", error)
        await pauses.wait()


async def _register(connection: Client, handlers: Handlers, replica: int, *, reports_health: bool) -> None:
    await add_service(
        connection, name=SERVICE, version=VERSION, description="does tasks", metadata={"kinds": ",".join(handlers)}
    )

    async def health(message: Msg) -> None:
        document = {"name": SERVICE, "replica": replica, "ok": True, "detail": ""}
        await connection.publish(message.reply, msgspec.json.encode(document))

    if reports_health:
        await connection.subscribe(subjects.health(SERVICE), cb=health)
