"""Clients that use a local fleet all the time, and count what fails."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import uuid4

import httpx2

from tests.support.http import http_client
from tests.support.local_fleet import LocalFleet

# Counters that the load increments, and the pause of a client between two requests.
COUNTERS = 8
PAUSE = 0.05


class Load:
    """Clients that read, and increment counters of their own, over kept connections and over new ones."""

    def __init__(self, url: str, token: str) -> None:
        self._client = {"base_url": url, "headers": {"Authorization": f"Bearer {token}"}, "timeout": 30}
        self._stop = asyncio.Event()
        self._counters = [f"c{number}-{uuid4()}" for number in range(COUNTERS)]
        self.seconds: list[float] = []
        self.failures: list[str] = []
        self.increments: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as clients:
            for number in range(2):
                for send in (self._read, self._increment, self._look_up):
                    clients.create_task(self._repeat(send, keep=number == 0))
            try:
                yield
            finally:
                self._stop.set()

    @property
    def p99(self) -> float:
        """Seconds within which 99 % of the requests were answered."""
        return statistics.quantiles(self.seconds, n=100)[98]

    def report(self) -> str:
        return (
            f"{len(self.seconds)} requests, {len(self.failures)} failed, p99 {self.p99 * 1000:.0f} ms, "
            f"longest {max(self.seconds) * 1000:.0f} ms"
        )

    async def total(self) -> Counter[str]:
        async with http_client(**self._client) as http:
            return Counter({counter: await self._read_counter(http, counter) for counter in self._counters})

    async def _repeat(self, send: Callable[[httpx2.AsyncClient, str], Awaitable[None]], *, keep: bool) -> None:
        number = 0
        kept = http_client(**self._client)
        while not self._stop.is_set():
            http = kept if keep else http_client(**self._client)
            number, started = number + 1, time.monotonic()
            try:
                await send(http, self._counters[number % COUNTERS])
            except (httpx2.HTTPError, AssertionError) as error:
                self.failures.append(f"{send.__name__} keep={keep} {error!r}")
            self.seconds.append(time.monotonic() - started)
            if not keep:
                await http.aclose()
            await asyncio.sleep(PAUSE)
        await kept.aclose()

    async def _read(self, http: httpx2.AsyncClient, counter: str) -> None:
        await self._read_counter(http, counter)

    async def _read_counter(self, http: httpx2.AsyncClient, counter: str) -> int:
        answer = await http.post(f"/durable-objects/counter:{counter}/request", json={"method": "value"})
        assert answer.status_code == 200, answer.text
        value: int = answer.json()["result"]
        return value

    async def _increment(self, http: httpx2.AsyncClient, counter: str) -> None:
        answer = await http.post(
            f"/durable-objects/counter:{counter}/request",
            json={"method": "increment"},
            headers={"Idempotency-Key": str(uuid4())},
        )
        assert answer.status_code == 200, answer.text
        self.increments[counter] += 1

    async def _look_up(self, http: httpx2.AsyncClient, counter: str) -> None:
        answer = await http.get("/users/me")
        assert answer.status_code == 200, answer.text


async def log_in(fleet: LocalFleet) -> str:
    told = fleet.read()
    async with http_client(base_url=told["gateway_url"]) as http:
        credentials = {"username": told["admin_username"], "password": told["admin_password"]}
        answer = await http.post("/auth/login", json=credentials)
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["access_token"]
        return token
