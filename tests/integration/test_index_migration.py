"""A collection with the indexes of earlier versions, which ignored partitions, gets today's when a type is opened."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pymongo
import pytest
from pymongo import IndexModel

from aidevos.durable.store.mongo import MongoStore
from tests.support.servers import Servers

OLD = datetime(2020, 1, 1, tzinfo=UTC)
OBSOLETE = {"relay_1__id_1", "deleted_1", "alarm_at_1"}


@pytest.fixture
def objects(servers: Servers, database: str) -> Iterator[Any]:
    """Return the collection of a type as an earlier version made and filled it."""
    with pymongo.MongoClient[dict[str, Any]](servers.mongo_url) as client:
        made = client[database].create_collection("obj_thing", validator={"created_at": {"$exists": True}})
        made.create_indexes(
            [
                IndexModel([("relay", 1), ("_id", 1)], partialFilterExpression={"relay": True}),
                IndexModel("deleted", sparse=True),
                IndexModel("alarm_at", sparse=True),
                IndexModel([("project", 1), ("_id", 1)], partialFilterExpression={"project": {"$exists": True}}),
                IndexModel([("state.name", 1), ("_id", 1)]),
            ]
        )
        common = {"created_at": OLD, "updated_at": OLD, "version": 1, "owner": "h.1", "epoch": 1, "state": {}}
        made.insert_many(
            [
                common | {"_id": "sends", "partition": 3, "commit": "h.1.1", "relay": True, "outbox": {"1": {}}},
                common | {"_id": "waits", "partition": 4, "commit": "h.1.2", "alarm_at": 5.0, "alarms": {"x": {}}},
                common | {"_id": "gone", "partition": 5, "commit": "h.1.3", "deleted": OLD, "outbox": {}},
            ]
        )
        yield made


async def test_its_indexes_are_replaced_and_its_outboxes_alarms_and_tombstones_found(
    servers: Servers, database: str, objects: Any
) -> None:
    assert set(objects.index_information()) >= OBSOLETE
    store = MongoStore(servers.mongo_url_of("objects", database, ["thing"]), database)

    await store.open("thing", [("name",)])

    indexes = objects.index_information()
    assert set(indexes) == {
        *("_id_", "project_1__id_1", "state.name_1__id_1"),
        *("partition_1_relay_1__id_1", "partition_1_alarm_at_1", "partition_1_deleted_1"),
    }
    assert all("partialFilterExpression" in indexes[name] for name in indexes if name.startswith("partition"))
    assert await store.list_pending("thing", range(64), "", 10) == ["sends"]
    assert await store.list_due("thing", range(64), -math.inf, math.inf, 10) == [("waits", 5.0)]
    assert await store.purge("thing", range(64), datetime.now(UTC)) == 1
    store.close()


async def test_many_hosts_may_open_it_at_once_and_again(servers: Servers, database: str, objects: Any) -> None:
    more = [{"_id": f"o{number}", "created_at": OLD, "partition": number % 64} for number in range(20_000)]
    objects.insert_many(more)
    stores = [MongoStore(servers.mongo_url_of("objects", database, ["thing"]), database) for _ in range(4)]

    await asyncio.gather(*(store.open("thing") for store in stores))
    await stores[0].open("thing")

    assert not OBSOLETE & set(objects.index_information())
    assert await stores[0].list_pending("thing", range(64), "", 10) == ["sends"]
    for store in stores:
        store.close()
