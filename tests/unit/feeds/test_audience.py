"""The readers of placement events."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pytest

from aidevos.durable.bus.memory import MemoryBus
from aidevos.durable.hosting.placement_events import PlacementEvents
from aidevos.feeds.audience import Audience
from aidevos.feeds.shown_events import ShownEvent, parse_event
from aidevos.security.permissions import Principal


class Reader(NamedTuple):
    caller: Principal
    authorization: str = ""


async def ask_nobody(reader: Reader | None, subject: str, payload: bytes) -> bytes:
    raise AssertionError(subject)


async def joined() -> ShownEvent:
    bus = MemoryBus()
    events = PlacementEvents(bus, service="objects", replica=0, incarnation="objects-0.1", version="1")
    publishing = asyncio.create_task(events.run())
    events.host_joined()
    await events.flush(5.0)
    publishing.cancel()
    shown = parse_event(bus.events[0].subject, bus.events[0].payload)
    assert shown is not None
    return shown


@pytest.mark.parametrize(
    ("permissions", "more", "sees"),
    [
        ({"fleet:read"}, {}, True),
        ({"*"}, {}, True),
        ({"events:read", "users:read", "objects:manage"}, {}, False),
        ({"fleet:read"}, {"project": "p"}, False),
    ],
)
async def test_operators_see_hosts_come_and_go(permissions: set[str], more: dict[str, Any], sees: bool) -> None:
    audience: Audience[Reader] = Audience(ask_nobody)
    reader = Reader(Principal("ada", ("user",), frozenset(permissions), **more))

    assert await audience.may_see(reader, await joined()) == sees
