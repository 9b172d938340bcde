"""Timers that many waits share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from aidevos.durable.base import shared_timers
from aidevos.durable.base.shared_timers import SharedTimers


class Waiter:
    def __init__(self) -> None:
        self.woken = asyncio.Event()

    def wake(self) -> None:
        self.woken.set()


@pytest.mark.parametrize("seconds", [0.01, 0.03])
async def test_a_waiter_is_woken_after_its_time_and_little_later(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(shared_timers, "LONG", 0.02)
    loop, waiter = asyncio.get_running_loop(), Waiter()
    began = loop.time()

    SharedTimers(loop).start(waiter, seconds)

    await asyncio.wait_for(waiter.woken.wait(), 5)
    assert loop.time() - began >= seconds - 0.001


async def test_long_waits_that_end_together_share_a_timer_and_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_timers, "LONG", 0.0)
    loop, first, second = asyncio.get_running_loop(), Waiter(), Waiter()
    started: list[float] = []

    def ring_soon(at: float, ring: Callable[..., object], slot: int) -> None:
        started.append(at)
        loop.call_soon(ring, slot)

    timers = SharedTimers(loop)
    with monkeypatch.context() as patched:
        patched.setattr(loop, "call_at", ring_soon)
        patched.setattr(loop, "time", lambda: 5.0)

        cancel = timers.start(first, 1.0)
        timers.start(second, 1.001)
        cancel()

    await asyncio.wait_for(second.woken.wait(), 5)

    assert len(started) == 1
    assert not first.woken.is_set()
