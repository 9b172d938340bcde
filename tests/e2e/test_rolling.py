"""A fleet with several processes of a service is scaled and restarted while clients use it."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from uuid import uuid4

import httpx2
import pytest

from deploy.local.programs import SERVICES
from tests.support.http import http_client
from tests.support.local_fleet import LocalFleet

pytestmark = pytest.mark.timeout(400)
NAMES = [service.name for service in SERVICES]
# Counters that the load increments, and the pause of a client between two requests.
COUNTERS = 8
PAUSE = 0.02


class Load:
    """Clients that read, and increment counters, over kept connections and over new ones."""

    def __init__(self, url: str, token: str) -> None:
        self._client = {"base_url": url, "headers": {"Authorization": f"Bearer {token}"}, "timeout": 30}
        self._stop = asyncio.Event()
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

    async def total(self) -> Counter[str]:
        async with http_client(**self._client) as http:
            return Counter({f"c{number}": await self._read_counter(http, number) for number in range(COUNTERS)})

    async def _repeat(self, send: Callable[[httpx2.AsyncClient, int], Awaitable[None]], *, keep: bool) -> None:
        number = 0
        kept = http_client(**self._client)
        while not self._stop.is_set():
            http = kept if keep else http_client(**self._client)
            number, started = number + 1, time.monotonic()
            try:
                await send(http, number % COUNTERS)
            except (httpx2.HTTPError, AssertionError) as error:
                self.failures.append(f"{send.__name__} keep={keep} {error!r}")
            self.seconds.append(time.monotonic() - started)
            if not keep:
                await http.aclose()
            await asyncio.sleep(PAUSE)
        await kept.aclose()

    async def _read(self, http: httpx2.AsyncClient, number: int) -> None:
        await self._read_counter(http, number)

    async def _read_counter(self, http: httpx2.AsyncClient, number: int) -> int:
        answer = await http.post(f"/durable-objects/counter:c{number}/request", json={"method": "value"})
        assert answer.status_code == 200, answer.text
        value: int = answer.json()["result"]
        return value

    async def _increment(self, http: httpx2.AsyncClient, number: int) -> None:
        answer = await http.post(
            f"/durable-objects/counter:c{number}/request",
            json={"method": "increment"},
            headers={"Idempotency-Key": str(uuid4())},
        )
        assert answer.status_code == 200, answer.text
        self.increments[f"c{number}"] += 1

    async def _look_up(self, http: httpx2.AsyncClient, number: int) -> None:
        answer = await http.get("/users/me")
        assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def fleet() -> Iterator[LocalFleet]:
    running = LocalFleet(AIDEVOS_REPLICAS="objects=2")
    try:
        yield running.up()
    finally:
        running.close()


async def log_in(fleet: LocalFleet) -> str:
    told = fleet.read()
    async with http_client(base_url=told["gateway_url"]) as http:
        credentials = {"username": told["admin_username"], "password": told["admin_password"]}
        answer = await http.post("/auth/login", json=credentials)
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["access_token"]
        return token


def services(fleet: LocalFleet) -> dict[tuple[str, int], int]:
    return {replica: pid for replica, pid in fleet.replicas().items() if replica[0] in NAMES}


def test_the_processes_of_a_service_have_one_name_and_several_numbers(fleet: LocalFleet) -> None:
    assert sorted(services(fleet)) == sorted([(name, 0) for name in NAMES] + [("objects", 1)])
    shown, logs = fleet.run("ps").stdout, fleet.run("logs").stdout
    assert "objects-1 " in shown
    assert "logs/objects.log" in logs
    assert "logs/objects-1.log" in logs


def test_a_service_is_scaled_while_the_fleet_is_up(fleet: LocalFleet) -> None:
    before = services(fleet)
    grown = fleet.run("scale", "--service", "http_gateway", "--replicas", "3")
    assert (grown.returncode, grown.stdout) == (0, "http_gateway has 3 processes.\n")
    after = services(fleet)
    assert set(after) - set(before) == {("http_gateway", 1), ("http_gateway", 2)}

    shrunk = fleet.run("scale", "--service", "http_gateway", "--replicas", "1")
    assert shrunk.returncode == 0, shrunk.stderr
    assert services(fleet) == before


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("scale", "--service", "nonsense", "--replicas", "2"), "SERVICE: 'nonsense' is none of the services objects,"),
        (("scale", "--service", "objects", "--replicas", "65"), "REPLICAS: '65' isn't a number of processes"),
        (("scale", "--service", "objects"), "REPLICAS: '' isn't a number of processes"),
        (("restart", "--service", "nonsense"), "SERVICE: 'nonsense' is none of the services objects,"),
    ],
)
def test_a_wrong_command_is_one_line_that_says_why(fleet: LocalFleet, options: tuple[str, ...], complaint: str) -> None:
    refused = fleet.run(*options)
    assert refused.returncode == 2
    assert refused.stderr.startswith(complaint)
    assert refused.stderr.count("\n") == 1


async def test_a_restart_of_all_services_loses_no_request(fleet: LocalFleet) -> None:
    before = services(fleet)
    load = Load(fleet.read()["gateway_url"], await log_in(fleet))

    async with load.running():
        started = time.monotonic()
        restarted = await asyncio.to_thread(fleet.run, "restart", seconds=300)
        took = time.monotonic() - started

    percentile = statistics.quantiles(load.seconds, n=100)[98]
    print(f"\nrestart in {took:.0f} s, {len(load.seconds)} requests, {len(load.failures)} failed,")
    print(f"p99 {percentile * 1000:.0f} ms, longest {max(load.seconds) * 1000:.0f} ms")
    assert restarted.returncode == 0, restarted.stderr
    assert load.failures == []
    assert await load.total() == load.increments
    after = services(fleet)
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values())


def test_a_restart_that_is_interrupted_leaves_services_and_the_next_up_mends_it(fleet: LocalFleet) -> None:
    before = services(fleet)
    with fleet.start("restart", "--service", "task_worker") as launcher:
        end = time.monotonic() + 60
        while ("task_worker", 64) not in fleet.replicas():
            assert time.monotonic() < end
            assert launcher.poll() is None
            time.sleep(0.01)
        launcher.kill()
    assert fleet.replicas()["task_worker", 64]

    assert "already up" in fleet.run("up").stdout
    assert services(fleet).keys() == before.keys()


def test_no_fleet_can_not_be_scaled_or_restarted() -> None:
    absent = LocalFleet()
    for options in (("scale", "--service", "objects", "--replicas", "2"), ("restart",)):
        refused = absent.run(*options)
        assert refused.returncode == 1
        assert "no fleet is up" in refused.stderr
    absent.close()
