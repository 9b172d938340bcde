"""Reads return everything, even if MongoDB needs several batches."""

from __future__ import annotations

from datetime import UTC, datetime

import pymongo

from aidevos.durable.store.mongo import MongoStore
from tests.support.servers import Servers

IDS = ["1", "2", "3"]
LARGE = "x" * (7 * 1024 * 1024)


async def test_documents_that_no_single_answer_holds_are_all_read(servers: Servers, database: str) -> None:
    store = MongoStore(servers.mongo_url, database)
    await store.open("large")
    with pymongo.MongoClient[dict[str, object]](servers.mongo_url) as client:
        made = {"created_at": datetime.now(UTC), "state": {"text": LARGE}}
        client[database]["obj_large"].insert_many([{"_id": id, **made} for id in IDS])

        def open_cursors() -> int:
            open: dict[str, int] = client.admin.command("serverStatus")["metrics"]["cursor"]["open"]
            return open["total"] - open.get("pinned", 0)

        before = open_cursors()
        found = await store.read("large", IDS)
        assert {id: len((document.state or {})["text"]) for id, document in found.items()} == dict.fromkeys(
            IDS, len(LARGE)
        )
        assert open_cursors() == before
    store.close()
