"""A steady load of calls and tells on counters, registers and ledgers, and the check of everything that it has seen.

Requests begin at a steady rate, however long the others take. So those that meet a fault are as many as in real life.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from aidevos import DurableObjectClient, Failure
from aidevos.contracts import envelope, subjects
from aidevos.durable.base.tasks import cancel_and_wait
from aidevos.durable.client.connection import connect
from tests.support.histories import Operation, find_faults
from tests.support.host_processes import eventually
from tests.support.many_hosts import Place
from tests.support.servers import Servers

# Requests per second, and objects of each kind.
RATE = 150
COUNTERS, REGISTERS, TELLERS = 96, 32, 6
TELL_EVERY = 0.05
ALARM_IN = 0.7
# The alarms that can be outstanding when the load ends.
LAST_ALARMS = 50


class Request(NamedTuple):
    """A request, with its times on the clock `time.monotonic`. `failed` is an error code, or empty."""

    place: Place
    begun: float
    ended: float
    failed: str = ""

    @property
    def latency(self) -> float:
        return self.ended - self.begun


@dataclass
class Register:
    """What clients know of a register, or of a counter."""

    id: str = field(default_factory=lambda: secrets.token_hex(6))
    sent: list[int] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)

    @property
    def latest(self) -> int:
        """The value that the last answer showed."""
        last = self.operations[-1] if self.operations else None
        return 0 if last is None else last.seen if last.written is None else last.written


class Load:
    """The load of one round. `tells` publishes stored tells, with a caller's `headers`."""

    def __init__(
        self, caller: DurableObjectClient, tells: JetStreamContext, headers: dict[str, str], random: random.Random
    ) -> None:
        self.requests: list[Request] = []
        self._caller = caller
        self._tells = tells
        self._headers = headers
        self._random = random
        self._counters = [Register() for _ in range(COUNTERS)]
        self._registers = [Register() for _ in range(REGISTERS)]
        # What must arrive in each ledger: in order, and from many objects in any order.
        self._told: dict[str, list[int]] = {}
        self._passed: dict[str, list[int]] = {secrets.token_hex(6): [] for _ in range(4)}
        # Those of which nobody knows whether they were passed on.
        self._unknown: set[int] = set()
        self._alarms: list[str] = []
        self._numbers = 0
        self._running: set[asyncio.Task[None]] = set()
        self._stopped = False
        self.ended = asyncio.Event()

    async def end(self, within: float) -> None:
        """Send nothing more, and wait until everything is answered and has arrived."""
        self._stopped = True
        await self.ended.wait()
        await eventually(self._has_arrived, within)

    async def run(self) -> None:
        """Send until stopped, and return when everything is answered."""
        tellers = [asyncio.create_task(self._tell(n)) for n in range(TELLERS)]
        sources = [asyncio.create_task(self._pass_on(n)) for n in range(TELLERS)]
        begun, count = time.monotonic(), 0
        kinds = [self._add, self._swap, self._read, self._pass_once, self._ring]
        while not self._stopped:
            kind = self._random.choices(kinds, (10, 5, 3, 2, 1))[0]
            task = asyncio.create_task(kind())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            count += 1
            await asyncio.sleep(begun + count / RATE - time.monotonic())
        await asyncio.gather(*tellers, *sources, *self._running)
        self.ended.set()

    async def find_faults(self) -> list[str]:
        """Return what contradicts the promises of the product, once everything that was told has arrived."""
        faults = []
        for counter in self._counters:
            value = await self._caller.call("tally", counter.id, "value")
            faults += find_faults(range(value + 1), counter.operations, counter.sent)
        for register in self._registers:
            trail = (await self._history(register.id))["trail"]
            faults += find_faults(trail, register.operations, register.sent)
        for id, numbers in self._told.items():
            told = (await self._history(id))["told"]
            if told != numbers:
                faults.append(f"{id} was told {told} instead of {numbers}")
        for id, numbers in self._passed.items():
            told = (await self._history(id))["told"]
            faults += [f"{id} was told {each} twice" for each, count in Counter(told).items() if count > 1]
            faults += [f"{id} was not told {each}" for each in set(numbers) - set(told)]
            faults += [f"{id} was told {each} by nobody" for each in set(told) - set(numbers) - self._unknown]
        for id in self._alarms:
            rung = (await self._history(id))["rung"]
            if rung != ["once"]:
                faults.append(f"the alarm of {id} rang {len(rung)} times")
        return faults

    async def _has_arrived(self) -> bool:
        for id, numbers in {**self._told, **self._passed}.items():
            if not set(numbers) <= set((await self._history(id))["told"]):
                return False
        for id in self._alarms[-LAST_ALARMS:]:
            if not (await self._history(id))["rung"]:
                return False
        return True

    async def _history(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = await self._caller.call("ledger", id, "history")
        return found

    async def _call(self, type: str, id: str, method: str, **args: Any) -> tuple[Any, Request]:
        """Call an object. The result is None if that failed."""
        place, begun, failed, result = (type, subjects.partition(type, id)), time.monotonic(), "", None
        try:
            result = await self._caller.call(type, id, method, args)
        except Failure as failure:
            failed = failure.code
        request = Request(place, begun, time.monotonic(), failed)
        self.requests.append(request)
        return result, request

    async def _add(self) -> None:
        counter = self._random.choice(self._counters)
        counter.sent.append(len(counter.sent) + 1)
        value, request = await self._call("tally", counter.id, "add")
        if not request.failed:
            counter.operations.append(Operation(request.begun, request.ended, value - 1, value))

    async def _swap(self) -> None:
        register = self._random.choice(self._registers)
        old, new = register.latest, self._next()
        register.sent.append(new)
        seen, request = await self._call("ledger", register.id, "swap", old=old, new=new)
        if not request.failed:
            written = new if seen == old else None
            register.operations.append(Operation(request.begun, request.ended, seen, written))

    async def _read(self) -> None:
        type, registers = self._random.choice([("tally", self._counters), ("ledger", self._registers)])
        register = self._random.choice(registers)
        value, request = await self._call(type, register.id, "value")
        if not request.failed:
            register.operations.append(Operation(request.begun, request.ended, value))

    async def _pass_once(self) -> None:
        """Let a new object tell a ledger, so that nobody calls the new object again."""
        to, number = self._random.choice(list(self._passed)), self._next()
        _, request = await self._call("ledger", secrets.token_hex(6), "pass_on", to=to, number=number)
        if request.failed:
            self._unknown.add(number)
        else:
            self._passed[to].append(number)

    async def _ring(self) -> None:
        id = secrets.token_hex(6)
        _, request = await self._call("ledger", id, "ring", name="once", seconds=ALARM_IN)
        if not request.failed:
            self._alarms.append(id)

    async def _tell(self, number: int) -> None:
        """Store tells to one object, one after another."""
        to = secrets.token_hex(6)

        async def send(value: int) -> bool:
            message = {**self._headers, "Nats-Msg-Id": f"{to}.{value}"}
            subject, payload = subjects.tell("ledger", to, "note"), b'{"number": %d}' % value
            try:
                await self._tells.publish(subject, payload, headers=message)
            except (NatsError, TimeoutError):
                return False
            return True

        await self._send_numbers(to, send)

    async def _pass_on(self, number: int) -> None:
        """Let one object tell another one, again and again."""
        to, source = secrets.token_hex(6), secrets.token_hex(6)

        async def send(value: int) -> bool:
            id = f"{source}-{value}"
            args = b'{"to": "%s", "number": %d}' % (to.encode(), value)
            try:
                await self._caller.request(subjects.call("ledger", source, "pass_on"), args, request_id=id)
            except Failure:
                return False
            return True

        await self._send_numbers(to, send)

    async def _send_numbers(self, to: str, send: Callable[[int], Awaitable[bool]]) -> None:
        self._told[to] = []
        unknown = False
        while unknown or not self._stopped:
            unknown = not await send(len(self._told[to]) + 1)
            if not unknown:
                self._told[to].append(len(self._told[to]) + 1)
            await asyncio.sleep(TELL_EVERY)

    def _next(self) -> int:
        self._numbers += 1
        return self._numbers


@asynccontextmanager
async def steady_load(servers: Servers, random: random.Random) -> AsyncIterator[Load]:
    """Put hosts under load until the caller ends it."""
    authorization = "Bearer " + servers.issuer().issue("tester", roles=("admin",))
    connections = [await connect(servers.nats_url(user), "load") for user in ("gateway", "events")]
    caller = DurableObjectClient(connections[0], lambda: authorization)
    await caller.start()
    load = Load(caller, connections[1].jetstream(), {envelope.AUTHORIZATION: authorization}, random)
    running = asyncio.create_task(load.run())
    try:
        yield load
    finally:
        await cancel_and_wait([running])
        for connection in connections:
            await connection.close()
