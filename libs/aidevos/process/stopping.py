"""How a process stops: on a signal, in order, and in time.

Promise: a process that was asked to stop ends, even if a thread of it waits for a server that doesn't answer. What it
has not acknowledged stays unacknowledged, as after `kill -9`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from types import FrameType
from typing import Any

from aidevos.process.watchdog import Watchdog

# Seconds in which a process ends once it has closed everything, once its start was interrupted, and once it has lost a
# server.
LEAVE_WITHIN, LEAVE_INTERRUPTED_WITHIN, LEAVE_LOST_WITHIN = 3.0, 1.0, 1.5


def stop_on_signals(stack: AsyncExitStack, watchdog: Watchdog) -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set, until the stack is closed."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
        stack.callback(loop.remove_signal_handler, number)
        # The loop is woken through a file descriptor. Python's own handler runs even if the loop doesn't turn.
        signal.signal(number, lambda *_: watchdog.hurry())
        signal.siginterrupt(number, False)
    return stop


@contextmanager
def stop_signalled() -> Iterator[asyncio.Event]:
    """Yield an event that SIGTERM and SIGINT set, in addition to what already handles them.

    Only the main thread gets signals; in others, nothing sets the event.
    """
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stop.set)
        handler = handlers[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in handlers:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


async def wait_for_first(*events: asyncio.Event) -> None:
    """Return when one of these events is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def finish_unless(event: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Run work in this task, and cancel it when the event is set. Return True if it has finished."""
    loop = asyncio.get_running_loop()
    waiting = asyncio.ensure_future(event.wait())
    try:
        async with asyncio.timeout(None) as limit:

            def expire(wait: asyncio.Future[Any]) -> None:
                if not wait.cancelled():
                    limit.reschedule(loop.time())

            waiting.add_done_callback(expire)
            await work
    except TimeoutError:
        if not limit.expired():
            raise
        return False
    finally:
        waiting.cancel()
    return True


def leave_within(seconds: float, status: int = 0) -> None:
    """End this process with a status after these seconds, unless it has ended by itself.

    Python would wait for all threads of the driver's pool, and those for a server that may never answer.
    """
    timer = threading.Timer(seconds, os._exit, (status,))
    timer.daemon = True
    timer.start()
