"""The pulse of an event loop, which shows other threads whether the loop still turns.

Promise: a thread that watches the pulse takes no pause of the whole process, such as a suspension of the machine, for
a stall of the loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aidevos.durable.base.beats import until_beat
from aidevos.observability.slow_log import slow_log

BEAT_EVERY = 0.5
# Longest time between two looks at the pulse that counts as a stall. After a longer one, the watching thread itself
# did not run either.
LONGEST_STEP = 1.0


class Pulse:
    """Counts the turns of one event loop. `run` is a task of that loop; any thread may read `beats`."""

    def __init__(self) -> None:
        self.beats = 0

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            self.beats += 1
            pause = until_beat(BEAT_EVERY)
            due = time.perf_counter() + pause
            await asyncio.sleep(pause)
            slow_log.note_lag(time.perf_counter() - due)


class StallTimer:
    """Measures in one thread how long a loop hasn't turned. `now` returns seconds on a clock that never goes back."""

    def __init__(self, pulse: Pulse, now: Callable[[], float] = time.monotonic) -> None:
        self._pulse = pulse
        self._now = now
        self._beats = pulse.beats
        self._looked = now()
        self._stalled = 0.0

    def stalled(self) -> float:
        """Return for how many seconds no beat has been seen. Call it more often than once a second."""
        looked, self._looked = self._looked, self._now()
        if self._pulse.beats != self._beats:
            self._beats, self._stalled = self._pulse.beats, 0.0
        else:
            self._stalled += min(self._looked - looked, LONGEST_STEP)
        return self._stalled
