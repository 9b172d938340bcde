"""Creation of the event bus that a process's settings select."""

from __future__ import annotations

from collections.abc import Sequence

from nats.aio.client import Client

from aidevos.durable.bus.jetstream import JetStreamBus
from aidevos.durable.bus.port import EventBus
from aidevos.durable.bus.rabbitmq import RabbitMqBus
from aidevos.security.tls import client_context
from aidevos.settings import Settings


async def open_bus(settings: Settings, connection: Client, fleet_events: Sequence[str]) -> EventBus:
    """Open RabbitMQ if `AIDEVOS_EVENT_BUS_URL` is set, else JetStream on the given connection.

    `fleet_events` are the patterns that every process follows. Raises `SettingsError`.
    """
    if not settings.event_bus_url:
        return JetStreamBus(connection)
    bus = _rabbitmq(settings, fleet_events)
    await bus.open()
    return bus


async def prepare_rabbitmq(settings: Settings, fleet_events: Sequence[str]) -> None:
    """Declare the exchanges, queues and streams if the settings select RabbitMQ. Raises `SettingsError`."""
    if settings.event_bus_url:
        bus = _rabbitmq(settings, fleet_events)
        await bus.open()
        await bus.close()


def _rabbitmq(settings: Settings, fleet_events: Sequence[str]) -> RabbitMqBus:
    return RabbitMqBus(
        settings.event_bus_url,
        max_age=settings.events_max_age,
        max_bytes=settings.events_max_bytes,
        fleet_events=fleet_events,
        tls=client_context(settings),
    )
