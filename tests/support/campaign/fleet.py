"""The fleet of a campaign: three NATS servers, three members of MongoDB, and several processes of each service.

A process that ends by itself is started again at once, as a supervisor would.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pymongo

from tests.support.http import http_client
from tests.support.nats_cluster import NatsCluster
from tests.support.network import Network
from tests.support.programs import CLOCK, NAMESPACE, Program
from tests.support.replica_set import ReplicaSet
from tests.support.servers import free_port

DATABASE = "campaign"
# The collection of the items.
COLLECTION = "campaign"
READY_WITHIN = 150.0
STOP_WITHIN = 40.0
LOOK_EVERY = 0.1
# What is written in this time, a NATS server may lose in a power cut. Acknowledged messages are on two others then.
SYNC = "100ms"


class Role(NamedTuple):
    """A service: the module that runs it, its user in NATS, and the number of its processes."""

    module: str
    user: str
    replicas: int


ROLES = {
    "objects": Role("tests.support.campaign.host", "objects", 3),
    "data": Role("services.data_storage", "data_storage", 2),
    "keys": Role("services.api_gateway", "api_gateway", 2),
    "gateway": Role("services.http_gateway", "gateway", 2),
}
GATEWAY = "gateway"


class Fleet:
    """The servers and processes of a campaign, by names such as `n1`, `m1` and `objects-0`."""

    def __init__(self, network: Network, folder: Path, mutation: str = "") -> None:
        self.network = network
        self.folder = folder
        self.mongo = ReplicaSet(folder, network)
        self.nats = NatsCluster(self.mongo.url, folder, network=network, sync=SYNC)
        # Processes that have ended although nobody ended them.
        self.crashes: Counter[str] = Counter()
        self._mutation = mutation
        self._processes: dict[str, Program] = {}
        self._ports: dict[str, int] = {}
        # Those that someone has ended on purpose.
        self._ended: set[str] = set()

    async def start(self) -> None:
        """Start everything, and return once every gateway reaches both services."""
        with ThreadPoolExecutor(2) as together:
            loop = asyncio.get_running_loop()
            await asyncio.gather(*(loop.run_in_executor(together, each.start) for each in (self.mongo, self.nats)))
        for name in self.permanent:
            self.start_process(name)
        await asyncio.gather(*(self._wait_ready(url) for url in self.urls))

    async def supervise(self) -> None:
        """Start processes again that end by themselves, until cancelled."""
        while True:
            for name, process in list(self._processes.items()):
                if process.poll() is not None and name not in self._ended:
                    self.crashes[name] += 1
                    self.start_process(name)
            await asyncio.sleep(LOOK_EVERY)

    @property
    def headers(self) -> dict[str, str]:
        """The headers of an administrator's request."""
        return {"Authorization": "Bearer " + self.nats.issuer().issue("tester", roles=("admin",))}

    @property
    def permanent(self) -> list[str]:
        """The names of the processes that the fleet has when nobody has scaled it."""
        return [f"{role}-{replica}" for role, each in ROLES.items() for replica in range(each.replicas)]

    @property
    def urls(self) -> list[str]:
        """The URLs of the gateways."""
        return [self._url(name) for name in self.permanent if name.startswith(GATEWAY)]

    def members_of(self, role: str) -> list[str]:
        """Return the processes of a service that run, or should."""
        return [name for name in self._processes if name.partition("-")[0] == role and name not in self._ended]

    def start_process(self, name: str) -> None:
        """Start a process, and don't wait for it."""
        role, _, replica = name.partition("-")
        environment = {
            **os.environ,
            "AIDEVOS_HOME": str(self.nats.home),
            "AIDEVOS_NATS_URL": self.nats.nats_url(ROLES[role].user),
            "AIDEVOS_MONGO_URL": self.mongo.url,
            "AIDEVOS_MONGO_DATABASE": DATABASE,
            "AIDEVOS_EVENT_BUS_URL": "",
            "AIDEVOS_STREAM_REPLICAS": "3",
            "AIDEVOS_REPLICA": replica,
            "AIDEVOS_PUBLIC_URL": self.nats.settings.public_url,
            "TEST_MUTATION": self._mutation,
            CLOCK: str(self.clock_of(name)),
        }
        if namespace := self.network.namespace(name):
            environment[NAMESPACE] = namespace
        if role == GATEWAY:
            environment |= {"AIDEVOS_HOST": self.network.address(name), "AIDEVOS_PORT": str(self._port(name))}
        log = self.folder / f"{name}-{time.monotonic_ns()}.log"
        self._ended.discard(name)
        self._processes[name] = Program([ROLES[role].module], environment, str(log))

    async def kill_process(self, name: str) -> None:
        """Kill a process, and leave it to the caller to start it again."""
        self._ended.add(name)
        self._processes[name].kill()
        await asyncio.to_thread(self._processes[name].wait, 10)

    async def stop_process(self, name: str) -> None:
        """Tell a process to hand over everything and end, and wait until it has; kill it if it doesn't."""
        self._ended.add(name)
        self._processes[name].terminate()
        try:
            await asyncio.to_thread(self._processes[name].wait, STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self.crashes[f"{name} didn't stop"] += 1
            await self.kill_process(name)

    def forget_process(self, name: str) -> None:
        """Remove an ended process for good."""
        del self._processes[name]

    def signal(self, name: str, number: signal.Signals) -> None:
        self._processes[name].send_signal(number)

    def clock_of(self, name: str) -> Path:
        """Return the file that says by how many seconds a process's clock is wrong."""
        return self.folder / f"{name}.clock"

    def outboxes(self) -> dict[str, int]:
        """Return the number of objects of each type that have something in their outbox."""
        with pymongo.MongoClient[dict[str, Any]](self.mongo.url) as client:
            database = client[DATABASE]
            names = [each for each in database.list_collection_names() if each.startswith("obj_")]
            counts = {name: database[name].count_documents({"outbox.0": {"$exists": True}}) for name in names}
        return {name: count for name, count in counts.items() if count}

    def logged_errors(self) -> Counter[str]:
        """Return how often processes have logged each error. Names with numbers count as the same."""
        lines = [line for log in self.folder.glob("*-*.log") for line in log.read_text().splitlines()]
        errors = [json.loads(line) for line in lines if '"level":"ERROR"' in line]
        return Counter(re.sub(r"\S*\d\S*", "…", each["message"].partition(": ")[0]) for each in errors)

    def close(self) -> None:
        """Kill everything."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait(10)
        self.nats.close()
        self.mongo.close()

    async def _wait_ready(self, url: str) -> None:
        async with asyncio.timeout(READY_WITHIN), http_client(base_url=url, headers=self.headers) as http:
            while not await _is_ready(http):  # noqa: ASYNC110
                await asyncio.sleep(LOOK_EVERY)

    def _url(self, name: str) -> str:
        return f"http://{self.network.address(name)}:{self._port(name)}"

    def _port(self, name: str) -> int:
        return self._ports.setdefault(name, free_port())


async def _is_ready(http: httpx2.AsyncClient) -> bool:
    try:
        called = await http.post("/durable-objects/tally:probe/request", json={"method": "value"})
        read = await http.get(f"/data/collections/{COLLECTION}")
    except httpx2.TransportError:
        return False
    return called.status_code == 200 and read.status_code in (200, 404)
