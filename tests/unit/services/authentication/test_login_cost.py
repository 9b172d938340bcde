"""What a login writes, what it waits for, and its entry in the security log through faults."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace

from aidevos import new_id
from aidevos.contracts.authentication import session_of
from aidevos.durable.store.memory import MemoryStore
from aidevos.settings import Settings
from aidevos.testing import ObjectKit
from services.authentication.audit import COMMIT_INTERVAL
from tests.support.account_kits import kit_of, login, register
from tests.support.kits import crash, until

LOGINS = 20


class LogStore(MemoryStore):
    """Counts commits and bulk writes by type. The log's bulk writes wait until `log_open` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.updates: Counter[str] = Counter()
        self.writes: Counter[str] = Counter()
        self.log_open = asyncio.Event()
        self.log_open.set()

    async def commit(self, type: str, commits: Any) -> Any:
        if type == "audit":
            await self.log_open.wait()
        self.updates[type] += len(commits)
        self.writes[type] += 1
        return await super().commit(type, commits)


async def later_login(kit: ObjectKit) -> Any:
    """Log in a second after the last login."""
    kit.clock.advance(1)
    return await login(kit)


async def find_logins(kit: ObjectKit) -> list[str]:
    """Return the sessions of all logins in the log, in the order of their times."""
    page = await kit.query("audit", "search", action="login", sort="at")
    return [entry["session"] for entry in page["items"]]


async def test_a_login_waits_for_the_commits_of_its_session_and_its_account_alone(settings: Settings) -> None:
    store = LogStore()
    async with kit_of(settings, store=store) as kit:
        await register(kit, new_id())
        await kit.settle()
        store.updates.clear()
        store.log_open.clear()

        pair = await login(kit)

        assert store.updates == {"session": 1, "auth": 1}
        store.log_open.set()
        await kit.settle()
        assert store.updates["audit"] == 1
        assert await find_logins(kit) == [session_of(pair["refresh_token"])]


async def test_the_entries_of_many_logins_share_bulk_writes(settings: Settings) -> None:
    store = LogStore()
    async with kit_of(settings, store=store) as kit:
        await register(kit, new_id())
        await kit.settle()
        store.writes.clear()
        began = asyncio.get_running_loop().time()
        pairs = [await later_login(kit) for _ in range(LOGINS)]
        await kit.settle()
        elapsed = asyncio.get_running_loop().time() - began

        assert store.writes["audit"] <= 2 + elapsed / COMMIT_INTERVAL
        assert store.updates["audit"] >= LOGINS
        assert await find_logins(kit) == [session_of(pair["refresh_token"]) for pair in pairs]


async def test_logins_whose_passwords_have_waited_share_bulk_writes(settings: Settings) -> None:
    store, names = LogStore(), [f"ada{number}" for number in range(LOGINS)]
    slow = replace(settings, password_threads=1, password_memory=19 * 1024)
    async with kit_of(slow, store=store) as kit:
        for name in names:
            await register(kit, new_id(), name, f"{name}@example.org", name)
        await kit.settle()
        store.updates.clear()
        store.writes.clear()

        await asyncio.gather(*(login(kit, name) for name in names))

        assert store.updates["session"] == LOGINS
        assert store.updates["auth"] >= LOGINS
        assert store.writes["session"] <= LOGINS / 2
        assert store.writes["auth"] <= LOGINS / 2


async def test_no_entry_of_an_answered_login_is_lost_or_doubled_by_a_crash(settings: Settings) -> None:
    store = LogStore()
    async with kit_of(settings, store=store) as kit:
        await register(kit, new_id())
        await kit.settle()
        pairs = [await later_login(kit)]
        await kit.settle()
        store.log_open.clear()
        pairs += [await later_login(kit) for _ in range(3)]
        await crash(kit)
    store.log_open.set()

    async with kit_of(settings, store=store) as successor:
        await successor.lifecycle.scan()
        await successor.settle()
        assert await find_logins(successor) == [session_of(pair["refresh_token"]) for pair in pairs]


@pytest.mark.parametrize("fault", ["fail", "lose"])
async def test_an_entry_whose_write_has_an_unknown_outcome_appears_once(settings: Settings, fault: str) -> None:
    store = LogStore()
    async with kit_of(settings, store=store) as kit:
        await register(kit, new_id())
        await kit.settle()
        store.log_open.clear()
        pair = await login(kit)
        store.faults.append(fault)
        store.log_open.set()
        await until(lambda: not store.faults)
        await kit.settle()

        assert await find_logins(kit) == [session_of(pair["refresh_token"])]
