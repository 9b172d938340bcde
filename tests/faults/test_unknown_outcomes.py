"""A commit with an unknown outcome, on a real MongoDB: never lost, applied twice, or answered in two ways."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pymongo
import pytest

from aidevos.contracts import subjects
from aidevos.durable.store.mongo import MongoStore
from aidevos.durable.store.port import Claim, Commit, Outcome
from aidevos.testing import ObjectKit
from tests.support.cutting_proxy import CuttingProxy
from tests.support.kits import begun, chosen, failure, until
from tests.support.objects import Tally
from tests.support.servers import Servers

OBJECTS = 5
EACH = 8
TIMED_OUT = {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}}
STEPPED_DOWN = {"writeConcernError": {"code": 11602, "errmsg": "interrupted by a step down"}}
CLOSED = {"closeConnection": True}


@pytest.fixture
async def kit(servers: Servers, database: str) -> AsyncIterator[ObjectKit]:
    """Run objects on a real MongoDB, each with one committed turn."""
    store = MongoStore(servers.mongo_url, database, timeout=1.0)
    async with ObjectKit(Tally, store=store) as kit:
        await asyncio.gather(*(kit.call("tally", f"o{number}", "add") for number in range(OBJECTS)))
        yield kit
    store.close()


def fail(servers: Servers, times: int, **how: Any) -> int:
    """Make the next writes of the store fail in this way, and return how many writes have failed so far."""
    data = {"failCommands": ["update"], "appName": "aidevos"} | how
    with pymongo.MongoClient[dict[str, Any]](servers.mongo_url) as client:
        mode = {"times": times} if times else "off"
        return int(client.admin.command("configureFailPoint", "failCommand", mode=mode, data=data)["count"])


def wait_until_failed(servers: Servers, count: int) -> None:
    """Return when so many writes fail or have failed."""
    with pymongo.MongoClient[dict[str, Any]](servers.mongo_url) as client:
        client.admin.command("waitForFailPoint", "failCommand", timesEntered=count, maxTimeMS=10_000)


async def send(kit: ObjectKit, number: int) -> int:
    """Repeat request `number` until it is answered, as the framework's clients do."""
    subject = subjects.call("tally", f"o{number % OBJECTS}", "add")
    return int(msgspec.json.decode(await kit.request(subject, b"", request_id=f"r{number}", deadline=30.0)))


async def check_applied_once(kit: ObjectKit, answers: list[int]) -> None:
    """Check that each answer is from its own turn and that repeats get the same answer, also after a crash."""
    count = len(answers) // OBJECTS
    for number in range(OBJECTS):
        assert sorted(answers[number::OBJECTS]) == list(range(2, count + 2))
    successor = ObjectKit(Tally, store=kit.store)
    for process in (kit, successor):
        repeats = await asyncio.gather(*(send(process, number) for number in range(len(answers))))
        assert repeats == answers
        stored = await kit.store.read("tally", [f"o{number}" for number in range(OBJECTS)])
        assert {document.state["value"] for document in stored.values()} == {count + 1}
    await successor.runtime.close()


@pytest.mark.parametrize(
    ("times", "how"),
    [
        (1, CLOSED),
        (2, CLOSED),
        (7, CLOSED),
        (1, TIMED_OUT),
        (4, TIMED_OUT),
        (1, STEPPED_DOWN),
        (4, STEPPED_DOWN),
        (1, {"errorCode": 50}),
        (1, {"errorCode": 10107}),
        (3, {"errorCode": 189}),
        (6, {"errorCode": 50, "failCommands": ["update", "find"]}),
        (2, {"blockConnection": True, "blockTimeMS": 200}),
    ],
    ids=lambda value: str(value),
)
async def test_commits_that_fail_in_any_way_are_applied_once(
    kit: ObjectKit, servers: Servers, times: int, how: dict[str, Any]
) -> None:
    fail(servers, times, **how)
    answers = await asyncio.gather(*(send(kit, number) for number in range(OBJECTS * EACH)))
    fail(servers, 0)
    await check_applied_once(kit, answers)


@pytest.mark.parametrize("how", [CLOSED, TIMED_OUT, STEPPED_DOWN, {"errorCode": 50}], ids=str)
async def test_what_the_server_did_not_confirm_is_unknown_to_the_store(
    kit: ObjectKit, servers: Servers, how: dict[str, Any]
) -> None:
    documents = await kit.store.claim("tally", [Claim(f"o{number}", "me", 0) for number in range(2)])
    commits = [Commit(id, "me", found.turn + 1, "me.1", {"version": 9}, [], 100) for id, found in documents.items()]
    commits.append(Commit("o4", "somebody", 3, "somebody.1", {"version": 9}, [], 100))
    fail(servers, 2, **how)
    outcomes = await kit.store.commit("tally", commits)
    fail(servers, 0)
    assert outcomes[:2] == [Outcome.UNKNOWN] * 2
    assert outcomes[2] is not Outcome.APPLIED


@pytest.mark.parametrize("cuts", [1, 2, 5])
async def test_commits_whose_answers_are_lost_on_the_way_are_applied_once(
    servers: Servers, database: str, cuts: int
) -> None:
    async with CuttingProxy(servers.mongo_url) as proxy:
        store = MongoStore(proxy.url, database, timeout=1.0)
        async with ObjectKit(Tally, store=store) as kit:
            await asyncio.gather(*(kit.call("tally", f"o{number}", "add") for number in range(OBJECTS)))
            proxy.cuts = cuts
            answers = await asyncio.gather(*(send(kit, number) for number in range(OBJECTS * EACH)))
            assert proxy.cuts == 0
            await check_applied_once(kit, answers)
    store.close()


async def test_a_commit_that_lands_after_its_successor_s_claim_changes_nothing(
    kit: ObjectKit, servers: Servers
) -> None:
    fail(servers, 1, blockConnection=True, blockTimeMS=2000)
    late = await begun(kit.call("tally", "o0", "add", by=100, headers=chosen("late")))
    async with ObjectKit(Tally, store=kit.store) as successor:
        assert await successor.call("tally", "o0", "add") == 2
        assert not late.done()
        assert (await failure(late)).code == "unavailable"
        assert await successor.call("tally", "o0", "add") == 3
        assert await successor.call("tally", "o0", "add", by=100, headers=chosen("late")) == 103


async def test_a_server_that_is_killed_under_load_keeps_what_was_acknowledged(
    kit: ObjectKit, servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    acknowledged: list[int] = []

    async def work(worker: int) -> dict[int, int]:
        answers = {}
        for number in range(worker, OBJECTS * 60, OBJECTS * 4):
            answers[number] = await send(kit, number)
            acknowledged.append(number)
        return answers

    with caplog.at_level(logging.WARNING):
        workers = [asyncio.create_task(work(worker)) for worker in range(OBJECTS * 4)]
        await until(lambda: len(acknowledged) > OBJECTS * 10)
        servers.mongo.kill()
        await until(lambda: "claiming again failed" in caplog.text)
    servers.mongo.start()
    answers: dict[int, int] = {}
    for answered in await asyncio.gather(*workers):
        answers |= answered
    await check_applied_once(kit, [answers[number] for number in sorted(answers)])
