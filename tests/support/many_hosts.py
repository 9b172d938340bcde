"""Several host processes of one service, and the placement of their partitions."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from nats.aio.client import Client
from nats.errors import Error as NatsError

from aidevos.contracts import subjects
from aidevos.durable.base.tasks import cancel_and_wait
from aidevos.durable.client.bucket import Bucket, Entry, RolledBack
from aidevos.durable.client.connection import connect
from tests.support.host_processes import eventually
from tests.support.programs import Program
from tests.support.servers import Servers

SERVICE = "objects"
TYPES = ("tally", "ledger")
# Seconds until a watch that was lost begins again.
WATCH_AGAIN_AFTER = 0.2
# A type and one of its partitions.
Place = tuple[str, int]


class Move(NamedTuple):
    """A partition that had no owner from `released` to `claimed`, on the clock `time.monotonic`."""

    place: Place
    released: float
    claimed: float


class Owners:
    """The owners of all partitions as the bucket shows them, and the leases of the hosts."""

    def __init__(self, connection: Client) -> None:
        self.owners: dict[Place, str] = {}
        self.moves: list[Move] = []
        # Released once for each bucket whose present entries are known.
        self.loaded = asyncio.Semaphore(0)
        self._leases: set[str] = set()
        self._released: dict[Place, float] = {}
        self._buckets = Bucket(connection, subjects.PLACEMENT_BUCKET), Bucket(connection, subjects.HOSTS_BUCKET)

    async def follow(self) -> None:
        """Keep up to date until cancelled."""
        partitions, hosts = self._buckets
        await asyncio.gather(
            self._watch(partitions, [f"{type}.*" for type in TYPES], self._note_owner, self.owners),
            self._watch(hosts, [f"lease.{SERVICE}.*.*"], self._note_lease, self._leases),
        )

    def held_by(self, replica: int) -> list[Place]:
        """Return the partitions of a host."""
        return [place for place, owner in self.owners.items() if _replica(owner) == replica]

    async def look(self, place: Place) -> int:
        """Return the replica of a partition's owner as the bucket has it now, or -1 if nobody is the owner."""
        value, _ = await self._buckets[0].get("{}.{}".format(*place))
        return _replica((value or b"").decode())

    def moved_during(self, place: Place, begun: float, ended: float) -> bool:
        """Return True if a partition had no owner for some of this time."""
        return any(move.place == place and begun < move.claimed and move.released < ended for move in self.moves)

    def count_out(self, replica: int) -> None:
        """Count a host as dead, although its lease has not expired yet."""
        self._leases -= {each for each in self._leases if _replica(each) == replica}

    def are_even(self, replicas: Collection[int]) -> bool:
        """Return True if exactly these hosts own all partitions of each type, each an even share."""
        return all(self._is_even(type, replicas) for type in TYPES)

    def _is_even(self, type: str, replicas: Collection[int]) -> bool:
        owners = [owner for (each, _), owner in self.owners.items() if each == type and owner]
        loads = Counter(map(_replica, owners))
        return (
            len(owners) == subjects.PARTITIONS
            and set(owners) <= self._leases
            and len(set(owners)) == len(loads)
            and loads.keys() == set(replicas)
            and max(loads.values()) - min(loads.values()) <= 1
        )

    async def _watch(
        self, bucket: Bucket, keys: list[str], note: Callable[[Entry], None], noted: dict[Place, str] | set[str]
    ) -> None:
        while True:
            # A watch begins with everything that is there.
            noted.clear()
            with suppress(NatsError, TimeoutError, RolledBack):
                async for entry in bucket.watch(keys):
                    if entry is None:
                        self.loaded.release()
                    else:
                        note(entry)
            await asyncio.sleep(WATCH_AGAIN_AFTER)

    def _note_owner(self, entry: Entry) -> None:
        type, _, partition = entry.key.partition(".")
        place, owner, now = (type, int(partition)), (entry.value or b"").decode(), time.monotonic()
        if owner and place in self._released:
            self.moves.append(Move(place, self._released.pop(place), now))
        elif not owner:
            self._released[place] = now
        self.owners[place] = owner

    def _note_lease(self, entry: Entry) -> None:
        incarnation = entry.key.split(".", 2)[2]
        if entry.value is None:
            self._leases.discard(incarnation)
        else:
            self._leases.add(incarnation)


class Hosts:
    """The host processes of one service, by replica. Nobody restarts one that ends."""

    def __init__(self, servers: Servers, database: str, folder: Path, owners: Owners) -> None:
        self.owners = owners
        self._environment = {
            **os.environ,
            "AIDEVOS_HOME": str(servers.home),
            "AIDEVOS_NATS_URL": servers.nats_url(SERVICE),
            "AIDEVOS_MONGO_URL": servers.mongo_url,
            "AIDEVOS_MONGO_DATABASE": database,
            "AIDEVOS_EVENT_BUS_URL": "",
        }
        self._folder = folder
        self._programs: dict[int, Program] = {}

    @property
    def replicas(self) -> list[int]:
        return list(self._programs)

    def start(self, replica: int, module: str = "tests.support.lone_host", **variables: str) -> None:
        """Start a host with these variables of its environment, and don't wait for it."""
        log = self._folder / f"host-{replica}-{time.monotonic_ns()}.log"
        log.touch()
        environment = {**self._environment, "AIDEVOS_REPLICA": str(replica), **variables}
        self._programs[replica] = Program([module], environment, str(log))

    async def stop(self, replica: int) -> None:
        """Tell a host to hand over everything and end, and wait until it has."""
        self._programs[replica].terminate()
        status = await asyncio.to_thread(self._programs.pop(replica).wait, 30)
        assert status == 0, f"host {replica} ended with {status}"

    async def kill(self, replica: int) -> None:
        self._programs[replica].kill()
        await asyncio.to_thread(self._programs.pop(replica).wait, 10)
        self.owners.count_out(replica)

    def pause(self, replica: int) -> None:
        self._programs[replica].send_signal(signal.SIGSTOP)

    def resume(self, replica: int) -> None:
        self._programs[replica].send_signal(signal.SIGCONT)

    async def spread(self, replicas: Collection[int] | None = None, within: float = 40.0) -> None:
        """Wait until the partitions are spread evenly over all hosts, or over these."""

        async def even() -> bool:
            return self.owners.are_even(self.replicas if replicas is None else replicas)

        await eventually(even, within)

    def find_errors(self) -> list[str]:
        """Return what hosts have logged as errors so far."""
        logs = sorted(self._folder.glob("host-*.log"))
        return [line for log in logs for line in log.read_text().splitlines() if '"level":"ERROR"' in line]

    def close(self) -> None:
        """Kill all hosts."""
        for program in self._programs.values():
            program.kill()
        for program in self._programs.values():
            program.wait(10)


def _replica(incarnation: str) -> int:
    """Return the number of a host's replica, or -1 if nobody is the owner."""
    name = incarnation.partition("_")[0]
    return int(name.rpartition("-")[2]) if name else -1


@asynccontextmanager
async def hosts_of(servers: Servers, database: str, folder: Path) -> AsyncIterator[Hosts]:
    connection = await connect(servers.nats_url("fleet"), "observer")
    owners = Owners(connection)
    following = asyncio.create_task(owners.follow())
    hosts = Hosts(servers, database, folder, owners)
    # Starting a host may block this process for longer than the server may take to answer.
    await owners.loaded.acquire()
    await owners.loaded.acquire()
    try:
        yield hosts
    finally:
        hosts.close()
        await cancel_and_wait([following])
        await connection.close()
