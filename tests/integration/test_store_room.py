"""Slow reads leave MongoDB's threads to commits, purges are fast, and the driver leaves no source code in memory."""

from __future__ import annotations

import asyncio
import linecache
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
import pytest
from motor.frameworks.asyncio import max_workers, run_on_executor

from aidevos.durable.store.conditions import EVERYTHING
from aidevos.durable.store.mongo import MongoStore
from aidevos.durable.store.mongo_finder import READS
from aidevos.durable.store.port import FEW, Find
from aidevos.testing import ObjectKit
from tests.support.kits import quiet
from tests.support.objects import Tally
from tests.support.servers import Servers

SLOW = 1.0


async def test_slow_searches_for_many_objects_hold_up_neither_a_commit_nor_a_search_for_few(
    servers: Servers, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MongoStore(servers.mongo_url, database)
    threads = 0

    async def search_slowly(*args: Any) -> list[Any]:
        nonlocal threads
        threads += 1
        await run_on_executor(asyncio.get_running_loop(), time.sleep, SLOW)
        return []

    async with ObjectKit(Tally, store=store) as kit:
        await kit.call("tally", "a", "add")
        monkeypatch.setattr(store._finder, "_find_many", search_slowly)
        many = Find(EVERYTHING, FEW + 1)
        searches = [asyncio.ensure_future(store.find("tally", many)) for _ in range(2 * max_workers)]
        await quiet()
        assert threads == max_workers // 2
        began = time.perf_counter()
        await kit.call("tally", "a", "add")
        assert [found.id for found in await store.find("tally", Find(EVERYTHING, FEW))] == ["a"]
        assert time.perf_counter() - began < SLOW / 2
        for search in searches:
            search.cancel()
        await asyncio.gather(*searches, return_exceptions=True)
    store.close()


async def test_reads_of_few_objects_leave_connections_to_commits(
    servers: Servers, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, never = MongoStore(servers.mongo_url, database), asyncio.Event()
    send, reads = store._channels.command, 0

    async def hold_reads(command: dict[str, Any], *decode: Any) -> Any:
        nonlocal reads
        if "find" in command:
            reads += 1
            await never.wait()
        return await send(command, *decode)

    async with ObjectKit(Tally, store=store) as kit:
        await kit.call("tally", "a", "add")
        monkeypatch.setattr(store._channels, "command", hold_reads)
        waiting = [asyncio.ensure_future(store.read("tally", ["a"])) for _ in range(2 * READS)]
        await quiet()
        assert reads == READS
        assert await kit.call("tally", "a", "add") == 2
        for read in waiting:
            read.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    store.close()


async def test_a_store_leaves_no_source_code_in_memory(servers: Servers, database: str) -> None:
    store = MongoStore(servers.mongo_url, database)

    assert linecache.cache == {}
    store.close()


async def test_archived_records_end_by_themselves_and_a_type_without_any_has_no_collection_for_them(
    servers: Servers, database: str
) -> None:
    store, later = MongoStore(servers.mongo_url, database), MongoStore(servers.mongo_url, database)
    with pymongo.MongoClient[dict[str, object]](servers.mongo_url) as client:
        await store.open("tally")
        assert client[database].list_collection_names() == ["obj_tally"]

        await store.archive("tally", "a", [("k", {"p": b"1"}, datetime.now(UTC))])

        archive = client[database]["replies_tally"]
        assert archive.index_information()["end_1"]["expireAfterSeconds"] == 0
        # Of a copy that was restored.
        archive.drop_index("end_1")
        await later.open("tally")
        assert "end_1" in archive.index_information()
    store.close()
    later.close()


async def test_purges_remove_old_tombstones_a_thousand_at_a_time(servers: Servers, database: str) -> None:
    store = MongoStore(servers.mongo_url, database)
    await store.open("tally")
    old = datetime.now(UTC) - timedelta(days=9)
    tombstone = {"created_at": old, "deleted": old, "updated_at": old, "version": 1, "partition": 0}
    tombstone |= {"owner": "x", "by": "x"}
    with pymongo.MongoClient[dict[str, object]](servers.mongo_url) as client:
        client[database]["obj_tally"].insert_many(
            [tombstone | {"_id": f"t{n}", "commit": f"x.{n}"} for n in range(2500)]
        )
    before = datetime.now(UTC) - timedelta(days=7)
    assert [await store.purge("tally", [0], before) for _ in range(4)] == [1000, 1000, 500, 0]
    store.close()
