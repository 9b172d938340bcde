"""Measures single commands, activations, the memory of resting objects, and many stored objects against few.

One host serves both types of `notes`. The comparisons use the same MongoDB, through the driver alone.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx2
import pymongo
import uvloop
from pymongo import UpdateOne, WriteConcern
from pymongo.collection import Collection

from aidevos import DurableObjectClient
from aidevos.contracts import subjects
from aidevos.durable.turns.environment import Limits
from tests.bench.cases import Stage
from tests.bench.comparison import Compared
from tests.bench.costs import Costs, cost_rows
from tests.bench.footprint import read_memory
from tests.bench.load import Sample
from tests.bench.processes import start
from tests.support.host_processes import client
from tests.support.servers import free_port

IN_FLIGHT = 256
HOT = 1000
COLD = 20_000
STATE = 1000
# Bytes of a resting object with `STATE` bytes of state.
ALLOWED = 4096.0
# Seconds within which all objects rest whose time has come, and their memory is given back.
SETTLE = 2.0
PLAIN = "plain_notes"
_COUNTED = re.compile(r"^aidevos_active_bytes(?:\{.*\})? (\S+)$", re.MULTILINE)


def measure(stage: Stage, seconds: float, rounds: int, stored: int) -> list[Compared]:
    """Return the rows; `stored` is the number of objects of the type with many."""
    mongo = pymongo.MongoClient[dict[str, Any]](stage.world.servers.mongo_url)
    with mongo:
        database = mongo.get_database(stage.world.database, write_concern=WriteConcern("majority", j=True))
        return uvloop.run(_measure(stage, seconds, rounds, stored, database))


async def _measure(stage: Stage, seconds: float, rounds: int, stored: int, database: Any) -> list[Compared]:
    few, cold = [[f"{kind}-{number}" for number in range(count)] for kind, count in (("hot", HOT), ("cold", COLD))]
    async with client(stage.world.servers) as (caller, _):
        with _host(stage):
            await _write(caller, "note", few)
            await _write(caller, "page", few)
            await asyncio.to_thread(_multiply, stage, database["obj_page"], stored)
            rows = await _alone(caller, database[PLAIN], seconds, rounds)
            rows += await _many(caller, few, seconds, rounds, stored)
            await _write(caller, "note", cold)
        database[PLAIN].insert_many([{"_id": id, "text": "x" * STATE} for id in cold])
        costs, bulks = Costs(), Costs()
        samples = [await _activate(stage, caller, cold, database[PLAIN], costs, bulks) for _ in range(rounds)]
    own, bulk, real, counted = (list(column) for column in zip(*samples, strict=True))
    allowed = [Sample(0.0, ALLOWED, ALLOWED)] * rounds
    name, beside = "activations of stored objects, with a commit each", "documents of a bulk update"
    return [
        *rows,
        Compared(name, beside, "rate", own, bulk, 0.5, None),
        *cost_rows(name, costs, beside, bulks),
        Compared("a resting object with 1 KB of state", "allowed", "p99", real, allowed, None, 1.0, "bytes"),
        Compared("… as the bound counts it", "really", "p99", counted, real, 0.8, 1.2, "bytes"),
    ]


@contextmanager
def _host(stage: Stage, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    world = stage.world
    settings |= {"AIDEVOS_REPLICA": "3", "AIDEVOS_MAX_MEMORY": "1GB", "AIDEVOS_IDLE_AFTER": "1h"}
    process = start(world.servers, "tests.bench.notes", "objects", world.database, **settings)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


async def _each(ids: Sequence[str], do: Callable[[str], Any]) -> float:
    """Do something with each of the IDs, `IN_FLIGHT` at a time, and return the seconds that it took."""
    left = iter(ids)

    async def work() -> None:
        for id in left:
            await do(id)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return time.perf_counter() - began


async def _write(caller: DurableObjectClient, type: str, ids: Sequence[str]) -> float:
    return await _each(ids, lambda id: caller.call(type, id, "write", text="x" * STATE))


def _multiply(stage: Stage, pages: Collection[dict[str, Any]], stored: int) -> None:
    """Store copies of a page, until there are `stored` of them."""
    page = pages.find_one({"_id": "hot-0"})
    assert page is not None
    ids = (f"stored-{number}" for number in range(stored - HOT))
    copies = (page | {"_id": id, "partition": subjects.partition("page", id, 64), "replies": {}} for id in ids)
    stage.world.servers.insert(stage.world.database, "obj_page", copies)


async def _alone(
    caller: DurableObjectClient, plain: Collection[dict[str, Any]], seconds: float, rounds: int
) -> list[Compared]:
    """Compare single commands with single journaled updates of the driver."""
    plain.insert_one({"_id": "alone", "text": ""})

    async def command() -> None:
        await caller.call("note", "hot-0", "write", text="x" * STATE)

    async def update() -> None:
        plain.update_one({"_id": "alone"}, {"$set": {"text": "x" * STATE}, "$inc": {"written": 1}})

    own, other = [], []
    for _ in range(rounds):
        own.append(await _one_by_one(command, seconds))
        other.append(await _one_by_one(update, seconds))
    return [Compared("a command over NATS, alone", "a journaled update", "p50", own, other, None, 1.3, "ms p50")]


async def _one_by_one(do: Callable[[], Any], seconds: float) -> Sample:
    times: list[float] = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        await do()
        times.append(1000 * (time.perf_counter() - began))
    times.sort()
    return Sample(len(times) / seconds, times[len(times) // 2], times[len(times) * 99 // 100], len(times))


async def _many(
    caller: DurableObjectClient, ids: Sequence[str], seconds: float, rounds: int, stored: int
) -> list[Compared]:
    """Compare commands on as many objects of both types."""
    many, few = Costs(), Costs()

    async def commands(type: str) -> Sample:
        end, numbers = time.perf_counter() + seconds, itertools.count()

        async def work() -> None:
            while time.perf_counter() < end:
                await caller.call(type, ids[next(numbers) % HOT], "write", text="x" * STATE)

        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
        count = next(numbers)
        return Sample(count / seconds, 0.0, 0.0, count)

    for _ in range(rounds):
        await many.measure(commands("page"))
        await few.measure(commands("note"))
    total, *shares = cost_rows(f"command on {HOT:,} of {stored:,} objects", many, f"of {HOT:,}", few)
    total.at_most = 1.1
    return [total, *shares]


async def _activate(
    stage: Stage,
    caller: DurableObjectClient,
    ids: Sequence[str],
    plain: Collection[dict[str, Any]],
    costs: Costs,
    bulks: Costs,
) -> tuple[Sample, Sample, Sample, Sample]:
    """Activate stored objects in a new host by a command, and so with a commit.

    Return the rate, that of a bulk update of as many documents, and the bytes that an object takes once it rests: those
    of the process, and those that the bound of its memory counts.
    """
    port = free_port()
    with _host(stage, AIDEVOS_METRICS_PORT=str(port)) as host:
        await _write(caller, "note", [f"hot-{number}" for number in range(HOT)])
        before, counted = read_memory(host.pid)[1], await _counted(port)
        own = await costs.measure(_rate(ids, _write(caller, "note", ids)))
        await asyncio.sleep(2 * Limits().rest_after + SETTLE)
        real = (read_memory(host.pid)[1] - before) * 1e6 / len(ids)
        counted = (await _counted(port) - counted) / len(ids)
    bulk = await bulks.measure(_rate(ids, asyncio.to_thread(_update, plain, ids)))
    return own, bulk, Sample(0.0, real, real), Sample(0.0, counted, counted)


async def _rate(ids: Sequence[str], seconds: Awaitable[float]) -> Sample:
    return Sample(len(ids) / await seconds, 0.0, 0.0, len(ids))


def _update(plain: Collection[dict[str, Any]], ids: Sequence[str]) -> float:
    began = time.perf_counter()
    plain.bulk_write([UpdateOne({"_id": id}, {"$inc": {"written": 1}}) for id in ids], ordered=False)
    return time.perf_counter() - began


async def _counted(port: int) -> float:
    async with httpx2.AsyncClient() as http:
        text = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
    return sum(float(each) for each in _COUNTED.findall(text))
