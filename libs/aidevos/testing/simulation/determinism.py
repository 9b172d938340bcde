"""The surroundings that make a run depend on its seed alone: clocks, random numbers and the garbage collector."""

from __future__ import annotations

import atexit
import contextlib
import gc
import logging
import random
import secrets
import sys
import time
import warnings
from collections.abc import Iterator

from aidevos.durable.base import slices
from aidevos.testing.simulation.loop import VirtualLoop

# The wall time at which every run begins, in seconds since the epoch.
EPOCH = 1_800_000_000.0


class WallClock:
    """The clocks of one process, on the loop's time. It satisfies `Clock`."""

    def __init__(self, loop: VirtualLoop, offset: float = 0.0) -> None:
        self._loop = loop
        self.offset = offset

    def now(self) -> float:
        return EPOCH + self._loop.now + self.offset

    def elapsed(self) -> float:
        return self._loop.now


@contextlib.contextmanager
def deterministic(loop: VirtualLoop, rng: random.Random, *, quiet: bool = True) -> Iterator[None]:
    """Run a block in which everything that the framework reads from its surroundings comes from the loop and `rng`.

    Nothing is collected meanwhile, because that would run the `finally` blocks of killed processes at odd times. What
    is left is discarded afterwards, when it can have no effect. With `quiet`, nothing is logged.
    """
    wall = WallClock(loop)
    before = random.getstate()
    disabled = logging.root.manager.disable
    with contextlib.ExitStack() as patches:
        for module, name, value in (
            (time, "time", wall.now),
            (time, "monotonic", wall.elapsed),
            (time, "clock_gettime", lambda _: wall.elapsed()),
            (slices, "perf_counter", wall.elapsed),
            (secrets, "token_hex", lambda size=32: f"{rng.getrandbits(8 * size):0{2 * size}x}"),
        ):
            patches.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, value)
        patches.callback(random.setstate, before)
        random.seed(rng.getrandbits(64))
        patches.callback(logging.disable, disabled)
        if quiet:
            logging.disable(logging.CRITICAL)
        # A killed process leaves coroutines behind that it never began.
        patches.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", "coroutine .* was never awaited")
        if gc.isenabled():
            patches.callback(gc.enable)
        gc.disable()
        yield


# Runs after which what they have left is collected.
COLLECT_EVERY = 10
_left: list[object] = []


def discard(loop: VirtualLoop, *remains: object) -> None:
    """Close a loop, and now and then drop what runs have left, without a word from the tasks that never ended."""
    loop.close()
    _left.append(remains)
    if len(_left) >= COLLECT_EVERY:
        drop_remains()


def drop_remains() -> None:
    """Drop what runs have left."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        with warnings.catch_warnings(action="ignore"):
            _left.clear()
            gc.collect()
    finally:
        sys.unraisablehook = hook


atexit.register(drop_remains)
