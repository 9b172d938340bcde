"""Mutations of the product are found on real servers, by the shortest run that shows each of them.

Two runs cause what the mutations get wrong, step by step and without chance: one pauses a host for longer than its
lease, and one moves partitions. A run of the product itself violates nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

import pymongo
import pytest
from nats.aio.client import Client
from nats.errors import NoRespondersError

from aidevos import DurableObjectClient
from aidevos.contracts import subjects
from aidevos.durable.client.client import failure_of
from tests.support.holding_proxy import HoldingProxy
from tests.support.host_processes import client, eventually
from tests.support.many_hosts import Hosts, hosts_of
from tests.support.raw_requests import Raw
from tests.support.servers import Servers

STALE = "a host that has lost its lease has answered from memory"
UNDURABLE = "a command was acknowledged before it was durable"
OVERWRITTEN = "a late commit was applied"
REPEATED = "a command was applied twice"
UNSENT = "a tell of a paused host was not sent by its successor"
LOST = "an acknowledged command was lost"
LIED = "`moved` was answered to a request that was applied"
UNFINISHED = "a partition was released before its requests were finished"
ANSWERED_TWICE = "two hosts have answered one request"
# Seconds for which a successor may look for what it has to send, and a host may take for one step.
SENT_WITHIN, STEP_WITHIN = 4.0, 15.0
SPREAD_WITHIN = 80.0


class Run(NamedTuple):
    """Two hosts with a mutation, those who call them, and a file that ends a turn."""

    hosts: Hosts
    caller: DurableObjectClient
    connection: Client
    raw: Raw
    gate: Path
    mutation: str

    def start(self, replica: int, **variables: str) -> None:
        self.hosts.start(replica, TEST_MUTATION=self.mutation, **variables)

    def ids_at(self, replica: int, type: str, number: int) -> list[str]:
        """Return IDs of objects whose partitions a host owns."""
        held = set(self.hosts.owners.held_by(replica))
        return list(islice((id for id in map(str, count()) if (type, subjects.partition(type, id)) in held), number))

    async def begin(self, id: str, method: str) -> str:
        """Begin a turn that waits for the gate, and return the subject of its replies."""
        reply = await self.raw.send(id, method, {"file": str(self.gate)})
        begun = Path(f"{self.gate}.begun")
        await eventually(lambda: _holds(begun.exists()), STEP_WITHIN)
        return reply

    async def answered(self, *replies: str) -> None:
        """Wait until each of these requests has a reply."""
        await eventually(lambda: _holds(all(map(self.raw.replies_to, replies))), STEP_WITHIN)

    def succeeded(self, reply: str) -> bool:
        """Return True if a request was answered with a result."""
        return any(failure_of(each) is None for each in self.raw.replies_to(reply))


@asynccontextmanager
async def run_of(servers: Servers, database: str, folder: Path, mutation: str) -> AsyncIterator[Run]:
    async with hosts_of(servers, database, folder) as hosts, client(servers) as (caller, connection):
        raw = Raw(connection, servers)
        await raw.listen()
        yield Run(hosts, caller, connection, raw, folder / "gate", mutation)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("mutation", "violation"),
    [
        ("", ""),
        ("lease_check_off", STALE),
        ("gate_off", UNDURABLE),
        ("fence_off", OVERWRITTEN),
        ("records_not_stored", REPEATED),
        ("scan_off", UNSENT),
    ],
)
async def test_a_host_paused_for_longer_than_its_lease_violates_nothing_without_a_mutation(
    servers: Servers, database: str, tmp_path: Path, mutation: str, violation: str
) -> None:
    async with HoldingProxy(servers.mongo_url) as proxy, run_of(servers, database, tmp_path, mutation) as run:
        violations = await pause_with_work_on_its_way(run, proxy, servers, database)
    assert violation in violations if mutation else not violations


async def pause_with_work_on_its_way(run: Run, proxy: HoldingProxy, servers: Servers, database: str) -> list[str]:
    """Pause a host with a commit, an answer and a tell on their way until another host has taken over."""
    caller = run.caller
    run.start(0, AIDEVOS_MONGO_URL=proxy.url, TEST_RELAY="off")
    run.start(1)
    await run.hosts.spread(within=SPREAD_WITHIN)
    read, written = run.ids_at(0, "tally", 2)
    (source,) = run.ids_at(0, "ledger", 1)
    add = subjects.call("tally", written, "add")
    assert await caller.request(add, b"", request_id="once") == b"1"
    assert await caller.call("tally", read, "add") == 1
    await caller.call("ledger", source, "pass_on", to="heir", number=1)

    proxy.hold()
    late = await run.raw.send(written, "add")
    async with asyncio.timeout(STEP_WITHIN):
        await proxy.held.wait()
    old = await run.begin(read, "value_after")
    run.hosts.pause(0)
    await caller.call("tally", read, "add")
    repeated = await caller.request(add, b"", request_id="once")
    value = await caller.call("tally", written, "add", by=10)
    sent = await _comes_true(lambda: _was_told(caller, "heir"), SENT_WITHIN)

    proxy.release()
    async with asyncio.timeout(STEP_WITHIN):
        await proxy.landed.wait()
    stored = await asyncio.to_thread(_read_stored, servers, database, written)
    run.gate.touch()
    run.hosts.resume(0)
    await run.answered(old, late)

    found = {
        STALE: run.succeeded(old),
        UNDURABLE: run.succeeded(late),
        OVERWRITTEN: stored != value,
        REPEATED: repeated != b"1",
        UNSENT: not sent,
    }
    return [violation for violation, is_found in found.items() if is_found]


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("mutation", "violation"),
    [
        ("", ""),
        ("moved_after_accepting", LIED),
        ("old_owner_answers", ANSWERED_TWICE),
        ("released_before_settled", UNFINISHED),
    ],
)
async def test_partitions_that_move_violate_nothing_without_a_mutation(
    servers: Servers, database: str, tmp_path: Path, mutation: str, violation: str
) -> None:
    async with run_of(servers, database, tmp_path, mutation) as run:
        violations = await move_partitions(run)
    assert violation in violations if mutation else not violations


async def move_partitions(run: Run) -> list[str]:
    """Let a second host join between requests, and the first one leave while it runs a turn."""
    # A busy machine may take long between two steps.
    run.start(0, AIDEVOS_HANDOVER_TIMEOUT="15", AIDEVOS_DRAIN_TIMEOUT="25")
    await run.hosts.spread(within=SPREAD_WITHIN)
    ids = _one_id_in_each_partition()
    applied, failed = Counter[str](), Counter[str]()
    await _add_once(run, ids, applied, failed)
    run.start(1)
    await run.hosts.spread(within=SPREAD_WITHIN)
    await _add_once(run, ids, applied, failed)
    values = {id: await run.caller.call("tally", id, "value") for id in ids}

    moved = set(run.hosts.owners.held_by(1))
    queries = [await run.raw.send(id, "value") for id in ids if _place(id) in moved]
    await run.answered(*queries)

    (id,) = run.ids_at(0, "tally", 1)
    turn = await run.begin(id, "add_after")
    leaving = asyncio.create_task(run.hosts.stop(0))
    await eventually(lambda: _is_handed_over(run, id), STEP_WITHIN)
    released = await run.hosts.owners.look(_place(id)) != 0
    run.gate.touch()
    # The first host has sent all of its answers before it ends.
    await leaving
    await run.connection.flush()
    await run.answered(turn)

    found = {
        LOST: any(applied[id] > values[id] for id in ids),
        LIED: any(applied[id] < values[id] for id in ids),
        ANSWERED_TWICE: any(len(run.raw.replies_to(each)) > 1 for each in queries),
        UNFINISHED: released or failed.total() > 0 or not run.succeeded(turn),
    }
    return [violation for violation, is_found in found.items() if is_found]


async def _add_once(run: Run, ids: list[str], applied: Counter[str], failed: Counter[str]) -> None:
    """Send one request without an ID to each object, a single time. Count those that were applied and that failed."""
    for id in ids:
        try:
            reply = await run.connection.request(
                subjects.call("tally", id, "add"), b"", timeout=STEP_WITHIN, headers=run.raw.headers
            )
        except NoRespondersError:
            continue
        failure = failure_of(reply)
        applied[id] += failure is None
        failed[id] += failure is not None and failure.code != "moved"


async def _is_handed_over(run: Run, id: str) -> bool:
    """Return True if the first host takes nothing more for the partition of an object, or has released it."""
    if await run.hosts.owners.look(_place(id)) != 0:
        return True
    neighbour = next(each for each in map(str, count()) if _place(each) == _place(id) and each != id)
    try:
        await run.connection.request(
            subjects.call("tally", neighbour, "value"), b"", timeout=STEP_WITHIN, headers=run.raw.headers
        )
    except NoRespondersError:
        return True
    return False


def _place(id: str) -> tuple[str, int]:
    return "tally", subjects.partition("tally", id)


def _one_id_in_each_partition() -> list[str]:
    ids: dict[int, str] = {}
    numbers = count()
    while len(ids) < subjects.PARTITIONS:
        id = str(next(numbers))
        ids.setdefault(subjects.partition("tally", id), id)
    return list(ids.values())


def _read_stored(servers: Servers, database: str, id: str) -> Any:
    with pymongo.MongoClient[dict[str, Any]](servers.mongo_url) as mongo:
        document = mongo[database]["obj_tally"].find_one({"_id": id})
    assert document is not None
    return document["state"]["value"]


async def _was_told(caller: DurableObjectClient, id: str) -> bool:
    told, _ = await caller.call("ledger", id, "progress")
    return bool(told)


async def _comes_true(condition: Callable[[], Awaitable[bool]], within: float) -> bool:
    try:
        await eventually(condition, within)
    except AssertionError:
        return False
    return True


async def _holds(condition: bool) -> bool:
    return condition
