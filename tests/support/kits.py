"""Helpers of tests that run objects in the kit: to wait without luck, and to name requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from hypothesis import HealthCheck, settings

from aidevos.contracts.errors import Failure
from aidevos.durable.client.client import NUMBER_BITS
from aidevos.testing import ObjectKit

START = 1_800_000_000.0
# Properties hold however busy the machine is. Every day they are tried with a quarter of their examples.
for profile, percent in (("everyday", 25), ("deep", 100)):
    settings.register_profile(
        profile, max_examples=percent, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )


def examples(count: int) -> settings:
    """The settings of a property that is tried with `count` examples by the profile `deep`."""
    return settings(max_examples=count * settings.default.max_examples // 100)


async def until(condition: Callable[[], Any], within: float = 10.0) -> None:
    """Return when the condition holds, which other tasks bring about."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def quiet() -> None:
    """Return when everything has happened that can, without the gate, fault or time that is held back."""
    for _ in range(100):
        await asyncio.sleep(0)


async def begun(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A task that has gone as far as it can."""
    task = asyncio.get_running_loop().create_task(work)
    await quiet()
    return task


async def failure(work: Awaitable[Any]) -> Failure:
    """The failure that the work ends with."""
    try:
        result = await work
    except Failure as raised:
        return raised
    raise AssertionError(f"it did not fail, it gave {result!r}")


def chosen(id: str, **headers: str) -> dict[str, str]:
    """Headers with a request ID of the caller's choice."""
    return {"Request-Id": id} | headers


def numbered(client: str, count: int, ack: int = 0, *, at: float = START) -> dict[str, str]:
    """Headers of the request `count` of a client, which still waits for number `ack`."""
    return {"Request-Id": f"{client * 32}.{number(count, at)}", "Request-Ack": str(number(ack, at) if ack else 0)}


def number(count: int, at: float = START) -> int:
    return (int(at * 1000) << NUMBER_BITS) + count


async def crash(kit: ObjectKit) -> None:
    """End the kit's process: it commits, sends and answers nothing any more."""
    kit.catalogue.drop_all()
    await kit.runtime.close()
