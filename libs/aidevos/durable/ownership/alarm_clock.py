"""The alarm clock of a process, which wakes each object when one of its alarms is due.

Promises: every alarm in a partition that this process owns is found, whichever process wrote it. A scan of the store
looks ahead every few seconds, and alarms that are committed between two scans are scheduled from memory. Alarms
that are on time ring at once. Late alarms, as after an outage, ring at a set rate, and alarms that are on time never
wait behind them. The schedule in memory is bounded; a later scan finds the rest.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial

from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import ALARM, EXPIRE
from aidevos.durable.base.beats import until_beat
from aidevos.durable.objects.alarm import EXPIRY, Scheduled
from aidevos.durable.ownership.catalogue import Catalogue
from aidevos.durable.store.port import StoreError
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.environment import Environment
from aidevos.durable.turns.headers import Reply
from aidevos.durable.turns.request import Request
from aidevos.observability import tracing
from aidevos.observability.tracing import Segment, TraceContext
from aidevos.security.permissions import Principal

log = logging.getLogger(__name__)
SCAN_EVERY = 5.0
# Seconds that a scan looks ahead. Several scans may fail before an alarm is late.
HORIZON = 20.0
# An object is loaded this many seconds before its alarm.
WARM_UP = 1.0
# An alarm is late from this many seconds after its time.
LATE_AFTER = 2.0
CAPACITY = 100_000
# A scan reads up to this many late alarms of a type, or as many as ring in two scan intervals if that is more.
LATE_LIMIT = 1000
# Late alarms that are set aside in one step.
LATE_AT_ONCE = 1000
# Late alarms are released at this interval, in seconds.
LATE_INTERVAL = 0.02
# A process that was busy makes up for at most this many seconds of the rate.
CATCH_UP_LIMIT = 0.1
# The longest sleep, in seconds, so that a change of the system clock is noticed.
LONGEST_SLEEP = 1.0
RETRY_AFTER = 1.0

Key = tuple[str, str]


class Schedule:
    """The times at which objects must be woken: at most `rate` late ones per second, and `capacity` in all.

    A late one for which `is_ours` returns False is dropped, and doesn't count.
    """

    def __init__(
        self, rate: float, capacity: int = CAPACITY, is_ours: Callable[[Key], bool] = lambda key: True
    ) -> None:
        self._rate = rate
        self._is_ours = is_ours
        self._capacity = capacity
        self._times: dict[Key, float] = {}
        self._heap: list[tuple[float, Key]] = []
        self._late: deque[tuple[float, Key]] = deque()
        self._late_from = -math.inf

    def __len__(self) -> int:
        return len(self._times)

    def put(self, key: Key, at: float) -> bool:
        """Schedule an object, unless it is scheduled earlier already. Return False if there is no room."""
        known = self._times.get(key)
        if known is not None and known <= at:
            return True
        if known is None and len(self._times) >= self._capacity:
            return False
        self._times[key] = at
        heapq.heappush(self._heap, (at, key))
        return True

    def pop(self, now: float, room: int) -> list[Key]:
        """Remove and return up to `room` objects that must be woken now.

        There may be more of them, because one call looks at a limited number of late ones.
        """
        found: list[Key] = []
        late_before = len(self._late)
        while self._heap and self._heap[0][0] <= now and len(found) < room:
            if len(self._late) - late_before >= LATE_AT_ONCE:
                break
            at, key = heapq.heappop(self._heap)
            if self._times.get(key) != at:
                continue
            if at < now - LATE_AFTER:
                self._late.append((at, key))
            else:
                found.append(key)
                del self._times[key]
        # It is further ahead only where the system clock has gone back.
        self._late_from = min(max(self._late_from, now - CATCH_UP_LIMIT), now + 1 / self._rate)
        while self._late and self._late_from <= now and len(found) < room:
            at, key = self._late.popleft()
            if self._times.get(key) == at:
                del self._times[key]
                if self._is_ours(key):
                    found.append(key)
                    self._late_from += 1 / self._rate
        return found

    def next_at(self) -> float:
        """Return the time of the next wake-up, or infinity."""
        soonest = self._heap[0][0] if self._heap else math.inf
        return min(soonest, self._late_from + LATE_INTERVAL) if self._late else soonest


class AlarmClock:
    """Rings the alarms of one process. `principal` is the caller of their handlers."""

    def __init__(self, environment: Environment, catalogue: Catalogue, principal: Principal) -> None:
        self._environment = environment
        self._catalogue = catalogue
        self._principal = principal
        self._schedule = Schedule(environment.limits.alarm_rate, is_ours=self._is_ours)
        self._ringing = 0
        self._stopped = False
        self._rescheduled = asyncio.Event()
        self._scan_requested = asyncio.Event()
        # Partitions by type that were taken since the last scan.
        self._taken: dict[str, list[int]] = {}

    async def run(self) -> None:
        """Ring due alarms until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._rescheduled.clear()
            wait = longest = until_beat(LONGEST_SLEEP)
            if await self._ring_all_due():
                wait = min(max(self._schedule.next_at() - self._environment.clock.now(), 0.0), longest)
            timer = loop.call_later(wait, self._rescheduled.set)
            await self._rescheduled.wait()
            timer.cancel()

    async def keep_scanning(self) -> None:
        """Scan the store for alarms until cancelled.

        Partitions that this process has just taken are scanned at once, and all of them every `SCAN_EVERY` seconds.
        """
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            wanted, self._taken = self._taken, {}
            self._scan_requested.clear()
            if loop.time() >= due:
                due = loop.time() + SCAN_EVERY
                partitions = self._environment.partitions
                wanted = {type: partitions.served(type) for type in self._environment.registry.types}
            try:
                await self.scan(wanted, HORIZON)
            except StoreError as error:
                log.warning("scanning for alarms failed, trying again: %s", error)
            timer = loop.call_at(due, self._scan_requested.set)
            await self._scan_requested.wait()
            timer.cancel()

    def scan_soon(self, type: str, partitions: Iterable[int]) -> None:
        """Request a scan of partitions that this process has just taken."""
        self._taken.setdefault(type, []).extend(partitions)
        self._scan_requested.set()

    def stop(self) -> None:
        """Ring no further alarm."""
        self._stopped = True

    async def scan(self, wanted: Mapping[str, Collection[int]], ahead: float) -> None:
        """Schedule alarms of these partitions by type that are due within `ahead` seconds, and some of the late ones.

        As many late ones are read as can ring soon. Raises `StoreError`.
        """
        now = self._environment.clock.now()
        late_limit = max(LATE_LIMIT, int(2 * SCAN_EVERY * self._environment.limits.alarm_rate))
        store = self._environment.store
        for type, partitions in wanted.items():
            found = await store.list_due(type, partitions, -math.inf, now + ahead, late_limit)
            if len(found) == late_limit:
                late = [each for each in found if each[1] <= now - LATE_AFTER]
                found = late + await store.list_due(type, partitions, now - LATE_AFTER, now + ahead, CAPACITY)
            await self._environment.slices.map(partial(self._schedule_found, type, now, ahead), found)

    def _schedule_found(self, type: str, now: float, ahead: float, found: tuple[str, float]) -> None:
        id, at = found
        activation = self._catalogue.get(type, id)
        if activation is None:
            self.schedule(type, id, min(at, max(at - WARM_UP, now)))
        else:
            self.schedule_next(activation, ahead)

    def schedule(self, type: str, id: str, at: float) -> None:
        """Schedule an object whose document has an alarm at this time."""
        if self._schedule.put((type, id), at):
            self._rescheduled.set()

    def schedule_next(self, activation: Activation, ahead: float = HORIZON) -> None:
        """Schedule the next alarm of an object in memory if it is due within `ahead` seconds."""
        if activation.broken or activation.ringing or not activation.loaded:
            return
        found = activation.next_alarm()
        if found is not None and found[0] <= self._environment.clock.now() + ahead:
            self.schedule(activation.type.name, activation.id, found[0])

    def ring_or_schedule(self, activation: Activation) -> None:
        """Ring or schedule the alarms of an object that was just loaded."""
        if activation.woken_for_alarm:
            activation.woken_for_alarm = False
            self.ring(activation)
        else:
            self.schedule_next(activation)

    @property
    def waiting(self) -> int:
        """The number of objects with alarms that are due or due soon."""
        return len(self._schedule)

    def next_at(self) -> float:
        """Return the time of the next scheduled alarm, or infinity."""
        return self._schedule.next_at()

    def ring_due(self) -> bool:
        """Wake every object whose alarm is due. Return False if this process can't ring alarms now."""
        for _ in self._ring_each():
            pass
        return self._can_ring()

    async def _ring_all_due(self) -> bool:
        await self._environment.slices.run(self._ring_each())
        return self._can_ring()

    def _is_ours(self, key: Key) -> bool:
        partitions = self._environment.partitions
        return partitions.serves(key[0], partitions.of(*key))

    def _can_ring(self) -> bool:
        room = self._environment.limits.pending - self._ringing
        return not self._stopped and room > 0 and self._environment.partitions.is_live()

    def _ring_each(self) -> Iterator[None]:
        while self._can_ring() and (found := self._schedule.pop(self._environment.clock.now(), 1)):
            ((type, id),) = found
            activation = self._catalogue.get(type, id)
            if activation is not None and activation.claimed:
                self.ring(activation)
            else:
                self._catalogue.wake(type, id, alarm=True)
            yield

    def ring(self, activation: Activation) -> None:
        """Put the earliest alarm of an object into its mailbox if it is due. The next one follows its answer."""
        found = activation.next_alarm()
        if found is None or activation.broken or activation.ringing or self._stopped:
            return
        if not self._environment.partitions.serves(activation.type.name, activation.partition):
            return
        at, name = found
        if at > self._environment.clock.now():
            self.schedule_next(activation)
            return
        request = self._request(activation, name)
        activation.ringing = True
        self._ringing += 1
        try:
            self._catalogue.put(activation, request)
        except Failure:
            self._on_answered(activation)
            self.schedule(activation.type.name, activation.id, self._environment.clock.now() + RETRY_AFTER)

    def _request(self, activation: Activation, name: str) -> Request:
        def respond(answer: Reply) -> None:
            self._on_answered(activation)
            self.schedule_next(activation)
            self._rescheduled.set()

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
            trace=_trace_of(activation.alarms[name]),
        )

    def _on_answered(self, activation: Activation) -> None:
        activation.ringing = False
        self._ringing -= 1


def _trace_of(alarm: Scheduled) -> TraceContext | None:
    """Return the trace of an alarm's turn: that of the turn that set it, or a new one that links to it."""
    if not alarm.ends_trace:
        return tracing.begin(alarm.trace or None)
    trace, cause = tracing.begin(None), tracing.parse(alarm.trace)
    if isinstance(trace, Segment) and cause is not None:
        trace.links = [cause]
    return trace
