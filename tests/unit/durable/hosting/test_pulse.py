"""The pulse tells a loop that doesn't turn from a process that was paused."""

from __future__ import annotations

import asyncio

from aidevos.durable.base.clock import ManualClock
from aidevos.durable.hosting.pulse import Pulse, StallTimer


def test_a_stall_lasts_from_the_last_beat_that_was_seen() -> None:
    pulse, clock = Pulse(), ManualClock()
    timer = StallTimer(pulse, clock.elapsed)

    stalls = []
    for beats in (1, 0, 0, 1, 0):
        clock.advance(0.5)
        pulse.beats += beats
        stalls.append(timer.stalled())

    assert stalls == [0.0, 0.5, 1.0, 0.0, 0.5]


def test_a_pause_of_the_whole_process_is_no_stall() -> None:
    pulse, clock = Pulse(), ManualClock()
    timer = StallTimer(pulse, clock.elapsed)

    clock.advance(3600.0)

    assert timer.stalled() == 1.0


async def test_the_pulse_beats_while_the_loop_turns() -> None:
    pulse = Pulse()
    task = asyncio.create_task(pulse.run())
    await asyncio.sleep(0)

    assert pulse.beats == 1
    task.cancel()
