"""Creation of the event bus that a process's settings select."""

from __future__ import annotations

from collections.abc import Sequence

from nats.aio.client import Client

from aidevos.durable.bus.jetstream import JetStreamBus
from aidevos.durable.bus.port import EventBus
from aidevos.security.tls import client_context
from aidevos.settings import Settings


async def open_bus(settings: Settings, connection: Client, fleet_events: Sequence[str]) -> EventBus:
    """Open RabbitMQ if `AIDEVOS_EVENT_BUS_URL` is set, else JetStream on the given connection.

    `fleet_events` are the patterns that every process follows. Raises `SettingsError`.
    """
    if settings.event_bus_url:
        return await _open_rabbitmq(settings, fleet_events)
    return JetStreamBus(connection)


async def prepare_rabbitmq(settings: Settings, fleet_events: Sequence[str]) -> None:
    """Declare the exchanges, queues and streams if the settings select RabbitMQ. Raises `SettingsError`."""
    if settings.event_bus_url:
        bus = await _open_rabbitmq(settings, fleet_events)
        await bus.close()


async def _open_rabbitmq(settings: Settings, fleet_events: Sequence[str]) -> EventBus:
    # Its libraries take a fifth of the time of a process's start.
    from aidevos.durable.bus.rabbitmq.bus import RabbitMqBus

    bus = RabbitMqBus(
        settings.event_bus_url,
        max_age=settings.events_max_age,
        max_bytes=settings.events_max_bytes,
        fleet_events=fleet_events,
        tls=client_context(settings),
    )
    await bus.open()
    return bus
