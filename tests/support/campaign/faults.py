"""The faults of a campaign. A seed gives the same faults in the same order, with the same targets and durations.

Any process may fail at any time. Of three servers of NATS or MongoDB, one fails at a time, because the loss of two is
more than a cluster survives. A fault of a server lasts until its cluster is complete again.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from nats.aio.client import Client
from pymongo.errors import PyMongoError

from aidevos.process.nats_users import FOLDER
from tests.support.campaign.fleet import GATEWAY, Fleet
from tests.support.nats_cluster import wait_for_copies
from tests.support.network import PrivateNetwork

# Most faults at the same time, and the seconds that a fault that must be alone waits after the one before.
AT_ONCE, ALONE_AFTER = 3, 5.0
# Seconds until a cluster must be complete again.
COMPLETE_WITHIN = 90.0
# Seconds in which others take over from a process that was stopped, and in which clients ask each object something.
PAST_TAKEOVER, ASKED_WITHIN = 5.0, 0.3
# The size of the disks that fill up.
DISK = "768m"
FULL_DISKS = ("n3", "m3")
LOST_WRITES = 0.1
CLUSTERS = ("nats", "mongo")


class Planned(NamedTuple):
    """A fault: its kind, the process or server, how long it lasts, and the pause before the next one, in seconds."""

    kind: str
    target: str
    seconds: float
    pause: float


class Happened(NamedTuple):
    """A fault that has ended, with its times on the clock `time.monotonic`."""

    kind: str
    target: str
    begun: float
    ended: float


class Faults:
    """Injects faults into a fleet, at most `at_once`, of `only` these kinds.

    `happened` lists those that have ended, and `unended` those after which a server or cluster didn't recover.
    `connection` is an administrator's.
    """

    def __init__(self, fleet: Fleet, connection: Client, only: Collection[str]) -> None:
        self.happened: list[Happened] = []
        self.unended: list[str] = []
        self.at_once = AT_ONCE
        self._only = only
        self._fleet = fleet
        self._connection = connection
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def run(self, random: random.Random, seconds: float) -> None:
        """Inject planned faults for this long, and return once all have ended."""
        end = time.monotonic() + seconds
        some = asyncio.Semaphore(self.at_once)
        async with asyncio.TaskGroup() as faults:
            for planned in plan(random, can_cut=self._fleet.network.can_cut, only=self._only):
                await some.acquire()
                if time.monotonic() > end:
                    return
                task = faults.create_task(self.inject(planned))
                if self.at_once == 1:
                    await task
                    await asyncio.sleep(ALONE_AFTER)
                task.add_done_callback(lambda _: some.release())
                await asyncio.sleep(planned.pause)

    async def inject(self, planned: Planned) -> None:
        """Inject one fault as soon as its target is free, and return once it is over."""
        fault = KINDS[planned.kind]
        async with self._free(planned):
            begun = time.monotonic()
            try:
                await fault.inject(self._fleet, planned.target, planned.seconds)
                await self._recover(fault.cluster)
            except (AssertionError, TimeoutError, RuntimeError, PyMongoError) as error:
                self.unended.append(f"{planned.kind}, {planned.target}: {error!r}")
            self.happened.append(Happened(planned.kind, planned.target, begun, time.monotonic()))

    async def _recover(self, cluster: str) -> None:
        if cluster == "nats":
            await wait_for_copies(self._connection.jetstream(timeout=2), COMPLETE_WITHIN)
        elif cluster == "mongo":
            await _until_complete(self._fleet)

    @asynccontextmanager
    async def _free(self, planned: Planned) -> AsyncIterator[None]:
        """Keep other faults away from a process or from a whole cluster."""
        cluster = KINDS[planned.kind].cluster
        async with self._locks[cluster or planned.target]:
            if planned.kind not in WHOLE_SERVICE:
                yield
                return
            names = sorted(name for name in self._fleet.permanent if name.startswith(planned.target))
            for name in names:
                await self._locks[name].acquire()
            try:
                yield
            finally:
                for name in names:
                    self._locks[name].release()


async def kill(fleet: Fleet, name: str, seconds: float) -> None:
    """Kill a process, and start it again later."""
    await fleet.kill_process(name)
    await asyncio.sleep(seconds / 2)
    fleet.start_process(name)


async def pause(fleet: Fleet, name: str, seconds: float) -> None:
    """Stop a process for longer than a lease."""
    fleet.signal(name, signal.SIGSTOP)
    await asyncio.sleep(3.0 + seconds)
    fleet.signal(name, signal.SIGCONT)


async def pass_pause_on(fleet: Fleet, role: str, seconds: float) -> None:
    """Stop a process for longer than a lease. When it goes on, those that took over stand still for a moment."""
    names = fleet.members_of(role)
    first = names.pop(int(seconds) % len(names))
    fleet.signal(first, signal.SIGSTOP)
    await asyncio.sleep(PAST_TAKEOVER + seconds / 4)
    for name in names:
        fleet.signal(name, signal.SIGSTOP)
    # What is asked now reaches the old owner as well.
    await asyncio.sleep(ASKED_WITHIN)
    fleet.signal(first, signal.SIGCONT)
    await asyncio.sleep(1.0)
    for name in names:
        fleet.signal(name, signal.SIGCONT)


async def leave(fleet: Fleet, name: str, seconds: float) -> None:
    """Let a process hand over and end, and start it again later."""
    await fleet.stop_process(name)
    await asyncio.sleep(seconds / 2)
    fleet.start_process(name)


async def scale(fleet: Fleet, role: str, seconds: float) -> None:
    """Add two processes to a service for a while."""
    present = sum(name.startswith(f"{role}-") for name in fleet.permanent)
    names = [f"{role}-{present + number}" for number in range(2)]
    for name in names:
        fleet.start_process(name)
    await asyncio.sleep(3.0 + seconds)
    for name in names:
        await fleet.stop_process(name)
        fleet.forget_process(name)


async def roll(fleet: Fleet, role: str, seconds: float) -> None:
    """Restart all processes of a service, one after another."""
    for name in fleet.members_of(role):
        await fleet.stop_process(name)
        fleet.start_process(name)
        await asyncio.sleep(seconds / 2)


async def jump(fleet: Fleet, name: str, seconds: float) -> None:
    """Set a process's wall clock forward by up to 32 seconds, and back by up to an hour.

    An alarm that is set meanwhile rings late by what the clock was ahead.
    """
    file = fleet.clock_of(name)
    for offset in (seconds * 4, -seconds * 450, 0):
        file.write_text(str(offset))
        await asyncio.sleep(seconds / 2)


async def cut_from_nats(fleet: Fleet, name: str, seconds: float) -> None:
    """Cut a process off from all NATS servers, but not from MongoDB."""
    await _cut(fleet, name, fleet.nats.members, 1.0 + seconds)


async def cut_from_one_nats(fleet: Fleet, name: str, seconds: float) -> None:
    """Cut a process off from one NATS server."""
    await _cut(fleet, name, fleet.nats.members[int(seconds) % 3 :][:1], 1.0 + seconds)


async def cut_from_mongo(fleet: Fleet, name: str, seconds: float) -> None:
    """Cut a process off from MongoDB, with writes on their way, but not from NATS."""
    await _cut(fleet, name, fleet.mongo.members, 1.0 + seconds)


async def cut_from_all(fleet: Fleet, name: str, seconds: float) -> None:
    """Cut a process off from all servers for longer than a lease, with writes that land after others took over."""
    await _cut(fleet, name, [*fleet.nats.members, *fleet.mongo.members], 3.0 + seconds)


async def kill_nats(fleet: Fleet, name: str, seconds: float) -> None:
    """Kill a NATS server, and start it again later."""
    fleet.nats.kill(name)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(fleet.nats.start_member, name)


async def freeze_nats(fleet: Fleet, name: str, seconds: float) -> None:
    """Stop a NATS server, which keeps its connections open."""
    fleet.nats.pause(name)
    await asyncio.sleep(1.0 + seconds)
    fleet.nats.resume(name)


async def roll_back_nats(fleet: Fleet, name: str, seconds: float) -> None:
    """Cut a NATS server's power: it starts again with what its disk had at the last sync."""
    files = fleet.folder / name / FOLDER
    synced = files.with_suffix(".synced")
    fleet.nats.pause(name)
    await asyncio.to_thread(shutil.copytree, files, synced)
    fleet.nats.resume(name)
    await asyncio.sleep(LOST_WRITES * seconds / MOST_SECONDS)
    fleet.nats.kill(name)
    await asyncio.to_thread(shutil.rmtree, files)
    await asyncio.to_thread(shutil.move, synced, files)
    await asyncio.to_thread(fleet.nats.start_member, name)


async def cut_nats(fleet: Fleet, name: str, seconds: float) -> None:
    """Cut a NATS server off from the other two; clients reach all three."""
    await _cut(fleet, name, [other for other in fleet.nats.members if other != name], 2.0 + seconds)


async def fill_nats(fleet: Fleet, name: str, seconds: float) -> None:
    """Fill a NATS server's disk, make room again, and restart it."""
    await _fill_disk(fleet.folder / name, seconds)
    fleet.nats.kill(name)
    await asyncio.to_thread(fleet.nats.start_member, name)


async def kill_primary(fleet: Fleet, name: str, seconds: float) -> None:
    """Kill the primary of MongoDB, and start it again later."""
    primary = await asyncio.to_thread(fleet.mongo.primary)
    fleet.mongo.kill(primary)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(fleet.mongo.start_member, primary)


async def step_down(fleet: Fleet, name: str, seconds: float) -> None:
    """Let the primary of MongoDB step down."""
    await asyncio.to_thread(fleet.mongo.step_down)


async def freeze_primary(fleet: Fleet, name: str, seconds: float) -> None:
    """Stop the primary of MongoDB, which answers what it has received once it goes on."""
    primary = await asyncio.to_thread(fleet.mongo.primary)
    fleet.mongo.pause(primary)
    await asyncio.sleep(1.0 + seconds)
    fleet.mongo.resume(primary)


async def cut_primary(fleet: Fleet, name: str, seconds: float) -> None:
    """Cut the primary of MongoDB off from the other two; hosts reach all three, with writes on their way."""
    primary = await asyncio.to_thread(fleet.mongo.primary)
    await _cut(fleet, primary, [other for other in fleet.mongo.members if other != primary], 2.0 + seconds)


async def fill_mongo(fleet: Fleet, name: str, seconds: float) -> None:
    """Fill the disk of a member of MongoDB, make room again, and restart the member if it has ended."""
    await _fill_disk(fleet.folder / name, seconds)
    if not fleet.mongo.runs(name):
        await asyncio.to_thread(fleet.mongo.start_member, name)


class Fault(NamedTuple):
    """A kind of fault. `targets` are services, processes of services or servers; `weight` says how often it happens."""

    inject: Callable[[Fleet, str, float], Awaitable[None]]
    targets: tuple[str, ...]
    weight: int = 2
    cluster: str = ""
    cuts: bool = False


HOSTS = ("objects-0", "objects-1", "objects-2")
DATA = ("data-0", "data-1")
ALL = (*HOSTS, *HOSTS, *DATA, "keys-0", "keys-1", f"{GATEWAY}-0", f"{GATEWAY}-1")
NATS, MONGO = ("n1", "n2", "n3"), ("primary",)
KINDS = {
    "host killed": Fault(kill, ALL, 6),
    "host paused": Fault(pause, ALL, 5),
    "host paused and then the others": Fault(pass_pause_on, ("objects", "data"), 2),
    "host left and joined": Fault(leave, ALL, 3),
    "scaled up and down": Fault(scale, ("objects", "data"), 2),
    "rolling restart": Fault(roll, ("objects", "data"), 1),
    "clock jumped": Fault(jump, ALL, 3),
    "host cut from NATS": Fault(cut_from_nats, (*HOSTS, *DATA), 3, cuts=True),
    "host cut from one NATS server": Fault(cut_from_one_nats, ALL, 2, cuts=True),
    "host cut from MongoDB": Fault(cut_from_mongo, (*HOSTS, *DATA), 3, cuts=True),
    "host cut from everything": Fault(cut_from_all, (*HOSTS, *DATA), 3, cuts=True),
    "NATS server killed": Fault(kill_nats, NATS, 2, "nats"),
    "NATS server frozen": Fault(freeze_nats, NATS, 1, "nats"),
    "NATS server rolled back": Fault(roll_back_nats, NATS, 2, "nats"),
    "NATS server cut off": Fault(cut_nats, NATS, 1, "nats", cuts=True),
    "NATS disk full": Fault(fill_nats, ("n3",), 1, "nats", cuts=True),
    "MongoDB primary killed": Fault(kill_primary, MONGO, 2, "mongo"),
    "MongoDB stepped down": Fault(step_down, MONGO, 2, "mongo"),
    "MongoDB primary frozen": Fault(freeze_primary, MONGO, 1, "mongo"),
    "MongoDB primary cut off": Fault(cut_primary, MONGO, 2, "mongo", cuts=True),
    "MongoDB disk full": Fault(fill_mongo, ("m3",), 1, "mongo", cuts=True),
}
WHOLE_SERVICE = ("host paused and then the others", "scaled up and down", "rolling restart")
MOST_SECONDS, MOST_PAUSE = 8.0, 4.0


def plan(random: random.Random, *, can_cut: bool, only: Collection[str] = KINDS) -> Iterator[Planned]:
    """Return faults of `only` these kinds, without an end.

    Without a private network, nothing is cut off and no disk is full.
    """
    kinds = {name: KINDS[name] for name in only if can_cut or not KINDS[name].cuts}
    while True:
        (kind,) = random.choices(list(kinds), [fault.weight for fault in kinds.values()])
        target = random.choice(kinds[kind].targets)
        yield Planned(kind, target, random.uniform(0.0, MOST_SECONDS), random.uniform(0.0, MOST_PAUSE))


def prepare_disks(folder: Path) -> None:
    """Mount small disks for the servers whose disks fill up. Only a process with mounts of its own may do that."""
    for name in FULL_DISKS:
        (folder / name).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder / name)], check=True)


async def _cut(fleet: Fleet, name: str, others: list[str], seconds: float) -> None:
    network = fleet.network
    assert isinstance(network, PrivateNetwork)
    network.cut(name, others)
    try:
        await asyncio.sleep(seconds)
    finally:
        network.join(name, others)


async def _fill_disk(disk: Path, seconds: float) -> None:
    """Keep a disk full for a while."""
    filler = disk / "filler"
    end = time.monotonic() + 1.0 + seconds
    while time.monotonic() < end:
        await asyncio.to_thread(_fill, filler)
        await asyncio.sleep(0.2)
    filler.unlink()


def _fill(file: Path) -> None:
    """Write until nothing fits any more."""
    with file.open("ab", buffering=0) as opened:
        try:
            while True:
                opened.write(bytes(1 << 20))
        except OSError:
            return


async def _until_complete(fleet: Fleet) -> None:
    async with asyncio.timeout(COMPLETE_WITHIN):
        while not await asyncio.to_thread(fleet.mongo.is_complete):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
