"""A replica set of three members that can be killed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from deploy.local import binaries, ports
from tests.support.cluster import Cluster
from tests.support.network import LOOPBACK, Network
from tests.support.servers import MONGO_IMAGE, TEST_ENGINE, TEST_OPTIONS, Server, find_server, free_port

START_TIMEOUT = 60.0
PRIMARY, SECONDARY = "primary", "secondary"
Client = pymongo.MongoClient[dict[str, Any]]


class ReplicaSet(Cluster):
    """Three members that elect a new primary within about two seconds. Each one's files are in a folder of its name."""

    def __init__(self, folder: Path, network: Network = LOOPBACK) -> None:
        self._folder = folder
        self._network = network
        self._hosts = {name: f"{network.address(name)}:{free_port()}" for name in ("m1", "m2", "m3")}
        self._members = {name: self._member(name, host) for name, host in self._hosts.items()}
        self._killed: set[str] = set()
        self.url = "mongodb://" + ",".join(self._hosts.values()) + "/?replicaSet=rs"

    def start(self) -> None:
        with ThreadPoolExecutor(len(self._members)) as together:
            list(together.map(self.start_member, self._members))
        members = [{"_id": index, "host": host} for index, host in enumerate(self._hosts.values())]
        settings = {"electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 300}
        config = {"_id": "rs", "members": members, "settings": settings}
        with self._direct(self.members[0], timeout=START_TIMEOUT) as client:
            client.admin.command("replSetInitiate", config)
        self.primary()

    def start_member(self, name: str) -> None:
        super().start_member(name)
        self._killed.discard(name)

    def primary(self) -> str:
        """Return the name of the primary, once one can write."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            for name in {*self._members} - self._killed:
                with contextlib.suppress(PyMongoError):
                    if self._state(name) == PRIMARY:
                        return name
            time.sleep(0.05)
        raise AssertionError("the replica set elected no primary")

    def kill(self, name: str) -> None:
        self._killed.add(name)
        super().kill(name)

    def step_down(self) -> None:
        """Let the primary step down, and return once it has."""
        with pymongo.MongoClient[dict[str, Any]](self.url) as client:
            client.admin.command("replSetStepDown", 30)

    def is_complete(self) -> bool:
        """Return True if there is a primary and all others follow it."""
        try:
            states = [self._state(name) for name in self._members]
        except PyMongoError:
            return False
        return sorted(states) == [PRIMARY, SECONDARY, SECONDARY]

    def _member(self, name: str, host: str) -> Server:
        home = self._folder / name
        (home / "data").mkdir(parents=True, exist_ok=True)

        def command(program: Path) -> list[str]:
            return [*self._network.enter(name), *_command(home, host, program)]

        return find_server(binaries.mongod, MONGO_IMAGE, home, command, partial(_wait, host))

    def _state(self, name: str) -> str:
        with self._direct(name) as client:
            hello = client.admin.command("hello")
        return PRIMARY if hello["isWritablePrimary"] else SECONDARY if hello["secondary"] else ""

    def _direct(self, name: str, timeout: float = 5.0) -> Client:
        url, limit = f"mongodb://{self._hosts[name]}/?directConnection=true", int(timeout * 1000)
        return pymongo.MongoClient(url, serverSelectionTimeoutMS=limit, socketTimeoutMS=limit)


def _command(home: Path, host: str, program: Path) -> list[str]:
    address, port = host.split(":")
    line = [str(program), "--replSet", "rs", "--bind_ip", address, "--port", port, "--nounixsocket"]
    line += ["--dbpath", str(home / "data"), "--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "64"]
    line += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
    return [*line, *TEST_OPTIONS, "--wiredTigerEngineConfigString", TEST_ENGINE]


def _wait(host: str, check: Callable[[], None]) -> None:
    address, port = host.split(":")
    ports.wait_for_port(address, int(port), check, START_TIMEOUT)
