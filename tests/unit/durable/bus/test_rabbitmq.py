"""Events while RabbitMQ is down."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aidevos.durable.bus.port import BusError
from aidevos.durable.bus.rabbitmq import broker
from aidevos.durable.bus.rabbitmq.bus import RabbitMqBus

EVENTS = 50


async def test_many_events_that_want_a_broker_that_is_down_ask_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = 0

    async def refuse(*args: Any, **options: Any) -> None:
        nonlocal attempts
        attempts += 1
        raise ConnectionRefusedError

    monkeypatch.setattr(broker.aio_pika, "connect", refuse)
    bus = RabbitMqBus("amqp://localhost/", max_age=60.0, max_bytes=1024, fleet_events=())

    events = (
        bus.publish("event.t.a.x", b"", f"a:{number}", number=number, scope="", after=0) for number in range(EVENTS)
    )
    outcomes = await asyncio.gather(*events, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [BusError] * EVENTS
    assert attempts == 1
