"""The load generator, a process that reads one order per line on stdin and writes one sample per line.

HTTP requests are encoded beforehand and sent over plain sockets. This keeps the generator cheap, and its cost
equal for the product and the floors.
"""

from __future__ import annotations

import asyncio
import os
import re
import select
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Literal

import msgspec
import uvloop
from argon2 import PasswordHasher
from nats.aio.client import Client

from aidevos.durable.client.client import DurableObjectClient
from aidevos.durable.client.connection import Connection
from aidevos.security.keys import load_public_keys, load_signing_key
from aidevos.security.tokens import TokenIssuer, TokenVerifier
from tests.bench.floors import ECHO_SUBJECT
from tests.support.paths import ROOT

ISSUER = "http://127.0.0.1:8080"
RAMP = 0.3
TOKENS = 100
LIMITED = 429
_length = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE).search


class Order(msgspec.Struct, kw_only=True):
    """Keep `in_flight` requests under way for `seconds`, after a short ramp.

    `http` sends `requests` to `address` in turn. With a `rate`, it sends that many per second at even intervals: each
    latency counts from when the request was due, even if it had to wait for a connection. `nats` calls `method` of the
    counters `ids` in turn; with a `rate`, it sends that many per second at random times, unless `in_flight` are under
    way. `nats-echo` calls the echo. `argon2` verifies passwords with these parameters (passes, KiB, lanes) in a thread
    per core. `verify` checks access tokens with the keys under `home`: the same token again and again, or a `fresh` one
    each time. `constant` stands for a known `rate`. HTTP answers count if their status is among `counts`; any other
    status except these and 429 is an error.
    """

    kind: Literal["http", "nats", "nats-echo", "argon2", "verify", "constant"]
    in_flight: int
    seconds: float
    url: str = ""
    address: tuple[str, int] = ("", 0)
    requests: list[bytes] = []
    authorization: str = ""
    method: str = ""
    ids: list[str] = []
    argon2: tuple[int, int, int] = (0, 0, 0)
    home: str = ""
    fresh: bool = False
    rate: float = 0.0
    counts: tuple[int, ...] = (200,)


class Sample(msgspec.Struct):
    """Requests per second, and latencies in milliseconds. `count` has all requests, also those of the ramp."""

    rate: float
    p50: float
    p99: float
    count: int = 0
    p999: float = 0.0


class Load:
    """The generator's process, as seen by the bench."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.load"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(self, order: Order) -> Sample:
        self.begin(order)
        return self.end()

    def begin(self, order: Order) -> None:
        assert self._process.stdin
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        self._process.stdin.flush()

    def end(self) -> Sample:
        """Return the sample of the running order."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load has failed")
        return msgspec.json.decode(line, type=Sample)

    def close(self) -> None:
        self._process.communicate(timeout=10)


class _Stopwatch:
    """Latencies of the requests that end within the measured time; `running` says whether to send more."""

    def __init__(self, seconds: float) -> None:
        self._begin = perf_counter() + RAMP
        self._end = self._begin + seconds
        self._seconds = seconds
        self._latencies: list[float] = []
        self._count = 0
        self.running = True

    def lap(self, started: float) -> float:
        """Record that a request ended now, and return the current time."""
        now = perf_counter()
        self._count += 1
        if now >= self._end:
            self.running = False
        elif now >= self._begin:
            self._latencies.append(now - started)
        return now

    def sample(self) -> Sample:
        # Without any answer in time, the first one has taken at least as long.
        ordered = sorted(self._latencies) or [self._seconds]
        p50, p99, p999 = (1000 * ordered[int(len(ordered) * part)] for part in (0.5, 0.99, 0.999))
        return Sample(len(self._latencies) / self._seconds, p50, p99, self._count, p999)


class _Connection:
    def __init__(self, address: tuple[str, int], requests: Iterator[bytes]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._requests = requests
        self._received = b""
        self.started = 0.0

    def send(self, now: float) -> None:
        self.started = now
        self._received = b""
        self.socket.sendall(next(self._requests))

    def receive(self) -> int:
        """Return the status of the response once it is complete, and 0 before that."""
        self._received += self.socket.recv(65536)
        head = self._received.find(b"\r\n\r\n")
        length = _length(self._received, 0, head + 2)
        if head < 0:
            return 0
        if length is None:
            is_whole = self._received.endswith(b"\r\n0\r\n\r\n")
        else:
            is_whole = len(self._received) >= head + 4 + int(length[1])
        return int(self._received[9:12]) if is_whole else 0


def over_http(order: Order) -> Sample:
    requests = cycle(order.requests)
    connections = [_Connection(order.address, requests) for _ in range(order.in_flight)]
    by_descriptor = {connection.socket.fileno(): connection for connection in connections}
    watch = _Stopwatch(order.seconds)
    schedule = _Schedule(order.rate, connections) if order.rate else None
    with select.epoll() as poll:
        for descriptor in by_descriptor:
            poll.register(descriptor, select.EPOLLIN)
        if schedule is None:
            for connection in connections:
                connection.send(perf_counter())
        while watch.running:
            wait = schedule.send_due() if schedule else None
            for descriptor in _wait_readable(poll, by_descriptor, wait):
                connection = by_descriptor[descriptor]
                status = connection.receive()
                if status and status not in {*order.counts, LIMITED}:
                    raise RuntimeError(f"unexpected status {status} of {order.requests[0].decode()}")
                if status:
                    now = perf_counter() if status == LIMITED else watch.lap(connection.started)
                    schedule.free(connection) if schedule else connection.send(now)
    for connection in connections:
        connection.socket.close()
    return watch.sample()


def _wait_readable(poll: select.epoll, descriptors: Iterable[int], wait: float | None) -> list[int]:
    """Return the readable descriptors within the time; epoll alone would wait for whole milliseconds."""
    if wait is None:
        return [descriptor for descriptor, _ in poll.poll()]
    return select.select(list(descriptors), [], [], wait)[0]


class _Schedule:
    """Requests that are due at even intervals, and the connections that are free to send them.

    A request that is due while no connection is free waits, and its latency counts from when it was due.
    """

    def __init__(self, rate: float, connections: list[_Connection]) -> None:
        self._interval = 1 / rate
        self._due = perf_counter()
        self._free = deque(connections)

    def free(self, connection: _Connection) -> None:
        self._free.append(connection)

    def send_due(self) -> float | None:
        """Send what is due, and return the seconds until something else is, or None if an answer has to come first."""
        while self._free and self._due <= perf_counter():
            self._free.popleft().send(self._due)
            self._due += self._interval
        return max(0.0, self._due - perf_counter()) if self._free else None


async def over_nats(order: Order) -> Sample:
    """Call the echo through bare nats-py, or the product through its own client."""
    connection = Client() if order.kind == "nats-echo" else Connection()
    await connection.connect(order.url)
    ask = await _asker(order, connection)
    watch = _Stopwatch(order.seconds)

    async def keep_asking() -> None:
        now = perf_counter()
        while watch.running:
            await ask()
            now = watch.lap(now)

    if order.rate:
        await _keep_pace(order, ask, watch)
    else:
        await asyncio.gather(*(keep_asking() for _ in range(order.in_flight)))
    await connection.close()
    return watch.sample()


async def _keep_pace(order: Order, ask: Callable[[], Awaitable[object]], watch: _Stopwatch) -> None:
    """Send requests at random times, `rate` per second on average, as many independent clients do."""
    pauses, room, due = Random(0), asyncio.Semaphore(order.in_flight), perf_counter()

    async def ask_once(started: float) -> None:
        await ask()
        room.release()
        watch.lap(started)

    async with asyncio.TaskGroup() as group:
        while watch.running:
            due += pauses.expovariate(order.rate)
            await asyncio.sleep(due - perf_counter())
            await room.acquire()
            group.create_task(ask_once(due))


async def _asker(order: Order, connection: Client) -> Callable[[], Awaitable[object]]:
    if order.kind == "nats-echo":
        return lambda: connection.request(ECHO_SUBJECT, b'{"by":1}', timeout=10)
    client = DurableObjectClient(connection, lambda: order.authorization)
    await client.start()
    ids = cycle(order.ids)
    args = {"by": 1} if order.method == "increment" else {}
    return lambda: client.call("counter", next(ids), order.method, **args)


def hashing(order: Order) -> Sample:
    """Verify passwords in threads that do nothing else."""
    hasher = PasswordHasher(*order.argon2)
    hashed = hasher.hash("wheelbarrow at noon")
    watch = _Stopwatch(order.seconds)

    def keep_verifying() -> None:
        now = perf_counter()
        while watch.running:
            hasher.verify(hashed, "wheelbarrow at noon")
            now = watch.lap(now)

    with ThreadPoolExecutor() as threads:
        for _ in range(os.cpu_count() or 1):
            threads.submit(keep_verifying)
    return watch.sample()


def verifying(order: Order) -> Sample:
    """Check access tokens in one thread."""
    issuer = TokenIssuer(load_signing_key(Path(order.home)), ISSUER)
    verifier = TokenVerifier(lambda: load_public_keys(Path(order.home)), ISSUER)
    tokens = ["Bearer " + issuer.issue("bench") for _ in range(TOKENS if order.fresh else 1)]
    watch = _Stopwatch(order.seconds)
    now = perf_counter()
    for token in cycle(tokens):
        if not watch.running:
            break
        if order.fresh:
            verifier._cache.clear()
            verifier._verified.clear()
        verifier.verify(token)
        now = watch.lap(now)
    return watch.sample()


def sample_of(order: Order) -> Sample:
    if order.kind in ("nats", "nats-echo"):
        return uvloop.run(over_nats(order))
    if order.kind == "constant":
        return Sample(order.rate, 0.0, 0.0)
    return {"http": over_http, "argon2": hashing, "verify": verifying}[order.kind](order)


def main() -> None:
    for line in sys.stdin.buffer:
        sample = sample_of(msgspec.json.decode(line, type=Order))
        print(msgspec.json.encode(sample).decode(), flush=True)


if __name__ == "__main__":
    main()
