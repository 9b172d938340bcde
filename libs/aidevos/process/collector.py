"""The settings of Python's garbage collector for a serving process.

Requests leave almost no reference cycles. Python's defaults, which scan the young objects after every 700
allocations, therefore find nothing and take a tenth of the CPU time.

A host also keeps many objects in memory for long. A full collection would scan all of them, which stops the process for
more than a second with 100,000 objects. In a host, whatever survives two collections is therefore never scanned again,
except in a full collection once in a while, when there is little to scan. Reference counts free it all the same; only
cycles that outlive two collections wait for the full one. It writes to every object, so a process no longer shares
their memory with those that were forked from the same one. One that has made few objects makes no full collection.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

YOUNG, MIDDLE, OLD = 20_000, 20, 50
# In a host, one collection scans at most about `HOST_YOUNG * (HOST_MIDDLE + 1)` objects, which takes 10 to 20 ms.
HOST_YOUNG, HOST_MIDDLE, NEVER = 2000, 2, 1_000_000
FULL_EVERY = 3600.0
# The ratio of the objects that survived since to those that there were at the start, from which a full one is made.
GROWN = 1.1
# The most durable objects in memory with which a full collection is made.
FULL_AT_MOST = 5000


def collect_rarely() -> None:
    """Collect less often, and never scan the objects that exist now. Call it once the process is loaded."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)


def collect_in_slices() -> None:
    """Collect only young objects, so that no collection is long. Call it in a host, once the process is loaded."""
    collect_rarely()
    gc.set_threshold(HOST_YOUNG, HOST_MIDDLE, NEVER)
    if _freeze_survivors not in gc.callbacks:
        gc.callbacks.append(_freeze_survivors)


async def keep_collecting(count_objects: Callable[[], int]) -> None:
    """Make a full collection from time to time, while there are few durable objects. Run it until cancelled."""
    at_start = gc.get_freeze_count()
    while True:
        await asyncio.sleep(FULL_EVERY)
        if count_objects() <= FULL_AT_MOST and gc.get_freeze_count() >= GROWN * at_start:
            gc.unfreeze()
            gc.collect()
            gc.freeze()


def _freeze_survivors(phase: str, info: dict[str, int]) -> None:
    if phase == "stop" and info["generation"] == 1:
        gc.freeze()
