"""Searches for projects or tasks examine only what they can find, however much else MongoDB holds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pymongo
import pytest

from aidevos.contracts.projects import FindProjects
from aidevos.contracts.tasks import FindTasks
from aidevos.durable.store.conditions import Includes
from aidevos.durable.store.mongo import MongoStore
from aidevos.durable.store.port import Find
from aidevos.security.permissions import Principal
from services.projects.project import ProjectDO, find, restrict
from services.projects.task import TaskDO
from services.projects.task import find as find_tasks
from tests.support.searches import Commands, every_stage
from tests.support.servers import Servers

MINE, OTHERS = 6, 600
ADA = Principal("ada", ("user",))


async def measure_search(
    servers: Servers, database: str, type: Any, state: Callable[[int], dict[str, Any]], wanted: Find
) -> tuple[int, int, set[str]]:
    """Return how many results were found, how many index keys were examined, and the plan's stages."""
    commands, name = Commands(), type.object_type
    store = MongoStore(servers.mongo_url, database, listeners=[commands])
    await store.open(name, type.searches[0].indexes)
    with pymongo.MongoClient[dict[str, Any]](servers.mongo_url) as client:
        client[database][f"obj_{name}"].insert_many(
            {"_id": f"{number:04}", "created_at": datetime.now(UTC), "state": state(number)}
            for number in range(MINE + OTHERS)
        )
        found = await store.find(name, wanted)
        explained = client[database].command("explain", commands.find, verbosity="executionStats")
    store.close()
    stages = {stage["stage"] for stage in every_stage(explained["queryPlanner"]["winningPlan"])}
    return len(found), explained["executionStats"]["totalKeysExamined"], stages


def project(number: int) -> dict[str, Any]:
    users = [f"u{number % 7}", "ada"] if number < MINE else [f"u{number % 7}", f"v{number}"]
    return {"status": "active", "name": f"n{number}", "description": "", "users": users, "created_at": float(number)}


@pytest.mark.parametrize("args", [FindProjects(), FindProjects(sort="-name"), FindProjects(member="u1", q="n")])
async def test_a_search_looks_at_the_callers_projects_alone(
    servers: Servers, database: str, args: FindProjects
) -> None:
    found, looked, stages = await measure_search(servers, database, ProjectDO, project, find(restrict(ADA, args)))

    assert found == (MINE if args.member is None else 1)
    assert looked <= MINE + 1
    assert not stages & {"COLLSCAN", "SORT"}


async def test_the_projects_of_a_user_are_found_by_their_ids(servers: Servers, database: str) -> None:
    wanted = Find(Includes(("users",), "ada"), 100, after=(None, "0002"))

    found, looked, stages = await measure_search(servers, database, ProjectDO, project, wanted)

    assert (found, looked) == (3, 3)
    assert not stages & {"COLLSCAN", "SORT"}


def task(number: int) -> dict[str, Any]:
    return {
        "project": "p" if number < MINE else f"q{number % 9}",
        "status": "queued" if number % 2 else "cancelled",
        "kind": "report" if number % 3 else "mail",
        "created_at": float(number),
    }


@pytest.mark.parametrize(
    ("args", "count"),
    [
        (FindTasks(project="p"), 6),
        (FindTasks(project="p", status="queued", sort="-created_at"), 3),
        (FindTasks(project="p", kind="mail"), 2),
        (FindTasks(project="p", kind="mail", status="queued"), 1),
    ],
)
async def test_a_list_of_tasks_looks_at_the_projects_own_alone(
    servers: Servers, database: str, args: FindTasks, count: int
) -> None:
    found, looked, stages = await measure_search(servers, database, TaskDO, task, find_tasks(args))

    assert found == count
    assert looked <= MINE + 1
    assert not stages & {"COLLSCAN", "SORT"}
