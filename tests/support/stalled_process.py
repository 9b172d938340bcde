"""A process whose event loop stops turning: `stalled_process.py <how> <limit> <limit after a signal to stop>`.

It prints "stalls" when it does.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from contextlib import AsyncExitStack

import msgspec
import uvloop

from aidevos import BaseDurableObject, authenticated, command
from aidevos.durable.hosting.pulse import BEAT_EVERY, Pulse
from aidevos.observability import logs
from aidevos.process import watchdog
from aidevos.process.stack import background
from aidevos.process.stopping import stop_on_signals
from aidevos.settings import Settings
from aidevos.testing import ObjectKit


class MillState(msgspec.Struct):
    rounds: int = 0


class Mill(BaseDurableObject[MillState], type="mill"):
    @command(allow=authenticated())
    async def grind(self, how: str) -> None:
        await asyncio.sleep(2 * BEAT_EVERY)
        print("stalls", flush=True)
        getattr(self, f"_{how}")()

    def _spin(self) -> None:
        while True:
            pass

    def _block(self) -> None:
        time.sleep(3600)

    def _lock(self) -> None:
        """Keep the interpreter's lock, as any regular expression does while it searches."""
        re.match("(a+)+$", "a" * 100 + "!")


async def main() -> None:
    how, limit, watchdog.STOP_LIMIT = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    pulse = Pulse()
    async with AsyncExitStack() as stack:
        dog = watchdog.Watchdog(pulse, limit)
        stop_on_signals(stack, dog)
        await stack.enter_async_context(background(pulse.run))
        stack.enter_context(dog)
        kit = await stack.enter_async_context(ObjectKit(Mill))
        await kit.call("mill", "m", "grind", how=how)


if __name__ == "__main__":
    logs.configure(Settings(), "mill")
    uvloop.run(main())
