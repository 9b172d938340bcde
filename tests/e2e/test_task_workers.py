"""Workers that die, hang and stop: each task has one result, on both buses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import secrets
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import nats
import pytest
from standardwebhooks import Webhook

from tests.support.kits import repeats
from tests.support.people import Person, register
from tests.support.rabbitmq import RabbitMq
from tests.support.tasks import PATCH, project_of, queue, shown, until
from tests.support.world import World, Worlds, start

LEASE = 1.5
KILLS = 20
SETTINGS = {
    "AIDEVOS_TASK_LEASE": f"{LEASE}",
    "AIDEVOS_TASK_POLL": "2",
    "AIDEVOS_TASK_SLOTS": "4",
    "AIDEVOS_WEBHOOK_NETWORKS": "127.0.0.0/8",
    "AIDEVOS_DRAIN_TIMEOUT": "7",
}
MANY = {"max_attempts": 100, "backoff": 0.0}


class Bench(NamedTuple):
    """A fleet with a short task lease, which can start workers."""

    world: World
    bus: str

    def worker(self, **settings: str) -> subprocess.Popen[bytes]:
        everything = {"AIDEVOS_EVENT_BUS_URL": self.bus, **SETTINGS, **settings}
        return start(self.world.servers, "tests.support.slow_worker", "task_worker", self.world.database, **everything)


@pytest.fixture(scope="module", params=["jetstream", "rabbitmq"])
def bench(worlds: Worlds, request: pytest.FixtureRequest) -> Iterator[Bench]:
    bus = ""
    if request.param == "rabbitmq":
        rabbitmq: RabbitMq = request.getfixturevalue("rabbitmq")
        rabbitmq.start()
        bus = rabbitmq.url
    with worlds.alone(event_bus_url=bus, **SETTINGS) as world:
        yield Bench(world, bus)


@pytest.fixture
def world(bench: Bench) -> World:
    return bench.world


@pytest.fixture
async def ada(http: httpx2.AsyncClient) -> Person:
    return await register(http)


@contextlib.contextmanager
def kill_at_end(*workers: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill these workers at the end."""
    try:
        yield
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGCONT)
            worker.kill()
            worker.wait(10)


@pytest.fixture
async def successes(world: World) -> AsyncIterator[Counter[str]]:
    """Count the success events of each task, ignoring republished events."""
    found: Counter[str] = Counter()
    known: set[str] = set()
    connection = await nats.connect(world.servers.nats_url("client"))

    async def take(message: Any) -> None:
        event = json.loads(message.data)
        if event["data"]["status"] == "succeeded" and event["id"] not in known:
            known.add(event["id"])
            found[message.subject.split(".")[2]] += 1

    await connection.subscribe("event.task.*.updated", cb=take)
    await connection.flush()
    yield found
    await connection.close()


async def wait_for_lines(log: Path, count: int) -> list[str]:
    """Return the handlers' log lines, once there are at least `count`."""
    async with asyncio.timeout(30):
        while len(noted(log)) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return noted(log)


def noted(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


async def test_workers_that_are_killed_leave_one_result_of_each_task(
    bench: Bench, http: httpx2.AsyncClient, ada: Person, successes: Counter[str], tmp_path: Path
) -> None:
    project, log = await project_of(http, ada), tmp_path / "log"
    workers = [bench.worker(), bench.worker()]
    try:
        payload = {"log": str(log), "seconds": 0.4}
        tasks = [await queue(http, project, ada, "slow", payload, retry=MANY) for _ in range(40)]
        for number in range(repeats(KILLS)):
            await wait_for_lines(log, number + 1)
            victim = workers.pop(0)
            victim.kill()
            victim.wait(10)
            workers.append(bench.worker())
            await asyncio.sleep(random.random() * 0.5)
        found = [await until(http, task, ada, within=60) for task in tasks]
    finally:
        with kill_at_end(*workers):
            pass
    assert {task["status"] for task in found} == {"succeeded"}
    assert all(task["result"] == {"attempt": task["attempts"]} for task in found)
    assert sum(task["attempts"] for task in found) > len(tasks), "nobody was killed at work"
    if not bench.bus:
        assert {successes[task] for task in tasks} == {1}


async def test_what_a_killed_worker_has_called_takes_effect_once(
    bench: Bench, world: World, http: httpx2.AsyncClient, ada: Person
) -> None:
    role, counter = f"r{secrets.token_hex(6)}", f"c{secrets.token_hex(6)}"
    admin = {"Authorization": world.admin}
    body = {"name": role, "permissions": ["counter:write", "counter:read"]}
    assert (await http.post("/roles", headers=admin, json=body)).status_code == 201
    given = await http.patch(f"/users/{ada.id}", headers=admin | PATCH, json={"roles": ["user", role]})
    assert given.status_code == 200
    project = await project_of(http, ada)
    call = {"object_id": f"counter:{counter}", "method": "increment"}
    tasks = []
    for _ in range(repeats(KILLS // 4)):
        tasks += [await queue(http, project, ada, "object.call", call, retry=MANY) for _ in range(8)]
        world.restart("task_worker")
    found = [await until(http, task, ada, within=60) for task in tasks]
    assert [task["status"] for task in found] == ["succeeded"] * len(tasks)
    assert sorted(task["result"] for task in found) == list(range(1, len(tasks) + 1))


async def test_a_worker_that_hangs_loses_its_task_and_its_late_result_is_refused(
    bench: Bench, http: httpx2.AsyncClient, ada: Person, tmp_path: Path
) -> None:
    project, log = await project_of(http, ada), tmp_path / "log"
    hung = bench.worker()
    with kill_at_end(hung):
        task = await queue(http, project, ada, "slow", {"log": str(log), "seconds": 1.0}, retry=MANY)
        await wait_for_lines(log, 1)
        hung.send_signal(signal.SIGSTOP)
        other = bench.worker()
        with kill_at_end(other):
            found = await until(http, task, ada)
            hung.send_signal(signal.SIGCONT)
            assert (found["status"], found["result"]) == ("succeeded", {"attempt": 2})
            again = await queue(http, project, ada, "slow", {"log": str(log)})
            await until(http, again, ada)
        assert await shown(http, task, ada) == found


async def test_a_task_that_is_cancelled_or_takes_too_long_is_stopped(
    bench: Bench, http: httpx2.AsyncClient, ada: Person, tmp_path: Path
) -> None:
    project, log, other = await project_of(http, ada), tmp_path / "log", tmp_path / "other"
    with kill_at_end(bench.worker()):
        task = await queue(http, project, ada, "slow", {"log": str(log), "seconds": 100, "name": "c"})
        await wait_for_lines(log, 1)
        assert (await http.post(f"/tasks/{task}/cancel", headers=ada.headers)).json()["status"] == "cancelled"
        assert await wait_for_lines(log, 2) == ["c begun", "c stopped True"]
        slow = await queue(http, project, ada, "slow", {"log": str(other), "seconds": 100, "name": "t"}, timeout=1)
        found = await until(http, slow, ada)
        assert (found["status"], found["error"]["code"]) == ("failed", "timeout")
        assert await wait_for_lines(other, 2) == ["t begun", "t stopped True"]
        again = await http.post(f"/tasks/{slow}/retry", headers=ada.headers)
        assert (again.json()["status"], again.json()["error"]) == ("queued", None)
        assert (await until(http, slow, ada))["error"]["code"] == "timeout"


async def test_a_task_that_fails_is_tried_again(bench: Bench, http: httpx2.AsyncClient, ada: Person) -> None:
    project = await project_of(http, ada)
    retry = {"max_attempts": 3, "backoff": 0.2}
    with kill_at_end(bench.worker()):
        task = await queue(http, project, ada, "fails", {"log": ""}, retry=retry)
        found = await until(http, task, ada)
        assert (found["status"], found["result"], found["attempts"]) == ("succeeded", "at last", 3)
        given_up = await queue(http, project, ada, "fails", {"log": ""}, retry={**retry, "max_attempts": 2})
        found = await until(http, given_up, ada)
        assert (found["status"], found["error"]["code"], found["attempts"]) == ("failed", "error", 2)
        assert "attempt 2 fails on purpose" in found["error"]["detail"]


async def test_a_worker_that_is_told_to_end_gives_back_what_it_cant_finish(
    bench: Bench, http: httpx2.AsyncClient, ada: Person, tmp_path: Path
) -> None:
    project, log = await project_of(http, ada), tmp_path / "log"
    leaving = bench.worker()
    with kill_at_end(leaving):
        short = await queue(http, project, ada, "slow", {"log": str(log), "seconds": 0.5, "name": "short"})
        long = await queue(http, project, ada, "slow", {"log": str(log), "seconds": 4.0, "name": "long"})
        await wait_for_lines(log, 2)
        leaving.terminate()
        assert await asyncio.to_thread(leaving.wait, 12) == 0
    assert (await shown(http, short, ada))["status"] == "succeeded"
    assert [(await shown(http, long, ada))[name] for name in ("status", "attempts")] == ["queued", 0]
    with kill_at_end(bench.worker()):
        found = await until(http, long, ada)
    assert (found["status"], found["attempts"]) == ("succeeded", 1)


async def test_the_highest_priority_comes_first_whatever_the_order_of_the_events(
    bench: Bench, http: httpx2.AsyncClient, ada: Person, tmp_path: Path
) -> None:
    project, log = await project_of(http, ada), tmp_path / "log"
    with kill_at_end(bench.worker(AIDEVOS_TASK_SLOTS="1")):
        first = {"log": str(log), "seconds": 1.0, "name": "first"}
        await queue(http, project, ada, "slow", first)
        await wait_for_lines(log, 1)
        tasks = [
            await queue(http, project, ada, "slow", {"log": str(log), "name": f"{priority}"}, priority=priority)
            for priority in (0, -5, 100, 7)
        ]
        for task in tasks:
            await until(http, task, ada)
    assert [line.split()[0] for line in noted(log)] == ["first", "100", "7", "0", "-5"]


async def test_a_full_worker_leaves_what_comes_to_one_that_has_room(
    bench: Bench, http: httpx2.AsyncClient, ada: Person, tmp_path: Path
) -> None:
    project, busy, log = await project_of(http, ada), tmp_path / "busy", tmp_path / "log"
    long = {"AIDEVOS_TASK_SLOTS": "1", "AIDEVOS_TASK_POLL": "3600"}
    with kill_at_end(bench.worker(**long)):
        held = await queue(http, project, ada, "slow", {"log": str(busy), "seconds": 60})
        await wait_for_lines(busy, 1)
        with kill_at_end(bench.worker(**long)):
            for _ in range(5):
                await until(http, await queue(http, project, ada, "slow", {"log": str(log)}), ada, within=15)
        assert (await shown(http, held, ada))["status"] == "running"
        await http.post(f"/tasks/{held}/cancel", headers=ada.headers)


async def test_a_webhook_is_sent_again_until_it_is_taken_and_is_signed(
    bench: Bench, http: httpx2.AsyncClient, ada: Person
) -> None:
    project = await project_of(http, ada)
    secret = (await http.post(f"/projects/{project}/webhook-secret", headers=ada.headers, json={})).json()["secret"]
    got: list[tuple[dict[str, str], bytes]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        signature = next(line for line in head.split("\r\n") if line.startswith("webhook-signature"))
        fields["webhook-signature"] = signature.partition(": ")[2]
        got.append((fields, await reader.readexactly(int(fields["content-length"]))))
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % (500 if len(got) == 1 else 204))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    payload = {"url": f"http://127.0.0.1:{port}/in", "type": "order.paid", "data": {"n": 1}}
    task = await queue(http, project, ada, "webhook", payload, retry={"max_attempts": 2, "backoff": 0.1})
    found = await until(http, task, ada)
    server.close()
    assert (found["status"], found["result"], found["attempts"]) == ("succeeded", {"status": 204}, 2)
    said = [Webhook(secret).verify(body, headers) for headers, body in got]
    assert said[0] == said[1] == {"type": "order.paid", "timestamp": found["created_at"], "data": {"n": 1}}
    assert {headers["webhook-id"] for headers, _ in got} == {task}
