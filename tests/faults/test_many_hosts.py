"""Hosts of one service that come, go, die and pause under load: nothing is lost, repeated or stale, and calls go on.

`make faults` runs each action 20 times (`FAULT_ROUNDS`), and `FAULT_SEED` repeats what was random.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.host_processes import client, eventually
from tests.support.many_hosts import Hosts, Place, hosts_of
from tests.support.servers import Servers
from tests.support.steady_load import Request, steady_load

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "1"))
SEED = int(os.environ.get("FAULT_SEED", secrets.randbits(32)))
WARM_UP, CALM = 1.0, 1.5
ARRIVE_WITHIN = 10.0
ROUND_WITHIN = 100
# Seconds for which an answer may be on its way when its host is killed.
IN_FLIGHT = 0.03


async def join(hosts: Hosts, random: random.Random) -> int | None:
    """Add a host."""
    hosts.start(2)
    await hosts.spread()
    return None


async def leave(hosts: Hosts, random: random.Random) -> int | None:
    await hosts.stop(random.choice(hosts.replicas))
    await hosts.spread()
    return None


async def kill(hosts: Hosts, random: random.Random) -> int | None:
    replica = random.choice(hosts.replicas)
    await hosts.kill(replica)
    await hosts.spread()
    return replica


async def kill_and_restart(hosts: Hosts, random: random.Random) -> int | None:
    replica = random.choice(hosts.replicas)
    await hosts.kill(replica)
    hosts.start(replica)
    await hosts.spread()
    return replica


async def pause(hosts: Hosts, random: random.Random) -> int | None:
    replica = random.choice(hosts.replicas)
    hosts.pause(replica)
    await hosts.spread([each for each in hosts.replicas if each != replica])
    hosts.resume(replica)
    await hosts.spread()
    return replica


async def roll(hosts: Hosts, random: random.Random) -> int | None:
    for old in hosts.replicas:
        hosts.start((old + 5) % 10)
        await hosts.spread()
        await hosts.stop(old)
        await hosts.spread()
    return None


async def scale_up(hosts: Hosts, random: random.Random) -> int | None:
    hosts.start(1)
    hosts.start(2)
    await hosts.spread()
    return None


class Action(NamedTuple):
    """An action, the number of hosts before it, and what it may cost in seconds.

    `act` returns when the partitions are spread again. It returns the replica of a host that it has killed or paused.

    `p99` bounds the latency of all requests during the action, `moved` that of requests to partitions that moved, and
    `outage` the time until a dead host's partitions answer again. `lossless` means that no request may fail.
    """

    act: Callable[[Hosts, random.Random], Awaitable[int | None]]
    hosts: int
    p99: float = 4.0
    moved: float = 4.0
    outage: float | None = None
    lossless: bool = True


ACTIONS = {
    "join": Action(join, 2, p99=0.1, moved=0.1),
    "leave": Action(leave, 3, p99=0.1, moved=0.1),
    "kill": Action(kill, 3, outage=4.0),
    "kill and restart": Action(kill_and_restart, 2, outage=1.0),
    "pause": Action(pause, 3, p99=6.0, outage=6.0),
    "rolling restart": Action(roll, 2, p99=0.5, moved=0.5),
    "scale-up": Action(scale_up, 1, p99=0.1, moved=0.1),
}
# On a machine with a higher p99 than this in calm times, everything takes a multiple of its time.
QUIET_FLOOR, BUSY = 0.02, 20


class Round(NamedTuple):
    """What one round has measured, in seconds. `outages` are one for each partition of a dead host."""

    calm: list[float]
    during: list[Request]
    moved: list[float]
    outages: list[float]
    took: float


@pytest.mark.timeout(60 + ROUND_WITHIN * ROUNDS)
@pytest.mark.parametrize("name", ACTIONS)
async def test_hosts_change_under_load_and_every_history_holds(
    servers: Servers, database: str, tmp_path: Path, name: str
) -> None:
    action, seeds = ACTIONS[name], random.Random(f"{name} {SEED}")
    rounds = []
    async with hosts_of(servers, database, tmp_path) as hosts:
        for number in range(ROUNDS):
            async with asyncio.timeout(ROUND_WITHIN):
                await resize(hosts, action.hosts)
                rounds.append(await run_round(servers, hosts, action, random.Random(seeds.random())))
            if action.outage is None:
                assert not hosts.find_errors()
            print(f"{name} {number}, seed {SEED}: {describe(rounds[-1:])}")
    print(f"{name}, {ROUNDS} rounds: {describe(rounds)}")

    floor = percentile([each for one in rounds for each in one.calm])
    # A machine that is too busy for the load itself refuses some of it.
    excused = ("",) if floor < QUIET_FLOOR else ("", "overloaded")
    assert not [each for one in rounds for each in one.during if action.lossless and each.failed not in excused]
    assert percentile([each.latency for one in rounds for each in one.during]) < allowed(action.p99, floor)
    assert percentile([each for one in rounds for each in one.moved]) < allowed(action.moved, floor)
    if action.outage is not None:
        assert percentile([each for one in rounds for each in one.outages]) < allowed(action.outage, floor)


@pytest.mark.timeout(90)
async def test_what_a_dead_host_has_left_in_its_outboxes_is_sent_by_those_that_take_its_partitions(
    servers: Servers, database: str, tmp_path: Path
) -> None:
    to, numbers = secrets.token_hex(6), list(range(100))
    async with hosts_of(servers, database, tmp_path) as hosts, client(servers) as (caller, _):
        hosts.start(0, TEST_SCANS="off")
        hosts.start(1, TEST_SCANS="off", TEST_RELAY="off")
        await hosts.spread()
        passing = (caller.call("ledger", secrets.token_hex(6), "pass_on", to=to, number=n) for n in numbers)
        await asyncio.gather(*passing)
        await hosts.kill(1)

        async def arrived() -> bool:
            return sorted((await caller.call("ledger", to, "history"))["told"]) == numbers

        await eventually(arrived, 20)


def allowed(target: float, floor: float) -> float:
    """Return the bound on a measurement: the target if many rounds ran on a quiet machine, else a multiple."""
    return target if ROUNDS > 1 and floor < QUIET_FLOOR else BUSY * (target + floor)


async def resize(hosts: Hosts, count: int) -> None:
    """Start and stop hosts until the first `count` run."""
    for replica in set(range(count)) - set(hosts.replicas):
        hosts.start(replica)
    for replica in set(hosts.replicas) - set(range(count)):
        await hosts.stop(replica)
    await hosts.spread()


async def run_round(servers: Servers, hosts: Hosts, action: Action, random: random.Random) -> Round:
    async with steady_load(servers, random) as load:
        await asyncio.sleep(WARM_UP + CALM)
        owned = {replica: hosts.owners.held_by(replica) for replica in hosts.replicas}
        hosts.owners.moves.clear()
        begun = time.monotonic()
        dead = await action.act(hosts, random)
        ended = time.monotonic()
        await load.end(ARRIVE_WITHIN)
        assert not await load.find_faults()
    return Round(
        calm=[each.latency for each in load.requests if begun - CALM < each.begun < begun],
        during=[each for each in load.requests if each.begun < ended and begun < each.ended],
        moved=[each.latency for each in load.requests if hosts.owners.moved_during(each.place, each.begun, each.ended)],
        outages=[] if dead is None else find_outages(load.requests, owned[dead], begun),
        took=ended - begun,
    )


def find_outages(requests: Sequence[Request], places: Sequence[Place], since: float) -> list[float]:
    """Return for each of these partitions how long after `since` it has answered again, as far as anyone has asked."""
    answers = [each for each in requests if each.ended > since + IN_FLIGHT and not each.failed]
    first = {each.place: each.ended - since for each in sorted(answers, key=lambda each: each.ended, reverse=True)}
    return [first[place] for place in places if place in first]


def percentile(values: Sequence[float], share: float = 0.99) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] if values else 0.0


def describe(rounds: Sequence[Round]) -> str:
    """Return the measurements of some rounds in one line; latencies are p50/p99/max in milliseconds."""
    during = [each for one in rounds for each in one.during]
    failed = sum(bool(each.failed) for each in during)
    latencies = {
        "calm": [each for one in rounds for each in one.calm],
        "action": [each.latency for each in during],
        "moved": [each for one in rounds for each in one.moved],
        "outage": [each for one in rounds for each in one.outages],
    }
    parts = [f"{failed} of {len(during)} failed"]
    parts += [
        f"{name} {'/'.join(f'{percentile(values, share) * 1000:.0f}' for share in (0.5, 0.99, 1.0))} ({len(values)})"
        for name, values in latencies.items()
        if values
    ]
    ratio = percentile(latencies["action"]) / (percentile(latencies["calm"]) or 1.0)
    slowest = max(one.took for one in rounds)
    return ", ".join([*parts, f"p99 of the action is {ratio:.1f} times that of the calm, slowest took {slowest:.1f} s"])
