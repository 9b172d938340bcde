"""Searches use the indexes that their types declare, as MongoDB's plans for the very commands show."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pymongo
import pytest

from aidevos.contracts.users import FindUsers
from aidevos.durable.store.mongo import MongoStore
from aidevos.durable.store.port import TIME_LIMIT, Find
from services.user_management.user import UserManagementDO
from tests.support.searches import Commands, every_stage
from tests.support.servers import Servers

SEARCH = UserManagementDO.searches[0]


@pytest.fixture(scope="module")
def client(servers: Servers) -> Iterator[pymongo.MongoClient[Any]]:
    with pymongo.MongoClient(servers.mongo_url) as client:
        yield client


def wanted() -> list[Any]:
    filters = itertools.product((None, "user"), (None, "active"), ("", "ada"))
    orders = ("created_at", "-created_at", "username", "-username")
    return [
        pytest.param(FindUsers(role=role, status=status, q=text, sort=order), id=f"{role} {status} {text!r} {order}")
        for (role, status, text), order in itertools.product(filters, orders)
    ]


@pytest.mark.parametrize("later_page", [False, True])
@pytest.mark.parametrize("args", wanted())
async def test_a_search_of_users_scans_no_collection_and_sorts_nothing(
    servers: Servers, shared_database: str, client: pymongo.MongoClient[Any], args: FindUsers, later_page: bool
) -> None:
    commands = Commands()
    store = MongoStore(servers.mongo_url, shared_database, listeners=[commands])
    await store.open("user", SEARCH.indexes)
    search: Find = SEARCH.find(args)
    if later_page:
        search = search._replace(after=("m", "x") if search.order == ("username",) else (5.0, "x"))

    await store.find("user", search)
    explained = client[shared_database].command("explain", commands.find, verbosity="queryPlanner")
    store.close()

    stages = {stage["stage"] for stage in every_stage(explained["queryPlanner"]["winningPlan"])}
    assert "IXSCAN" in stages
    assert not stages & {"COLLSCAN", "SORT"}
    assert commands.find["maxTimeMS"] == TIME_LIMIT


async def test_due_alarms_are_found_by_their_index_alone(
    servers: Servers, database: str, client: pymongo.MongoClient[Any]
) -> None:
    commands = Commands()
    store = MongoStore(servers.mongo_url, database, listeners=[commands])
    await store.open("user")
    objects = client[database]["obj_user"]
    objects.insert_many({"_id": str(number), "created_at": 0, "partition": 1} for number in range(100))
    objects.update_one({"_id": "7"}, {"$set": {"alarm_at": 5.0}})

    assert await store.list_due("user", [1], -math.inf, 9.0, 10) == [("7", 5.0)]
    explained = client[database].command("explain", commands.find, verbosity="executionStats")
    store.close()

    stages = {stage["stage"] for stage in every_stage(explained["queryPlanner"]["winningPlan"])}
    assert "IXSCAN" in stages
    assert not stages & {"COLLSCAN", "SORT"}
    assert explained["executionStats"]["totalDocsExamined"] == 1


@pytest.mark.parametrize("partitions", [1, 64, 1024])
@pytest.mark.parametrize("listed", ["pending", "due", "purged"])
async def test_the_work_of_partitions_is_found_by_an_index_that_begins_with_them(
    servers: Servers, database: str, client: pymongo.MongoClient[Any], listed: str, partitions: int
) -> None:
    commands = Commands()
    store = MongoStore(servers.mongo_url, database, listeners=[commands])
    await store.open("user")
    commands.finds.clear()
    old = datetime(2020, 1, 1, tzinfo=UTC)
    some = {"relay": True} if listed == "pending" else {"alarm_at": 5.0} if listed == "due" else {"deleted": old}
    idle = [{"_id": f"idle{number}", "created_at": 0, "partition": number} for number in range(partitions)]
    busy = [{"_id": f"b{number}", "created_at": 0, "partition": number} | some for number in range(0, partitions, 8)]
    # Work of another partition is not looked at.
    other = {"_id": "other", "created_at": 0, "partition": partitions} | some
    client[database]["obj_user"].insert_many([*idle, *busy, other])

    wanted = range(partitions)
    if listed == "pending":
        assert len(await store.list_pending("user", wanted, "", 1000)) == len(busy)
    elif listed == "due":
        assert len(await store.list_due("user", wanted, -math.inf, 9.0, 1000)) == len(busy)
    else:
        assert await store.purge("user", wanted, datetime.now(UTC)) == len(busy)
        client[database]["obj_user"].insert_many(busy)
    store.close()

    examined = 0
    for find in commands.finds:
        explained = client[database].command("explain", find, verbosity="executionStats")
        stages = list(every_stage(explained["queryPlanner"]["winningPlan"]))
        keys = [list(stage["keyPattern"]) for stage in stages if stage["stage"] == "IXSCAN"]
        assert {key[0] for key in keys} == {"partition"}
        assert not {stage["stage"] for stage in stages} & {"COLLSCAN", "SORT"}
        examined += explained["executionStats"]["totalDocsExamined"]
    assert examined == (0 if listed == "pending" else len(busy))
