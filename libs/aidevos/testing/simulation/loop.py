"""An event loop with virtual time, on which several simulated processes run.

Promises: a run depends on nothing but its seed. Time stands still while a callback runs, and jumps to the next timer
when none is ready. Each process runs its callbacks in the order that asyncio promises; which process goes on, and where
one is held up between two callbacks, is random. A paused process runs nothing, and its timers fire late. A killed one
never runs again, not even its `finally` blocks.

A process that was paused finds what has arrived meanwhile as a real one finds it in its sockets: in order for each
connection, but one connection after another, in any order, and the timers last.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar, cast

T = TypeVar("T")
# A run that goes on for longer, in virtual seconds, or with more callbacks, can't end.
LONGEST, MOST = 3600.0, 500_000


class Stuck(Exception):
    """Raised when nothing can ever happen again, or far too much happens."""


class Handle:
    """A callback that waits for its turn or its time, like asyncio's but lighter.

    `source` is the connection from which it brings something, or None for a timer.
    """

    __slots__ = ("_when", "args", "callback", "cancelled_", "context", "source")

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context,
        when: float = 0.0,
        source: object = None,
    ) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.cancelled_ = False
        self.source = source
        self._when = when

    def cancel(self) -> None:
        self.cancelled_ = True

    def cancelled(self) -> bool:
        return self.cancelled_

    def when(self) -> float:
        return self._when


class Process:
    """A simulated process: the callbacks that run in its context, and what its clocks and its fate are.

    `stalls` is the probability that it is held up after a callback, and `stalled_for` returns for how long.
    """

    def __init__(self, loop: VirtualLoop, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.alive = True
        self.context: Context = copy_context()
        self.context.run(_PROCESS.set, self)
        self.stalls = 0.0
        self.stalled_for: Callable[[], float] = lambda: 0.0
        # Seconds by which its wall clock differs from that of the world.
        self.clock_offset = 0.0
        self.ready: deque[Handle] = deque()
        # What has arrived during a pause, by connection; timers are under None.
        self._arrived: dict[object, list[Handle]] = {}
        self._loop = loop
        self.holds = self._pauses = 0
        self.queued = False
        # Called after each callback until it returns False.
        self.after_callback: Callable[[], bool] | None = None
        # The beginning of the name of a moment, and what is called once when the process reaches one.
        self.trap: tuple[str, Callable[[], object]] | None = None
        # What a killed process had: nothing of it may be closed while the world lives.
        self._remains: list[object] = []

    @property
    def paused(self) -> bool:
        """True if it doesn't run at the moment."""
        return self.holds > 0

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine in this process."""
        return self._loop.create_task(work, context=self.context.copy())

    def call(self, callback: Callable[..., object], *args: object, delay: float = 0.0) -> None:
        """Call a function in this process."""
        self._loop.call_later(delay, callback, *args, context=self.context)

    def pause(self, seconds: float) -> None:
        """Run nothing for some seconds."""
        self.holds += 1
        self._loop.world.call(self._end_pause, self._pauses, delay=seconds)

    def resume(self) -> None:
        """End all pauses."""
        self._pauses += 1
        self.holds = 0
        self._go_on()

    def kill(self) -> None:
        """Run nothing ever again."""
        self.alive = False
        self._remains += [*self.ready, self._arrived, *asyncio.all_tasks(self._loop)]
        self.ready.clear()
        self._arrived = {}

    def reach(self, moment: str) -> None:
        """Note that the process has reached a moment, such as that it has sent a message."""
        if self.trap is not None and moment.startswith(self.trap[0]):
            call, self.trap = self.trap[1], None
            call()

    def keep(self, remains: object) -> None:
        """Keep something that belongs to this process, which was killed."""
        self._remains.append(remains)

    def wake(self) -> None:
        """Go on with what is ready, unless the process is paused."""
        if not self.queued and not self.holds and self.ready:
            self.queued = True
            self._loop.runnable.append(self)

    def take_later(self, handle: Handle) -> None:
        """Keep a callback whose time has come for the end of a pause, or for ever if the process was killed."""
        if self.alive:
            self._arrived.setdefault(handle.source, []).append(handle)
        else:
            self.keep(handle)

    def run_some(self) -> None:
        """Run what is ready now, up to a point at which the process is held up."""
        self.queued = False
        loop, ready = self._loop, self.ready
        left = len(ready)
        while left and ready and not self.holds:
            left -= 1
            handle = ready.popleft()
            if handle.cancelled_:
                continue
            loop.callbacks += 1
            try:
                handle.context.run(handle.callback, *handle.args)
            except Exception as error:
                loop.call_exception_handler({"message": f"{handle.callback!r} failed", "exception": error})
            if self.after_callback is not None and not self.after_callback():
                self.after_callback = None
            if self.stalls and loop.rng.random() < self.stalls:
                self.pause(self.stalled_for())
        loop.trace = hash((loop.trace, self.number, loop.now, loop.callbacks))
        if ready and not self.holds and not self.queued:
            self.queued = True
            loop.runnable.append(self)

    def _end_pause(self, pauses: int) -> None:
        if pauses == self._pauses:
            self.holds -= 1
            if not self.holds:
                self._go_on()

    def _go_on(self) -> None:
        """Take what has arrived during a pause."""
        arrived, self._arrived = self._arrived, {}
        timers = arrived.pop(None, [])
        connections = list(arrived.values())
        self._loop.rng.shuffle(connections)
        for handles in (*connections, timers):
            self.ready.extend(handles)
        if self.alive:
            self.wake()


_PROCESS: ContextVar[Process] = ContextVar("simulated process")


class _Task(asyncio.Task[T]):
    """A task whose hash, and so whose order in a set, is the same in each run."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class VirtualLoop(asyncio.AbstractEventLoop):
    """The loop of one run. `rng` makes its choices, and `trace` identifies what has happened so far."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.now = 0.0
        self.trace = 0
        self.callbacks = 0
        self.runnable: list[Process] = []
        self.failures: list[dict[str, Any]] = []
        self._timers: list[tuple[float, int, Process, Handle]] = []
        self._numbers = 0
        self._processes = 0
        self._running = self._closed = False
        # What happens outside all processes: the servers, the network and the faults.
        self.world = self.process("world")

    def process(self, name: str) -> Process:
        """Return a new process."""
        self._processes += 1
        return Process(self, name, self._processes)

    def time(self) -> float:
        return self.now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        context = context or copy_context()
        handle = Handle(callback, args, context)
        process = context.get(_PROCESS, self.world)
        if not process.alive:
            process.keep(handle)
            return handle
        process.ready.append(handle)
        if not process.queued and not process.holds:
            process.queued = True
            self.runnable.append(process)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        context = context or copy_context()
        handle = Handle(callback, args, context, when)
        self._numbers += 1
        heapq.heappush(self._timers, (when, self._numbers, context.get(_PROCESS, self.world), handle))
        return handle

    def arrive_at(
        self, when: float, process: Process, source: object, callback: Callable[..., object], *args: Any
    ) -> None:
        """Call a function in a process when something arrives there over a connection."""
        self._numbers += 1
        handle = Handle(callback, args, process.context, when, source)
        heapq.heappush(self._timers, (when, self._numbers, process, handle))

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> asyncio.Task[Any]:
        self._numbers += 1
        # asyncio asks for the hash while it makes the task.
        task = _Task.__new__(_Task)
        task.number = self._numbers
        task.__init__(coro, loop=self, name=name or "task", context=context)  # type: ignore[misc]
        return task

    def run_until_complete(self, future: Any) -> Any:
        """Run until a task of the world has ended. Raises `Stuck`."""
        task = future if asyncio.isfuture(future) else self.world.start(cast(Any, future))
        self._running = True
        asyncio._set_running_loop(self)
        runnable, draw = self.runnable, self.rng.random
        try:
            while not task.done():
                if not runnable:
                    self._take_next()
                elif len(runnable) == 1:
                    runnable.pop().run_some()
                else:
                    index = int(draw() * len(runnable))
                    process = runnable[index]
                    runnable[index] = runnable[-1]
                    runnable.pop()
                    process.run_some()
        finally:
            asyncio._set_running_loop(None)
            self._running = False
        return task.result()

    def _take_next(self) -> None:
        """Let time jump to the next timer. Raises `Stuck`."""
        timers = self._timers
        while timers:
            when, _, process, handle = heapq.heappop(timers)
            if handle.cancelled_:
                continue
            if when > self.now:
                self.now = when
                if when > LONGEST or self.callbacks > MOST:
                    break
            if process.holds or not process.alive:
                process.take_later(handle)
            else:
                process.ready.append(handle)
                process.run_some()
            return
        raise Stuck(f"after {self.now:.1f} virtual seconds and {self.callbacks} callbacks")

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep an error that no code has handled."""
        if not self._closed:
            self.failures.append(context)

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._closed

    def get_debug(self) -> bool:
        return False

    def close(self) -> None:
        """Forget everything. What is closed from now on has no effect."""
        self._closed = True
        for _, _, _, handle in self._timers:
            handle.cancel()


def new_loop(rng: random.Random) -> VirtualLoop:
    """Return the loop of one run. It has no sockets, subprocesses, signals and threads."""
    return VirtualLoop(rng)  # type: ignore[abstract]
