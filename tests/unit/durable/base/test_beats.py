"""Common beats of the periodic work of a process."""

from __future__ import annotations

import asyncio

import pytest

from aidevos.durable.base.beats import until_beat


async def test_works_that_begin_at_different_times_wait_for_the_same_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, now = asyncio.get_running_loop(), [100.0]
    monkeypatch.setattr(loop, "time", lambda: now[0])
    assert until_beat(0.5) == 0.5

    now[0] = 100.3
    assert until_beat(0.5) == pytest.approx(0.2)
    assert until_beat(1.0) == pytest.approx(0.7)
    now[0] = 102.0
    assert until_beat(1.0) == 1.0
    now[0] = 102.99999
    assert until_beat(1.0) == pytest.approx(1.00001)
