"""Searches that wait for their turn in a host on real servers, while their callers may stop waiting."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import msgspec
import nats
import pytest
from nats.aio.msg import Msg

from aidevos import Service
from aidevos.contracts import envelope, subjects
from aidevos.durable.client.client import failure_of
from aidevos.durable.store.mongo import MongoStore
from aidevos.process.serving import serve
from services.objects.counter import Counter
from tests.support.host_processes import client
from tests.support.kits import until
from tests.support.servers import Servers

# Lists that run at once. Each takes a quarter of the places.
LISTS = 4


@pytest.mark.timeout(60)
async def test_a_search_whose_deadline_passes_before_its_turn_never_reads(
    servers: Servers, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = list[str](), asyncio.Event()
    list_page = MongoStore.list_page

    async def held(store: MongoStore, type: str, after: str, *more: Any, **options: Any) -> Any:
        begun.append(after)
        await go_on.wait()
        return await list_page(store, type, after, *more, **options)

    async def search(subject: str, cursor: str, **headers: str) -> Msg:
        headers[envelope.AUTHORIZATION] = "Bearer " + servers.issuer().issue(subject, roles=("admin",))
        payload = msgspec.json.encode({"cursor": cursor})
        return await connection.request(subjects.query("counter", "list"), payload, timeout=20, headers=headers)

    monkeypatch.setattr(MongoStore, "list_page", held)
    settings = servers.settings("objects", mongo_database=database)
    host = asyncio.create_task(serve(Service("objects", types=[Counter]), settings))
    connection = await nats.connect(servers.nats_url("client"))
    try:
        async with client(servers) as (caller, _), asyncio.TaskGroup() as group:
            await caller.call("counter", database, "value")
            held_back = [group.create_task(search(f"c{n % 2}", f"early{n}")) for n in range(LISTS)]
            await until(lambda: len(begun) == len(held_back))
            late = group.create_task(search("c2", "late", Deadline="300"))
            # A later request on the same connection is answered: the search waits for its turn.
            await connection.flush()
            await caller.call("counter", database, "value")
            await asyncio.sleep(0.35)
            go_on.set()
    finally:
        await connection.close()
        os.kill(os.getpid(), signal.SIGTERM)
        await host

    failure = failure_of(late.result())
    assert failure is not None
    assert failure.code == "deadline-exceeded"
    assert sorted(begun) == sorted(f"early{n}" for n in range(LISTS))
    assert [failure_of(task.result()) for task in held_back] == [None] * len(held_back)
