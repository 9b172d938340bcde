"""Many objects' commits share one bulk write, counted by the driver's command monitoring."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from pymongo.monitoring import CommandListener

from aidevos.durable.store.conditions import EVERYTHING
from aidevos.durable.store.mongo import MongoStore
from aidevos.durable.store.port import FEW, Find
from aidevos.testing import ObjectKit
from tests.support.objects import Tally
from tests.support.servers import Servers

COMMANDS = 256


class Commands(CommandListener):
    """Counts the commands that the driver sends, by name."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.concerns: list[Any] = []
        self.levels: dict[str, set[Any]] = {}

    def started(self, event: Any) -> None:
        self.counts[event.command_name] += 1
        if event.command_name == "update":
            self.concerns.append(event.command["writeConcern"])
        if event.command_name in ("find", "aggregate"):
            level = event.command.get("readConcern", {}).get("level")
            self.levels.setdefault(event.command_name, set()).add(level)

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass


@pytest.mark.parametrize("objects", [COMMANDS, 16, 1])
async def test_256_concurrent_commands_take_at_most_16_bulk_writes_claims_included(
    servers: Servers, database: str, objects: int
) -> None:
    commands = Commands()
    store = MongoStore(servers.mongo_url, database, listeners=[commands])
    async with ObjectKit(Tally, store=store) as kit:
        commands.counts.clear()
        calls = [kit.call("tally", f"id{number % objects}", "add") for number in range(COMMANDS)]
        results = await asyncio.gather(*calls)
        sent = commands.counts.copy()
    store.close()
    assert sorted(results) == sorted(1 + number // objects for number in range(COMMANDS))
    assert 0 < sent["update"] <= 16
    assert sent["find"] <= 16
    assert set(sent) <= {"update", "find", "getMore"}


async def test_every_write_asks_for_a_majority_and_the_journal(servers: Servers, database: str) -> None:
    commands = Commands()
    store = MongoStore(servers.mongo_url, database, listeners=[commands])
    async with ObjectKit(Tally, store=store) as kit:
        await kit.call("tally", "a", "add")
    store.close()
    assert commands.concerns
    assert all(concern["w"] == "majority" and concern["j"] for concern in commands.concerns)


async def test_every_read_asks_for_what_a_majority_has(servers: Servers, database: str) -> None:
    commands = Commands()
    store = MongoStore(servers.mongo_url, database, listeners=[commands])
    async with ObjectKit(Tally, store=store) as kit:
        await asyncio.gather(*(kit.call("tally", f"o{number}", "add") for number in range(FEW + 1)))
        for limit in (1, FEW + 1):
            await store.list_page("tally", "", limit)
            await store.find("tally", Find(EVERYTHING, limit))
            await store.list_pending("tally", range(64), "", limit)
            await store.list_due("tally", range(64), 0.0, 1.0, limit)
        await store.read("tally", ["o1"])
        await store.read_archived("tally", [("o1", "key")])
        await store.count("tally", EVERYTHING)
        await store.count_in_project("tally", "p")
        await store.purge("tally", range(64), datetime.now(UTC))
    store.close()
    assert commands.levels == {"find": {"majority"}, "aggregate": {"majority"}}
