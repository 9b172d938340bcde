"""Common beats of the periodic work of a process.

Work that waits for the same beat wakes the process once, and not at a time of its own each. Processes begin at
different times, so their beats differ.
"""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

_first: WeakKeyDictionary[asyncio.AbstractEventLoop, float] = WeakKeyDictionary()


def until_beat(every: float) -> float:
    """Return the seconds until the next of the beats that this loop has every so many seconds.

    A beat that is nearer than a tenth of that is left out, so the time that was slept for is over for sure.
    """
    loop = asyncio.get_running_loop()
    now = loop.time()
    left = every - (now - _first.setdefault(loop, now)) % every
    return left if left > every / 10 else left + every
