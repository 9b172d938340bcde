"""Host processes for the fault tests, and a client for them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from nats.aio.client import Client

from aidevos import DurableObjectClient
from aidevos.durable.client.connection import connect
from tests.support import host_process
from tests.support.nats_cluster import NatsCluster
from tests.support.programs import Program
from tests.support.servers import Servers


class HostProcess:
    """A host process whose parent restarts it whenever it dies."""

    def __init__(
        self, servers: Servers | NatsCluster, database: str, folder: Path, *, replica: int = 0, **settings: object
    ) -> None:
        """Start it; `settings` are the product's, by name."""
        self.crash_file = folder / f"crash-{replica}"
        host_process.arm(self.crash_file, "none", 0)
        environment = {
            **os.environ,
            "AIDEVOS_HOME": str(servers.home),
            "AIDEVOS_NATS_URL": servers.nats_url("objects"),
            "AIDEVOS_MONGO_URL": servers.mongo_url,
            "AIDEVOS_MONGO_DATABASE": database,
            "AIDEVOS_EVENT_BUS_URL": "",
            "AIDEVOS_REPLICA": str(replica),
            **{f"AIDEVOS_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self.log = folder / f"host-{replica}.log"
        self.log.touch()
        self._closed = False
        self._parent = Program(["tests.support.host_process", str(self.crash_file)], environment, str(self.log))

    def pid(self) -> int:
        """Return the PID of the host itself."""
        children = Path(f"/proc/{self._parent.pid}/task/{self._parent.pid}/children")
        while True:
            try:
                if found := children.read_text().split():
                    return int(found[0])
            except FileNotFoundError:
                raise AssertionError(f"the host has ended by itself: {self.log.read_text()[-3000:]}") from None
            time.sleep(0.01)

    def running(self) -> bool:
        return self._parent.poll() is None

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid(), number)

    def close(self) -> None:
        """End it, unless that was done before; a parent that has ended by itself shows why in the host's log."""
        if self._closed:
            return
        self._closed = True
        assert self.running(), self.log.read_text()[-3000:]
        os.kill(self.pid(), signal.SIGCONT)
        os.kill(self.pid(), signal.SIGTERM)
        try:
            self._parent.wait(20)
        except subprocess.TimeoutExpired:
            os.kill(self.pid(), signal.SIGKILL)
            self._parent.kill()
            raise


@asynccontextmanager
async def client(
    servers: Servers | NatsCluster, subject: str = "tester"
) -> AsyncIterator[tuple[DurableObjectClient, Client]]:
    """Connect a client with an administrator's token; yield the client and its connection."""
    header = "Bearer " + servers.issuer().issue(subject, roles=("admin",))
    connection = await connect(servers.nats_url("gateway"), "test")
    caller = DurableObjectClient(connection, lambda: header, attempt_timeout=0.25, default_deadline=30.0)
    await caller.start()
    try:
        yield caller, connection
    finally:
        await connection.close()


async def eventually(condition: Callable[[], Awaitable[bool]], within: float = 30.0) -> None:
    """Wait until the condition holds; fail after `within` seconds."""
    end = time.monotonic() + within
    while not await condition():
        assert time.monotonic() < end, f"it did not come true within {within} s"
        await asyncio.sleep(0.02)
