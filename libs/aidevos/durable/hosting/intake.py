"""The intake of a host: requests that have arrived and wait to be dispatched.

Promises: requests wait here, where their number, size and age are known, and not in a socket. Callers take turns, and
so do the objects that one caller addresses, so a burst delays nothing but itself. Requests of one caller to one object
keep their order. A request that would wait too long for its deadline is refused with `overloaded` and a time for the
next attempt, before it has cost more than its reading.

Each turn of the loop dispatches for a short time only, and less while many requests arrive, because those that wait in
the socket are in nobody's sight.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Iterator

from aidevos.contracts import envelope
from aidevos.security.delegations import SCHEME

# Requests of one caller to one object that are dispatched together; they share a commit.
QUANTUM = 8
# Seconds for which one turn of the loop dispatches.
SLICE = 0.003
# While more requests than this arrive in one turn of the loop, it dispatches only this many.
MANY, FEW = 16, 2
# Share of its time that a request may wait here.
PATIENCE = 0.8
SWEEP_EVERY = 0.25
PACE = 0.002
# A caller with more waiting requests than this sends a burst.
SMALL = 500
# Waiting times up to this many seconds are not compared with deadlines.
SHORT = 0.1
SHARE_OF_BURST, SHARE_OF_CALLER = 0.75, 0.875
# Requests per second that are assumed until the first measurement, and seconds that a measurement takes.
FIRST_RATE, MEASURE_FOR = 2000.0, 0.25
_find_deadline = re.compile(rb"\r\n%s: ([0-9]{1,15})\r\n" % envelope.DEADLINE.encode()).search
_AUTHORIZATION = b"\r\n%s: " % envelope.AUTHORIZATION.encode()
_DELEGATION = SCHEME.encode()


class Arrival:
    """A request as it was read. Times are in seconds on the event loop's clock.

    `caller` is the credential that it shows, and `object` the subject without the method. All calls of services on
    behalf of users count as those of one caller.
    """

    __slots__ = ("arrived", "caller", "data", "default_deadline", "headers", "object", "refused", "reply", "subject")

    def __init__(
        self, subject: bytes, reply: bytes, data: bytes, headers: bytes, arrived: float, default_deadline: float
    ) -> None:
        self.subject = subject
        self.reply = reply
        self.data = data
        self.headers = headers
        self.arrived = arrived
        self.default_deadline = default_deadline
        self.caller = _credential(headers)
        self.object = subject[: subject.rfind(b".")]
        self.refused = False

    @property
    def size(self) -> int:
        return len(self.data) + len(self.headers)

    @property
    def patience(self) -> float:
        """The seconds that it may wait here."""
        stated = _find_deadline(self.headers)
        return (int(stated[1]) / 1000 if stated else self.default_deadline) * PATIENCE


def _credential(headers: bytes) -> bytes:
    start = headers.find(_AUTHORIZATION)
    if start < 0:
        return b""
    start += len(_AUTHORIZATION)
    return _DELEGATION if headers.startswith(_DELEGATION, start) else headers[start : headers.find(b"\r\n", start)]


class FairQueue:
    """Arrivals by caller and object."""

    def __init__(self) -> None:
        self._callers: dict[bytes, _Objects] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Arrival]:
        return (item for objects in self._callers.values() for item in objects)

    def put(self, item: Arrival) -> None:
        objects = self._callers.get(item.caller)
        if objects is None:
            objects = self._callers[item.caller] = _Objects()
        objects.put(item)
        self._length += 1

    def count_waiting(self, item: Arrival) -> tuple[int, int]:
        """Return how many requests of the same caller wait, and how many of these for the same object."""
        objects = self._callers.get(item.caller)
        return (objects.length, objects.count(item.object)) if objects else (0, 0)

    def ahead_of(self, item: Arrival) -> int:
        """Return about how many requests are dispatched before one that arrives now."""
        waiting, of_object = self.count_waiting(item)
        return min(self._length, waiting * len(self._callers)) if of_object else len(self._callers)

    def take(self, count: int) -> list[Arrival]:
        """Return up to `count` requests of the next caller to its next object. The queue must not be empty."""
        caller = next(iter(self._callers))
        objects = self._callers.pop(caller)
        items = objects.take(count)
        if objects:
            self._callers[caller] = objects
        self._length -= len(items)
        return items


class _Objects:
    """The arrivals of one caller. Every second turn is that of an object that has had none since it began to wait."""

    def __init__(self) -> None:
        self.length = 0
        self._new: dict[bytes, deque[Arrival]] = {}
        self._old: dict[bytes, deque[Arrival]] = {}
        self._was_new = False

    def __bool__(self) -> bool:
        return bool(self._new or self._old)

    def __iter__(self) -> Iterator[Arrival]:
        return (item for queues in (self._new, self._old) for queue in queues.values() for item in queue)

    def count(self, object: bytes) -> int:
        return len(self._old.get(object) or self._new.get(object) or ())

    def put(self, item: Arrival) -> None:
        self.length += 1
        queue = self._old.get(item.object) or self._new.get(item.object)
        if queue is None:
            self._new[item.object] = deque((item,))
        else:
            queue.append(item)

    def take(self, count: int) -> list[Arrival]:
        self._was_new = bool(self._new) and not (self._was_new and self._old)
        queues = self._new if self._was_new else self._old
        object = next(iter(queues))
        queue = queues.pop(object)
        items = [queue.popleft() for _ in range(min(count, len(queue)))]
        if queue:
            self._old[object] = queue
        self.length -= len(items)
        return items


class Intake:
    """The requests of one host that wait.

    `dispatch` begins a request, and `refuse` answers one that has waited too long. Nothing is dispatched while
    `is_congested` returns True.
    """

    def __init__(
        self,
        dispatch: Callable[[Arrival], None],
        refuse: Callable[[Arrival], None],
        is_congested: Callable[[], bool],
    ) -> None:
        self._dispatch = dispatch
        self._refuse = refuse
        self._is_congested = is_congested
        self._loop = asyncio.get_running_loop()
        self._queue = FairQueue()
        self._arrived = 0
        self._working = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._rate = FIRST_RATE
        self._dispatched = 0
        self._measured_at = 0.0
        self._swept_at = 0.0

    def expected_wait(self, item: Arrival) -> float:
        """Return the seconds after which a request that arrives now would be dispatched."""
        return self._queue.ahead_of(item) / self._rate

    def is_hopeless(self, item: Arrival) -> bool:
        """Return True if a request that arrives now would wait too long for its deadline."""
        wait = self.expected_wait(item)
        return wait > SHORT and wait > item.patience

    def share(self, item: Arrival) -> float:
        """Return the share of the host's room that a request may find in use.

        Callers without a burst, and objects without one, find the room that is closed to a burst.
        """
        waiting, of_object = self._queue.count_waiting(item)
        if waiting <= SMALL:
            return 1.0
        return SHARE_OF_CALLER if not of_object else SHARE_OF_BURST

    def put(self, item: Arrival) -> None:
        """Dispatch a request soon."""
        self._queue.put(item)
        self._arrived += 1
        if not self._working:
            self._working = True
            self._empty.clear()
            self._dispatched, self._measured_at = 0, self._loop.time()
            self._loop.call_soon(self._work)

    async def join(self) -> None:
        """Return when no request waits."""
        await self._empty.wait()

    def _work(self) -> None:
        now = self._loop.time()
        self._measure(now)
        if now - self._swept_at > SWEEP_EVERY:
            self._swept_at = now
            self._refuse_late(now)
        if self._is_congested():
            self._loop.call_later(PACE, self._work)
            return
        busy, self._arrived = self._arrived > MANY, 0
        while self._queue:
            for item in self._queue.take(FEW if busy else QUANTUM):
                self._dispatched += 1
                if not item.refused:
                    self._dispatch(item)
            if busy or self._loop.time() - now > SLICE:
                break
        if self._queue:
            self._loop.call_soon(self._work)
        else:
            self._working = False
            self._empty.set()

    def _measure(self, now: float) -> None:
        elapsed = now - self._measured_at
        if elapsed > MEASURE_FOR:
            self._rate = max(1.0, (self._rate + self._dispatched / elapsed) / 2)
            self._dispatched, self._measured_at = 0, now

    def _refuse_late(self, now: float) -> None:
        for item in self._queue:
            if not item.refused and now - item.arrived > item.patience:
                item.refused = True
                self._refuse(item)
