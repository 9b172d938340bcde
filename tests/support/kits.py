"""Helpers for tests that run objects in the kit: deterministic waits, and request IDs."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from hypothesis import HealthCheck, settings

from aidevos.contracts.errors import Failure
from aidevos.durable.client.client import NUMBER_BITS
from aidevos.testing import ObjectKit

START = 1_800_000_000.0
# Turns of a loop after which a wait is one for real time, and need not take all of the CPU.
TURNS = 1000
# Properties have no deadline, since the machine may be busy. Everyday runs try a quarter of the examples.
for profile, percent in (("everyday", 25), ("deep", 100)):
    settings.register_profile(
        profile, max_examples=percent, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )


def examples(count: int) -> settings:
    """Return the settings of a property that the profile `deep` tries with `count` examples."""
    return settings(max_examples=count * settings.default.max_examples // 100)


def repeats(count: int) -> int:
    """Return how often a test repeats a fault: `count` times with the profile `deep`, and else a quarter of that."""
    return math.ceil(count * settings.default.max_examples / 100)


async def until(condition: Callable[[], Any], within: float = 10.0) -> None:
    """Wait until other tasks have made the condition true."""
    async with asyncio.timeout(within):
        turns = 0
        while not condition():
            turns += 1
            await asyncio.sleep(0 if turns < TURNS else 0.001)


async def quiet() -> None:
    """Let all other tasks run until they are blocked by a gate, a fault or the clock."""
    for _ in range(100):
        await asyncio.sleep(0)


async def begun(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Start a task and let it run until it is blocked."""
    task = asyncio.get_running_loop().create_task(work)
    await quiet()
    return task


async def failure(work: Awaitable[Any]) -> Failure:
    """Return the failure that the work ends with."""
    try:
        result = await work
    except Failure as raised:
        return raised
    raise AssertionError(f"it did not fail, it gave {result!r}")


def chosen(id: str, **headers: str) -> dict[str, str]:
    """Return headers with this request ID."""
    return {"Request-Id": id} | headers


def numbered(client: str, count: int, ack: int = 0, *, at: float = START) -> dict[str, str]:
    """Return headers of a client's request number `count`; `ack` is the lowest number that it still awaits."""
    return {"Request-Id": f"{client * 32}.{number(count, at)}", "Request-Ack": str(number(ack, at) if ack else 0)}


def number(count: int, at: float = START) -> int:
    return (int(at * 1000) << NUMBER_BITS) + count


async def crash(kit: ObjectKit) -> None:
    """End the kit's process: from now on it commits, sends and answers nothing."""
    kit.catalogue.drop_all()
    await kit.runtime.close()
