"""A replica set of three, whose members can be killed."""

from __future__ import annotations

import contextlib
import subprocess
import time
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from deploy.local import binaries
from tests.support.servers import free_port

Client = pymongo.MongoClient[dict[str, Any]]


class ReplicaSet:
    """Three members that elect a new primary within about two seconds."""

    def __init__(self, folder: Path) -> None:
        self._program = binaries.mongod()
        self._folder = folder
        self._ports = [free_port() for _ in range(3)]
        self._members: dict[int, subprocess.Popen[bytes]] = {}
        self.url = "mongodb://" + ",".join(f"127.0.0.1:{port}" for port in self._ports) + "/?replicaSet=rs"

    def start(self) -> None:
        for port in self._ports:
            self.start_member(port)
        members = [{"_id": index, "host": f"127.0.0.1:{port}"} for index, port in enumerate(self._ports)]
        settings = {"electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 300}
        config = {"_id": "rs", "members": members, "settings": settings}
        with self._direct(self._ports[0]) as client:
            client.admin.command("replSetInitiate", config)
        self.primary()

    def start_member(self, port: int) -> None:
        data = self._folder / str(port)
        data.mkdir(exist_ok=True)
        line = [str(self._program), "--replSet", "rs", "--bind_ip", "127.0.0.1", "--port", str(port)]
        line += ["--dbpath", str(data), "--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "64"]
        line += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
        with (data / "log").open("ab") as log:
            self._members[port] = subprocess.Popen(line, stdout=log, stderr=log)

    def primary(self) -> int:
        """The port of the primary, as soon as there is one that can write."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            for port, member in self._members.items():
                with contextlib.suppress(PyMongoError):
                    if member.poll() is None and self._is_primary(port):
                        return port
            time.sleep(0.05)
        raise AssertionError("the replica set elected no primary")

    def kill(self, port: int) -> None:
        self._members[port].kill()
        self._members[port].wait()

    def close(self) -> None:
        for port in self._ports:
            if port in self._members:
                self.kill(port)

    def _is_primary(self, port: int) -> bool:
        with self._direct(port) as client:
            return bool(client.admin.command("hello")["isWritablePrimary"])

    def _direct(self, port: int) -> Client:
        return pymongo.MongoClient(
            f"mongodb://127.0.0.1:{port}/?directConnection=true", serverSelectionTimeoutMS=2000, socketTimeoutMS=5000
        )
