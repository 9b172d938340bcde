"""An erasure that dies at any of its commits can be repeated, and leaves nothing of the user."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aidevos import new_id
from aidevos.contracts.authentication import account_id
from aidevos.security.permissions import Principal
from aidevos.settings import Settings
from aidevos.testing import ObjectKit
from tests.support.account_kits import OPEN, kit_of, login, refresh, register, serve
from tests.support.kits import chosen, crash, failure, until

# Commits that follow an erasure: both names released, two sessions ended and forgotten, the
# outcomes erased, the entry written; some of these share a commit.
COMMITS = 6
NAME, FULL_NAME = "Zoe-Zzyzx", "Augusta Zzyzx"
EMAIL, NEXT = "zoe@zzyzx.example", "next@zzyzx.example"


async def erased_user(kit: ObjectKit) -> tuple[str, list[Any]]:
    """Register a user with a profile and two sessions, and a change of address under way."""
    id = new_id()
    await register(kit, id, NAME, EMAIL)
    pairs = [await login(kit, NAME), await login(kit, EMAIL)]
    await kit.call("user", id, "patch", patch={"full_name": FULL_NAME}, headers=chosen("p"))
    # A change of address that stopped half-way.
    await serve(kit, "user", id, "announce_email", {"email": NEXT, "change": "c"})
    await serve(kit, "auth", account_id(NEXT), "reserve_email", {"user": id, "primary": account_id(NAME)})
    await kit.settle()
    return id, pairs


async def check_gone(kit: ObjectKit, id: str, pairs: list[Any]) -> None:
    await kit.settle()
    for pair in pairs:
        assert (await failure(refresh(kit, pair))).status == 401
    for name in (NAME, EMAIL):
        assert (await failure(login(kit, name))).status == 401
    assert (await failure(serve(kit, "user", id, "show"))).code == "not-found"
    assert (await failure(register(kit, id, NAME, EMAIL))).code == "exists"
    # The failed logins just now are forgotten after a login window.
    await kit.advance(60.0)
    await kit.settle()
    assert all(document.get("deleted") for document in kit.store.documents["auth"].values())
    stored = (repr(kit.store.documents) + repr(vars(kit.bus)) + repr(vars(kit.store)["_archive"])).lower()
    assert not [word for word in (NAME, EMAIL, NEXT, FULL_NAME) if word.lower() in stored]
    ended = [subject for subject, *_ in kit.bus.events if subject.endswith(".session_ended")]
    assert len(ended) == len(pairs)
    actions = [document["state"]["action"] for document in kit.store.documents["audit"].values()]
    assert actions.count("user.erased") == 1
    assert (await register(kit, new_id(), NAME, EMAIL, request="s"))["username"] == NAME


async def crash_at(settings: Settings, commit: int, fate: str) -> tuple[ObjectKit, str, list[Any]]:
    """Crash a process during this commit of an erasure, which is applied or lost.

    Return the store, the user, and the token pairs of its sessions.
    """
    gate = asyncio.Event()
    async with kit_of(settings) as kit:
        id, pairs = await erased_user(kit)
        before = kit.store.commits
        kit.store.faults.extend([OPEN] * commit + [gate])
        erasing = asyncio.create_task(kit.call("user", id, "erase", headers=chosen("e")))
        await until(lambda: not kit.store.faults)
        if fate == "lost":
            kit.store.down = True
        gate.set()
        await until(lambda: kit.store.commits > before + commit)
        await crash(kit)
        erasing.cancel()
        await asyncio.gather(erasing, return_exceptions=True)
        kit.store.down = False
        return kit, id, pairs


@pytest.mark.parametrize("fate", ["applied", "lost"])
@pytest.mark.parametrize("commit", range(COMMITS))
async def test_an_erasure_that_dies_at_any_commit_can_be_repeated(settings: Settings, commit: int, fate: str) -> None:
    dead, id, pairs = await crash_at(settings, commit, fate)

    async with kit_of(settings, store=dead.store, bus=dead.bus) as successor:
        await successor.call("user", id, "erase", headers=chosen("e"))
        await successor.lifecycle.scan()
        await check_gone(successor, id, pairs)


async def test_a_name_that_is_taken_before_it_was_released_keeps_nothing_of_the_former_user(settings: Settings) -> None:
    dead, _, pairs = await crash_at(settings, 0, "applied")

    async with kit_of(settings, store=dead.store, bus=dead.bus) as kit:
        assert (await register(kit, new_id(), NAME, "other@zzyzx.example", request="s"))["username"] == NAME
        await kit.settle()

        ended = [subject for subject, *_ in kit.bus.events if subject.endswith(".session_ended")]
        assert len(ended) == len(pairs)
        assert (await login(kit, NAME))["user"]["email"] == "other@zzyzx.example"


async def test_a_session_that_was_not_ended_yet_gives_no_tokens_for_an_erased_user(settings: Settings) -> None:
    dead, _, pairs = await crash_at(settings, 0, "applied")

    async with kit_of(settings, store=dead.store, bus=dead.bus) as kit:
        assert (await failure(refresh(kit, pairs[0]))).status == 401


async def test_an_erased_administrator_is_not_installed_again(settings: Settings) -> None:
    first = {"username": NAME, "password": "short"}
    async with kit_of(settings) as kit:
        await serve(kit, "user", "first", "install", first)
        await serve(kit, "user", "second", "install", first | {"username": "Eve"})
        await kit.settle()
        await kit.call("user", "first", "erase")
        await kit.settle()
        await serve(kit, "user", "first", "install", first)
        await kit.settle()

        assert (await failure(login(kit, NAME, "short"))).status == 401


async def test_an_administrator_is_erased_by_administrators_alone(settings: Settings) -> None:
    async with kit_of(settings) as kit:
        for name in ("first", "second"):
            await serve(kit, "user", name, "install", {"username": name, "password": "short"})
        await kit.settle()
        helper = Principal("helper", ("helper",), frozenset({"users:read", "users:manage"}))

        assert (await failure(kit.call("user", "first", "erase", caller=helper))).code == "forbidden"
        assert (await serve(kit, "user", "first", "show"))["username"] == "first"
