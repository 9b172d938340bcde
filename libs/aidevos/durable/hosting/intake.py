"""The intake of a host: requests that have arrived and wait to be dispatched.

Promises: requests wait here, where their number, size and age are known, and not in a socket. Callers take turns, and
so do the objects that one caller addresses, so a burst delays nothing but itself. Requests of one caller to one object
keep their order. A request that finds no room, or would wait too long for its deadline, is refused with a time for the
next attempt, before it has cost more than its reading.

Each turn of the loop dispatches for a short time only, and less while many requests arrive: nobody can tell what those
are that still wait in the socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import chain

from aidevos.contracts import envelope
from aidevos.durable.hosting.fair_queue import Arrival, FairQueue, Flows
from aidevos.observability.metrics import PENDING_REQUESTS
from aidevos.security.delegations import SCHEME

# Requests of one caller to one object that are dispatched together; they share a commit.
QUANTUM = 8
# Seconds for which one turn of the loop dispatches.
SLICE = 0.003
# While more requests than this arrive in one turn of the loop, it dispatches only a few.
MANY, FEW = 16, 4
# Share of its deadline that a request may wait here. Shorter waits than this many seconds are not looked at.
PATIENCE, SHORT = 0.8, 0.1
# Digits of a deadline in milliseconds. A longer one is judged when the request is dispatched.
MOST_DIGITS = 12
SWEEP_EVERY = 0.25
# Seconds between two looks at the waiting requests during a handover.
JOIN_EVERY = 0.01
# Pause while the host is congested.
PACE = 0.002
# Requests per second that are assumed until the first measurement, and seconds that a measurement takes.
FIRST_RATE, MEASURE_FOR = 2000.0, 0.25
# A caller with more waiting requests than this sends a burst. It may fill this share of the room with requests to
# objects for which others wait already, and with those to further objects.
SMALL = 500
BURST_SHARE, CALLER_SHARE = 0.75, 0.875
_AUTHORIZATION = b"\r\n%s: " % envelope.AUTHORIZATION.encode()
_DEADLINE = b"\r\n%s: " % envelope.DEADLINE.encode()
_DELEGATION = SCHEME.encode()


class Intake:
    """The requests of one host: at most `room` of them, with at most `room_bytes`, from their arrival to their answer.

    `dispatch` begins a request, and `refuse(reply, wait)` answers one that can't be taken or has waited too long.
    Nothing is dispatched while `is_congested` returns True. `default_deadline` is in seconds.
    """

    def __init__(
        self,
        dispatch: Callable[[Arrival], None],
        refuse: Callable[[bytes, float], None],
        is_congested: Callable[[], bool],
        *,
        room: int,
        room_bytes: int,
        default_deadline: float,
    ) -> None:
        self._dispatch = dispatch
        self._refuse = refuse
        self._is_congested = is_congested
        self._room = room
        self._room_bytes = room_bytes
        self._default_deadline = default_deadline
        self._loop = asyncio.get_running_loop()
        # While few requests arrive, all of them are dispatched in the next turn of the loop, and need no queue.
        self._few: list[Arrival] = []
        self._queue = FairQueue()
        self._unanswered = 0
        self._unanswered_bytes = 0
        self._arrived = 0
        self._working = False
        self._rate = FIRST_RATE
        self._dispatched = 0
        self._measured_at = 0.0
        self._swept_at = 0.0
        PENDING_REQUESTS.read_from(self, lambda intake: {(): intake._unanswered})

    def receive(self, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        """Dispatch a request soon, or refuse it."""
        self._arrived += 1
        item = Arrival(subject, reply, data, headers, self._loop.time())
        if self._queue.length or len(self._few) >= MANY:
            self._line_up()
            self._receive(item)
        elif self._has_room(item, self._room):
            self._few.append(item)
            self._accept(item)
        else:
            self._refuse(reply, 0.0)

    def _receive(self, item: Arrival) -> None:
        """Put a request into the queue, or refuse it."""
        _address(item)
        flows = self._queue.of(item.caller)
        wait, patience = self._expected_wait(flows, item.target), self._patience(item.headers)
        if not self._has_room(item, self._room_for(flows, item.target)) or (wait > SHORT and wait > patience):
            self._refuse(item.reply, wait)
            return
        item.refuse_at = item.arrived + patience
        self._queue.put(item)
        self._accept(item)

    def _has_room(self, item: Arrival, room: float) -> bool:
        return self._unanswered < room and self._unanswered_bytes + item.size <= self._room_bytes

    def _accept(self, item: Arrival) -> None:
        self._unanswered += 1
        self._unanswered_bytes += item.size
        if not self._working:
            self._start()

    def _line_up(self) -> None:
        """Put the few requests into the queue, because there are more."""
        for item in self._few:
            _address(item)
            item.refuse_at = item.arrived + self._patience(item.headers)
            self._queue.put(item)
        self._few.clear()

    def close(self) -> None:
        """Count no request as pending any more: nobody waits for an answer of this host."""
        PENDING_REQUESTS.forget(self)

    def settle(self, item: Arrival) -> None:
        """Give up the room of a request that was answered."""
        self._unanswered -= 1
        self._unanswered_bytes -= item.size

    async def join(self, prefix: bytes = b"") -> None:
        """Return when no request waits on a subject that begins with `prefix`."""
        while any(item.subject.startswith(prefix) for item in chain(self._few, self._queue)):  # noqa: ASYNC110
            await asyncio.sleep(JOIN_EVERY)

    def _expected_wait(self, flows: Flows | None, target: bytes) -> float:
        """Return the seconds after which a request that arrives now would be dispatched."""
        if flows is None or target not in flows:
            return self._queue.callers / self._rate
        return min(self._queue.length, flows.length * self._queue.callers) / self._rate

    def _room_for(self, flows: Flows | None, target: bytes) -> float:
        if flows is None or flows.length <= SMALL:
            return self._room
        return self._room * (BURST_SHARE if target in flows else CALLER_SHARE)

    def _patience(self, headers: bytes) -> float:
        """Return the seconds that a request may wait here."""
        stated = _value(headers, _DEADLINE)
        is_number = stated.isdigit() and len(stated) <= MOST_DIGITS
        return (int(stated) / 1000 if is_number else self._default_deadline) * PATIENCE

    def _start(self) -> None:
        self._working = True
        self._dispatched, self._measured_at = 0, self._loop.time()
        self._loop.call_soon(self._work)

    def _work(self) -> None:
        now = self._loop.time()
        self._measure(now)
        if now - self._swept_at > SWEEP_EVERY:
            self._swept_at = now
            self._refuse_late(now)
        busy, self._arrived = self._arrived > MANY, 0
        if self._is_congested():
            self._line_up()
            self._loop.call_later(PACE, self._work)
            return
        self._dispatch_few(now)
        while self._queue.length:
            for item in self._queue.take(FEW if busy else QUANTUM):
                self._dispatched += 1
                if not item.refused:
                    self._dispatch(item)
            if busy or self._loop.time() - now > SLICE:
                break
        if self._queue.length:
            self._loop.call_soon(self._work)
        else:
            self._working = False

    def _dispatch_few(self, began: float) -> None:
        few, self._few = self._few, []
        for place, item in enumerate(few):
            if place % QUANTUM == QUANTUM - 1 and self._loop.time() - began > SLICE:
                self._few = few[place:] + self._few
                self._line_up()
                return
            self._dispatched += 1
            self._dispatch(item)

    def _measure(self, now: float) -> None:
        elapsed = now - self._measured_at
        if elapsed > MEASURE_FOR:
            self._rate = max(1.0, (self._rate + self._dispatched / elapsed) / 2)
            self._dispatched, self._measured_at = 0, now

    def _refuse_late(self, now: float) -> None:
        for item in self._queue:
            if now > max(item.refuse_at, item.arrived + SHORT) and not item.refused:
                item.refused = True
                self.settle(item)
                self._refuse(item.reply, self._queue.length / self._rate)


def _address(item: Arrival) -> None:
    """Note whose request it is, and to which object."""
    item.caller, item.target = _credential(item.headers), item.subject[: item.subject.rfind(b".")]


def _credential(headers: bytes) -> bytes:
    """Return what tells the caller of a request from others: all calls of services on behalf of users are one's."""
    shown = _value(headers, _AUTHORIZATION)
    return _DELEGATION if shown.startswith(_DELEGATION) else shown


def _value(headers: bytes, name: bytes) -> bytes:
    start = headers.find(name)
    return headers[start + len(name) : headers.find(b"\r\n", start + 2)] if start >= 0 else b""
