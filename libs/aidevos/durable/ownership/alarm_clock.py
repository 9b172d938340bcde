"""The clock of a process: it wakes each object when one of its alarms is due.

Promises: an alarm in a document of a type that this process owns is found, whoever wrote it: by a scan every
few seconds that looks ahead, and what is committed between two scans is known from memory. What is on time
rings at once. What is late, as after an outage, rings at a set rate, and nothing on time waits behind it. What
is kept in memory is bounded; the rest is found by a later scan.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable

from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import ALARM, EXPIRE
from aidevos.durable.objects.alarm import EXPIRY
from aidevos.durable.ownership.catalogue import Catalogue
from aidevos.durable.store.port import StoreError
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.environment import Environment
from aidevos.durable.turns.headers import Reply
from aidevos.durable.turns.request import Request
from aidevos.observability.metrics import ALARMS_WAITING
from aidevos.security.permissions import Principal

log = logging.getLogger(__name__)
SCAN_EVERY = 5.0
# How far a scan looks ahead: several scans may fail before anything is late.
HORIZON = 20.0
# How long before its alarm an object comes into memory.
WARM_UP = 1.0
# Seconds after its time from which an alarm is a late one.
LATE_AFTER = 2.0
CAPACITY = 100_000
# Late ones that are known at a time, of each type: so many, or as many as ring until the next scan but one.
LATE_ROOM = 1000
# How late ones bunch together, in seconds, and what a process that was busy may make up for.
TICK = 0.02
SLACK = 0.1
# The longest sleep, so that a clock that was set is noticed.
NAP = 1.0
AGAIN_AFTER = 1.0

Key = tuple[str, str]


class Schedule:
    """Which objects to wake, and when: at most `rate` late ones in a second, and `capacity` in all."""

    def __init__(self, rate: float, capacity: int = CAPACITY) -> None:
        self._rate = rate
        self._capacity = capacity
        self._times: dict[Key, float] = {}
        self._heap: list[tuple[float, Key]] = []
        self._late: deque[tuple[float, Key]] = deque()
        self._late_from = -math.inf

    def __len__(self) -> int:
        return len(self._times)

    def put(self, key: Key, at: float) -> bool:
        """Wake an object at this time, unless it is woken earlier anyway; whether there was room for it."""
        known = self._times.get(key)
        if known is not None and known <= at:
            return True
        if known is None and len(self._times) >= self._capacity:
            return False
        self._times[key] = at
        heapq.heappush(self._heap, (at, key))
        return True

    def pop(self, now: float, room: int) -> list[Key]:
        """Up to `room` objects that are to be woken now."""
        found: list[Key] = []
        while self._heap and self._heap[0][0] <= now and len(found) < room:
            at, key = heapq.heappop(self._heap)
            if self._times.get(key) != at:
                continue
            if at < now - LATE_AFTER:
                self._late.append((at, key))
            else:
                found.append(key)
                del self._times[key]
        self._late_from = max(self._late_from, now - SLACK)
        while self._late and self._late_from <= now and len(found) < room:
            at, key = self._late.popleft()
            if self._times.get(key) == at:
                found.append(key)
                del self._times[key]
                self._late_from += 1 / self._rate
        return found

    def next_at(self) -> float:
        """When something is to be woken next; infinity for never."""
        soonest = self._heap[0][0] if self._heap else math.inf
        return min(soonest, self._late_from + TICK) if self._late else soonest


class AlarmClock:
    """Rings the alarms of one process, as `principal`."""

    def __init__(self, environment: Environment, catalogue: Catalogue, principal: Principal) -> None:
        self._environment = environment
        self._catalogue = catalogue
        self._principal = principal
        self._schedule = Schedule(environment.limits.alarm_rate)
        self._ringing = 0
        self._stopped = False
        self._earlier = asyncio.Event()
        self._scan = asyncio.Event()

    async def run(self) -> None:
        """Ring what is due, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._earlier.clear()
            wait = NAP
            if self.ring_due():
                wait = min(max(self._schedule.next_at() - self._environment.clock.now(), 0.0), NAP)
            timer = loop.call_later(wait, self._earlier.set)
            await self._earlier.wait()
            timer.cancel()

    async def watch(self, types: Callable[[], Iterable[str]]) -> None:
        """Look for alarms of these types in the store, again and again, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._scan.clear()
            try:
                await self.scan(types(), HORIZON)
            except StoreError as error:
                log.warning("looking for alarms failed, trying again: %s", error)
            timer = loop.call_later(SCAN_EVERY, self._scan.set)
            await self._scan.wait()
            timer.cancel()

    def scan_soon(self) -> None:
        """Look for alarms now: there is a new type to look after."""
        self._scan.set()

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopped = True

    async def scan(self, types: Iterable[str], ahead: float) -> None:
        """Find what is late, as far as it can be dealt with soon, and what is due within `ahead` seconds.
        Raises `StoreError`."""
        now = self._environment.clock.now()
        late_room = max(LATE_ROOM, int(2 * SCAN_EVERY * self._environment.limits.alarm_rate))
        for type in types:
            late = await self._environment.store.list_due(type, -math.inf, now - LATE_AFTER, late_room)
            soon = await self._environment.store.list_due(type, now - LATE_AFTER, now + ahead, CAPACITY)
            for id, at in (*late, *soon):
                activation = self._catalogue.get(type, id)
                if activation is None:
                    self.expect(type, id, min(at, max(at - WARM_UP, now)))
                else:
                    self.note(activation, ahead)
        ALARMS_WAITING.set(len(self._schedule))

    def expect(self, type: str, id: str, at: float) -> None:
        """An object's document has an alarm at this time."""
        if self._schedule.put((type, id), at):
            self._earlier.set()

    def note(self, activation: Activation, ahead: float = HORIZON) -> None:
        """The alarms of an object in memory may have changed, some that are due within `ahead` seconds."""
        if activation.broken or activation.ringing or not activation.loaded:
            return
        found = activation.next_alarm()
        if found is not None and found[0] <= self._environment.clock.now() + ahead:
            self.expect(activation.type.name, activation.id, found[0])

    def begin(self, activation: Activation) -> None:
        """An object has come into memory: it may have done so for an alarm."""
        if activation.woken:
            activation.woken = False
            self.ring(activation)
        else:
            self.note(activation)

    def next_at(self) -> float:
        """When something is to ring next, as far as that is known; infinity for never."""
        return self._schedule.next_at()

    def ring_due(self) -> bool:
        """Wake everything whose time has come; whether this process is able to."""
        room = self._environment.limits.pending - self._ringing
        if self._stopped or room <= 0 or not self._environment.may_answer():
            return False
        for type, id in self._schedule.pop(self._environment.clock.now(), room):
            activation = self._catalogue.get(type, id)
            if activation is not None and activation.claimed:
                self.ring(activation)
            else:
                self._catalogue.wake(type, id, alarm=True)
        return True

    def ring(self, activation: Activation) -> None:
        """Put the earliest alarm of an object into its mailbox, if it is due; the next one follows it."""
        found = activation.next_alarm()
        if found is None or activation.broken or activation.ringing or self._stopped:
            return
        at, name = found
        if at > self._environment.clock.now():
            self.note(activation)
            return
        request = self._request(activation, name)
        activation.ringing = True
        self._ringing += 1
        try:
            activation.mailbox.put(request)
        except Failure:
            self._ended(activation)
            self.expect(activation.type.name, activation.id, self._environment.clock.now() + AGAIN_AFTER)

    def _request(self, activation: Activation, name: str) -> Request:
        def respond(answer: Reply | None) -> None:
            self._ended(activation)
            self.note(activation)
            self._earlier.set()

        return Request(
            activation.type,
            activation.id,
            activation.type.methods[EXPIRE if name == EXPIRY else ALARM],
            self._principal,
            {},
            key=None,
            fingerprint=b"",
            if_match=None,
            deadline=math.inf,
            chain=(),
            content_type=None,
            respond=respond,
            alarm=name,
        )

    def _ended(self, activation: Activation) -> None:
        activation.ringing = False
        self._ringing -= 1
