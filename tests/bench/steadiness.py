"""Measures how steadily one process answers while something large happens, with 100,000 objects in its memory.

Each case runs in a process of its own, on the memory store, so that only the framework is measured. 64 requests are in
flight meanwhile. The lag is how late the event loop turns because of its own work, measured every 5 ms. Time in which
the thread has no core, because the machine is busy with something else, doesn't count as lag.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import msgspec
import uvloop

from aidevos import Alarm, BaseDurableObject, authenticated, command
from aidevos.contracts.errors import Failure
from aidevos.contracts.subjects import PARTITIONS
from aidevos.durable.base.tasks import BackgroundTasks
from aidevos.durable.store.memory import MemoryStore
from aidevos.durable.store.port import Commit, Document, Outcome
from aidevos.durable.turns.environment import Limits
from aidevos.process import collector
from aidevos.testing import ObjectKit

OBJECTS = 100_000
FILLERS = 200
IN_FLIGHT = 64
HOT = 1000
BURST = 60_000
# Requests that a connection reads in one turn of the loop.
READ_AT_ONCE = 50
HERD = 20_000
PAGE = 200
# Bytes of each state in the large list.
STATE = 1_000_000
WITHIN = 10.0
TICK = 0.005
COMMIT = 0.002
TARGET = 50.0
NAMES = ("quiet", "burst", "sweep", "mass expiry", "alarm herd", "large list", "drain")


class Steadiness(msgspec.Struct):
    """What one case has shown. Times are in milliseconds; `answered` is a share."""

    name: str
    lag: float
    longest: float
    slowest: float
    answered: float
    seconds: float

    @property
    def missed(self) -> bool:
        return self.lag > TARGET or self.answered < 1.0

    def cells(self) -> tuple[str, ...]:
        return (
            self.name,
            f"{self.lag:.0f}",
            f"{self.longest:.0f}",
            f"{self.slowest:.0f}",
            f"{100 * self.answered:.2f} %",
            f"{self.seconds:.1f}",
            "MISSED" if self.missed else "met",
        )


HEAD = ("with 100,000 objects", "lag p99.9 ms", "longest ms", "slowest answer ms", "answered", "seconds", "target")


class LoadState(msgspec.Struct):
    value: int = 0
    tags: list[str] = []


class LoadDO(BaseDurableObject[LoadState], type="load", management="raw"):
    @command(allow=authenticated())
    async def add(self) -> int:
        self.state.value += 1
        return self.state.value

    @command(allow=authenticated())
    async def arm(self, in_: float) -> None:
        self.alarms.set("bell", in_=in_)

    async def on_alarm(self, alarm: Alarm) -> None:
        self.state.value += 1


class SlowStore(MemoryStore):
    """A store whose commits take as long as MongoDB's."""

    async def commit(self, type: str, commits: Sequence[Commit]) -> list[Outcome]:
        await asyncio.sleep(COMMIT)
        return await super().commit(type, commits)


class Watch:
    """The lags of the loop, the times of the answers, and the numbers of requests and of those that got an answer."""

    def __init__(self, kit: ObjectKit) -> None:
        self._kit = kit
        self.lags: list[float] = []
        self.times: list[float] = []
        self.asked = 0
        self.answered = 0

    async def ask(self, id: str) -> None:
        self.asked += 1
        began = time.perf_counter()
        try:
            async with asyncio.timeout(WITHIN):
                await self._kit.call("load", id, "add")
        except TimeoutError:
            return
        except Failure as failure:
            if failure.code != "overloaded" and not failure.retryable:
                raise
        self.answered += 1
        self.times.append(time.perf_counter() - began)

    async def keep_asking(self, number: int) -> None:
        while True:
            await self.ask(f"o{number % HOT}")
            number += IN_FLIGHT
            await asyncio.sleep(0)

    async def keep_ticking(self) -> None:
        while True:
            began, worked = time.perf_counter(), time.thread_time()
            await asyncio.sleep(TICK)
            late = time.perf_counter() - began - TICK
            self.lags.append(max(min(late, time.thread_time() - worked), 0.0))


async def measure_here(name: str) -> Steadiness:
    """Fill this process, run a case, and return what it has shown."""
    limits = Limits(memory=1 << 40, idle_after=3600.0, alarm_rate=100_000.0)
    async with ObjectKit(LoadDO, store=SlowStore(), limits=limits) as kit:
        await _fill(kit, [f"o{number}" for number in range(OBJECTS)], "add", {})
        case = await CASES[name](kit)
        watch = Watch(kit)
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(watch.keep_ticking())]
        tasks += [loop.create_task(watch.keep_asking(number)) for number in range(IN_FLIGHT)]
        await asyncio.sleep(1.0)
        began = time.perf_counter()
        await case(watch)
        seconds = time.perf_counter() - began
        await asyncio.sleep(1.0)
        for task in tasks:
            task.cancel()
        lags = sorted(watch.lags)
        lag = lags[min(int(len(lags) * 0.999), len(lags) - 1)]
        answered = watch.answered / max(watch.asked - IN_FLIGHT, 1)
        return Steadiness(name, 1000 * lag, 1000 * lags[-1], 1000 * max(watch.times), min(answered, 1.0), seconds)


async def _fill(kit: ObjectKit, ids: list[str], method: str, args: dict[str, Any]) -> None:
    async def fill(part: list[str]) -> None:
        for id in part:
            await kit.call("load", id, method, **args)

    await asyncio.gather(*(fill(ids[number::FILLERS]) for number in range(FILLERS)))


Case = Callable[[Watch], Awaitable[None]]


async def _quiet(kit: ObjectKit) -> Case:
    return lambda watch: asyncio.sleep(3.0)


async def _burst(kit: ObjectKit) -> Case:
    async def run(watch: Watch) -> None:
        asking = BackgroundTasks()
        for number in range(BURST):
            asking.spawn(watch.ask(f"o{number % HOT}"))
            if number % READ_AT_ONCE == 0:
                await asyncio.sleep(0)
        # To gather the tasks would itself hold up the loop.
        while asking.running:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    return run


async def _sweep(kit: ObjectKit) -> Case:
    async def run(watch: Watch) -> None:
        for _ in range(5):
            await _maybe(kit.lifecycle.sweep())
            await asyncio.sleep(0.5)

    return run


async def _expire(kit: ObjectKit) -> Case:
    async def run(watch: Watch) -> None:
        soon = kit.runtime.environment._replace(limits=kit.runtime.environment.limits._replace(idle_after=0.5))
        kit.lifecycle._environment = soon
        await asyncio.sleep(1.0)
        await _maybe(kit.lifecycle.sweep())

    return run


async def _herd(kit: ObjectKit) -> Case:
    await _fill(kit, [f"o{number}" for number in range(OBJECTS - HERD, OBJECTS)], "arm", {"in_": 1000.0})
    await kit.alarms.scan({"load": range(PARTITIONS)}, 2000.0)
    ringing = asyncio.get_running_loop().create_task(kit.alarms.run())

    async def run(watch: Watch) -> None:
        kit.clock.advance(1000.001)
        while kit.alarms.next_at() <= kit.clock.now():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        ringing.cancel()

    return run


async def _list(kit: ObjectKit) -> Case:
    now = datetime.now(UTC)
    tags = [f"{number:040}" for number in range(STATE // 50)]
    fields = {"updated_at": now, "made_at": now, "version": 1, "schema": 1}
    documents = {f"l{number}": fields | {"state": {"value": 1, "tags": tags}} for number in range(PAGE)}

    async def list_page(*args: Any, **options: Any) -> Any:
        # The memory store would sort and copy all objects, which MongoDB does elsewhere.
        most = options.get("size", PAGE * STATE) // STATE + 1
        return [Document(id=id, size=STATE, **document) for id, document in islice(documents.items(), most)]

    kit.store.list_page = list_page

    async def run(watch: Watch) -> None:
        for _ in range(3):
            await kit.query("load", "list", limit=PAGE - 1)

    return run


async def _drain(kit: ObjectKit) -> Case:
    async def run(watch: Watch) -> None:
        await kit.catalogue.settle(2.0)
        await kit.catalogue.give_up()

    return run


async def _maybe(result: Any) -> None:
    if inspect.isawaitable(result):
        await result


CASES = dict(zip(NAMES, (_quiet, _burst, _sweep, _expire, _herd, _list, _drain), strict=True))


def measure(name: str) -> Steadiness:
    """Measure a case in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.steadiness", name]
    return msgspec.json.decode(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout, type=Steadiness)


def main() -> None:
    logging.disable(logging.CRITICAL)
    getattr(collector, "collect_in_slices", collector.collect_rarely)()
    gc.collect()
    print(msgspec.json.encode(uvloop.run(measure_here(sys.argv[1]))).decode())


if __name__ == "__main__":
    main()
