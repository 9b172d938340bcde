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
from tests.support.servers import MONGO_IMAGE, TEST_OPTIONS, Server, find_server, free_port

HOST = "127.0.0.1"
START_TIMEOUT = 60.0
Client = pymongo.MongoClient[dict[str, Any]]


class ReplicaSet:
    """Three members that elect a new primary within about two seconds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = [free_port() for _ in range(3)]
        self._members = {port: self._member(port) for port in self._ports}
        self._killed: set[int] = set()
        self.url = "mongodb://" + ",".join(f"{HOST}:{port}" for port in self._ports) + "/?replicaSet=rs"

    def start(self) -> None:
        with ThreadPoolExecutor(len(self._ports)) as together:
            list(together.map(self.start_member, self._ports))
        members = [{"_id": index, "host": f"{HOST}:{port}"} for index, port in enumerate(self._ports)]
        settings = {"electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 300}
        config = {"_id": "rs", "members": members, "settings": settings}
        with self._direct(self._ports[0], timeout=START_TIMEOUT) as client:
            client.admin.command("replSetInitiate", config)
        self.primary()

    def start_member(self, port: int) -> None:
        """Start a member, and return once it accepts connections."""
        self._members[port].start()
        self._killed.discard(port)

    def primary(self) -> int:
        """Return the port of the primary, once one can write."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            for port in {*self._ports} - self._killed:
                with contextlib.suppress(PyMongoError):
                    if self._is_primary(port):
                        return port
            time.sleep(0.05)
        raise AssertionError("the replica set elected no primary")

    def kill(self, port: int) -> None:
        self._killed.add(port)
        self._members[port].kill()

    def close(self) -> None:
        for member in self._members.values():
            member.close()

    def _member(self, port: int) -> Server:
        home = self._folder / str(port)
        (home / "data").mkdir(parents=True)
        return find_server(binaries.mongod, MONGO_IMAGE, home, partial(_command, home, port), partial(_wait, port))

    def _is_primary(self, port: int) -> bool:
        with self._direct(port) as client:
            return bool(client.admin.command("hello")["isWritablePrimary"])

    def _direct(self, port: int, timeout: float = 5.0) -> Client:
        url, limit = f"mongodb://{HOST}:{port}/?directConnection=true", int(timeout * 1000)
        return pymongo.MongoClient(url, serverSelectionTimeoutMS=limit, socketTimeoutMS=limit)


def _command(home: Path, port: int, program: Path) -> list[str]:
    line = [str(program), "--replSet", "rs", "--bind_ip", HOST, "--port", str(port), "--nounixsocket"]
    line += ["--dbpath", str(home / "data"), "--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "64"]
    return [*line, *TEST_OPTIONS]


def _wait(port: int, check: Callable[[], None]) -> None:
    ports.wait_for_port(HOST, port, check, START_TIMEOUT)
