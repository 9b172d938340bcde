"""A client replaces its connection to a broker that stays connected but reads nothing."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest

from aidevos.contracts.fleet_events import FLEET_EVENTS
from aidevos.durable.bus.port import BusError
from aidevos.durable.bus.rabbitmq.bus import RabbitMqBus
from tests.support.rabbitmq import RabbitMq
from tests.support.stalling_proxy import StallingProxy

# More than the buffers of the sockets hold.
EVENTS, EVENT_BYTES = 300, 128 * 1024


@pytest.fixture
async def proxy(rabbitmq: RabbitMq) -> AsyncIterator[StallingProxy]:
    async with StallingProxy(rabbitmq.url) as proxy:
        yield proxy


@pytest.fixture
async def bus(proxy: StallingProxy) -> RabbitMqBus:
    bus = RabbitMqBus(proxy.url, max_age=86_400.0, max_bytes=64 * 1024 * 1024, fleet_events=FLEET_EVENTS)
    await bus.open()
    return bus


async def publish(bus: RabbitMqBus) -> None:
    id = secrets.token_hex(6)
    subject, scope = f"event.wedged.{id}.changed", f"event.wedged.{id}.>"
    await bus.publish(subject, bytes(EVENT_BYTES), f"{id}:1", number=1, scope=scope, after=0)


async def fill(bus: RabbitMqBus) -> list[BaseException | None]:
    return await asyncio.gather(*(publish(bus) for _ in range(EVENTS)), return_exceptions=True)


async def test_what_is_not_confirmed_goes_over_a_new_connection(bus: RabbitMqBus, proxy: StallingProxy) -> None:
    await publish(bus)
    proxy.stall()
    async with asyncio.timeout(20):
        outcomes = await fill(bus)
        await publish(bus)
    assert BusError in {type(outcome) for outcome in outcomes}
    await bus.close()


async def test_a_bus_closes_although_nobody_reads(bus: RabbitMqBus, proxy: StallingProxy) -> None:
    proxy.stall()
    filling = asyncio.create_task(fill(bus))
    await proxy.holds.wait()
    async with asyncio.timeout(15):
        await bus.close()
    filling.cancel()
    await asyncio.gather(filling, return_exceptions=True)
    await bus.close()
