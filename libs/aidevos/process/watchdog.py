"""The watchdog of a process: a thread that ends the process when its event loop doesn't turn.

Promises: a method that never gives the loop back takes down its own process, never the fleet: the process ends, other
hosts take over its objects, and its supervisor starts a new one. Before that, the log names the method and shows the
stack. After SIGTERM or SIGINT, a loop that doesn't turn is given less time.

A call into C that keeps the interpreter's lock, such as an endless regular expression, stops this thread as well. The
thread therefore also winds a timer of the operating system, which counts the CPU time of the process only. When that
runs out, the process writes the stacks of its threads and dies by SIGVTALRM.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

from aidevos.durable.hosting.pulse import Pulse, StallTimer
from aidevos.durable.objects.object import BaseDurableObject

log = logging.getLogger(__name__)
LOOK_EVERY = 0.5
# The longest stall in seconds once the process was asked to stop.
STOP_LIMIT = 5.0
# Seconds by which the operating system's timer exceeds the limit, so that this thread comes first if it can run.
LOCKED_FOR = 1.0
# The exit status: an internal software error, in the words of sysexits.h.
STATUS = 70


class Watchdog:
    """Watches the loop of the thread that enters it. `limit` is the longest stall in seconds.

    `end` ends the process with a status.
    """

    def __init__(self, pulse: Pulse, limit: float, end: Callable[[int], object] = os._exit) -> None:
        self._pulse = pulse
        self._limit = limit
        self._end = end
        self._watched = threading.get_ident()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Self:
        faulthandler.register(signal.SIGVTALRM, sys.__stderr__ or 2, all_threads=True, chain=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        faulthandler.unregister(signal.SIGVTALRM)

    def hurry(self) -> None:
        """Allow less time from now on, because the process was asked to stop."""
        self._limit = min(self._limit, STOP_LIMIT)

    def _watch(self) -> None:
        timer = StallTimer(self._pulse)
        while True:
            signal.setitimer(signal.ITIMER_VIRTUAL, self._limit + LOCKED_FOR)
            if self._closed.wait(LOOK_EVERY):
                return
            stalled = timer.stalled()
            if stalled >= self._limit:
                self._report(stalled)
                self._end(STATUS)
                return

    def _report(self, stalled: float) -> None:
        frame = sys._current_frames().get(self._watched)
        stack = "".join(traceback.format_stack(frame))
        log.critical(
            "%s holds the event loop, which has not turned for %.1f seconds: the process ends",
            _name_method(frame),
            stalled,
            extra={"stack": stack},
        )


def _name_method(frame: FrameType | None) -> str:
    """Return the object's method that a stack is in as `<type>:<id>.<method>`, or its innermost function."""
    name = "something" if frame is None else f"{frame.f_code.co_filename}, {frame.f_code.co_name}"
    while frame is not None:
        # The outermost one wins: it was called, and called the others.
        object = frame.f_locals.get("self")
        if isinstance(object, BaseDurableObject):
            name = f"{object.object_type}:{object.id}.{frame.f_code.co_name}"
        frame = frame.f_back
    return name
