"""The data service's rules in one process: unique values and collection changes across crashes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from aidevos.contracts.data import Rules, item_object
from aidevos.contracts.errors import Failure
from aidevos.security.permissions import ROLES, Principal
from aidevos.settings import Settings, load
from aidevos.testing import ObjectKit
from aidevos.testing.kit import SERVICE
from services.data_storage.collection import DataStorageDO
from services.data_storage.expiry import remove_expired
from services.data_storage.service import service as data_storage
from services.data_storage.terms import Terms, TermsCache
from services.data_storage.unique import unique_id
from tests.support.collection_kits import creatable
from tests.support.kits import begun, chosen, crash, failure, until
from tests.support.project_kits import outcome

ADA = Principal("ada", ("user",), ROLES["user"])
BOB = Principal("bob", ("user",), ROLES["user"])
OPEN = asyncio.Event()
OPEN.set()
# Commits of a creation with a unique value: the value, the item.
COMMITS = 2


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "keys").mkdir()
    return load({}, home=tmp_path, expiry_interval=0.01)


@pytest.fixture
async def kit(settings: Settings) -> AsyncIterator[ObjectKit]:
    async with ObjectKit(data_storage, settings=settings) as kit:
        yield kit


async def configure(kit: ObjectKit, **config: Any) -> Any:
    return await kit.call("collection", "c", "configure", config=config, caller=ADA)


async def create(kit: ObjectKit, id: str, data: Any, caller: Principal = ADA) -> Any:
    args = {"collection": "c", "id": id, "data": data}
    return await kit.call("item", item_object("c", id), "create", **args, caller=caller)


async def read(kit: ObjectKit, id: str) -> Any:
    return await kit.call("item", item_object("c", id), "read", caller=ADA)


def unique_value(kit: ObjectKit, data: dict[str, str]) -> str:
    """Return the ID of the object that reserves a field's value."""
    incarnation = kit.store.documents["collection"]["c"]["state"]["incarnation"]
    return str(unique_id(incarnation, next(iter(data)), data))


@pytest.mark.parametrize("fate", ["applied", "lost"])
@pytest.mark.parametrize("commit", range(COMMITS))
async def test_a_creation_that_dies_at_any_commit_keeps_no_value_that_its_item_has_not(
    settings: Settings, commit: int, fate: str
) -> None:
    store = await crash_at(settings, commit, fate)
    came_to_be = commit == COMMITS - 1 and fate == "applied"

    async with ObjectKit(data_storage, settings=settings, store=store) as successor:
        if came_to_be:
            assert (await read(successor, "first"))["data"] == {"mail": "a"}
            assert (await failure(create(successor, "second", {"mail": "a"}))).code == "exists"
            return
        assert (await failure(read(successor, "first"))).code == "not-found"
        assert (await create(successor, "second", {"mail": "a"}))["id"] == "second"
        assert (await failure(create(successor, "first", {"mail": "a"}))).field == "args.data.mail"


async def crash_at(settings: Settings, commit: int, fate: str) -> Any:
    """Crash a process during this commit of a creation, and return its store."""
    gate = asyncio.Event()
    async with ObjectKit(data_storage, settings=settings) as kit:
        await configure(kit, unique=["mail"])
        kit.store.faults.extend([OPEN] * commit + [gate])
        before = kit.store.commits
        creating = asyncio.create_task(create(kit, "first", {"mail": "a"}))
        await until(lambda: not kit.store.faults)
        if fate == "lost":
            kit.store.down = True
        gate.set()
        await until(lambda: kit.store.commits > before + commit)
        await crash(kit)
        creating.cancel()
        await asyncio.gather(creating, return_exceptions=True)
        kit.store.down = False
        return kit.store


async def test_whoever_wants_a_value_waits_until_it_is_decided_whether_another_item_gets_it(kit: ObjectKit) -> None:
    await configure(kit, unique=["mail"])
    gate = asyncio.Event()
    kit.store.faults.extend([OPEN, gate])
    first = await begun(create(kit, "first", {"mail": "a"}))
    await until(lambda: not kit.store.faults)
    second = await begun(create(kit, "second", {"mail": "a"}))
    undecided = not second.done()
    gate.set()

    assert undecided
    assert (await first)["id"] == "first"
    assert (await failure(second)).code == "exists"


async def test_a_value_that_comes_back_before_its_release_stays_taken(kit: ObjectKit) -> None:
    await configure(kit, unique=["mail"])
    await create(kit, "first", {"mail": "a"})
    item = item_object("c", "first")
    for mail in ("b", "a"):
        await kit.call("item", item, "replace", data={"mail": mail}, caller=ADA)
    value = next(iter(kit.store.documents["item"][item]["state"]["reserved"]))
    await kit.settle()
    late = {"item": item, "version": 2}
    await kit.call("unique", value, "release", **late, caller=SERVICE)

    assert kit.store.documents["unique"][value]["state"]["holder"] == item
    assert (await failure(create(kit, "second", {"mail": "a"}))).code == "exists"


async def test_an_item_that_is_made_anew_takes_its_values_again_in_another_process(settings: Settings) -> None:
    item = item_object("c", "first")
    async with ObjectKit(data_storage, settings=settings) as kit:
        await configure(kit, unique=["mail"])
        await create(kit, "first", {"mail": "a"})
        await kit.call("item", item, "delete", caller=ADA)
        await kit.settle()
    async with ObjectKit(data_storage, settings=settings, store=kit.store) as successor:
        args = {"collection": "c", "id": "first", "data": {"mail": "a"}}
        made = await successor.call("item", item, "create", **args, caller=ADA, headers=chosen("once"))

        assert made["version"] == 3
        assert (await failure(create(successor, "second", {"mail": "a"}))).code == "exists"


async def test_a_creation_that_comes_too_late_leaves_the_values_that_the_item_has(settings: Settings) -> None:
    item = item_object("c", "first")
    async with ObjectKit(data_storage, settings=settings) as kit:
        await configure(kit, unique=["mail", "name"])
        await create(kit, "first", {"mail": "a"})
        for mail in ("b", "a"):
            await kit.call("item", item, "replace", data={"mail": mail}, caller=ADA)
        value = next(iter(kit.store.documents["item"][item]["state"]["reserved"]))
        later = next(name for name in map(str, count()) if unique_value(kit, {"name": name}) > value)
        await create(kit, "other", {"name": later})
        await kit.settle()
    for data in ({"mail": "a"}, {"mail": "a", "name": later}):
        async with ObjectKit(data_storage, settings=settings, store=kit.store) as successor:
            assert (await failure(create(successor, "first", data))).code == "exists"
            await successor.call("unique", value, "release", item=item, version=2, caller=SERVICE)

            assert (await failure(create(successor, "second", {"mail": "a"}))).code == "exists"


async def test_an_item_that_is_refused_one_value_keeps_none(kit: ObjectKit) -> None:
    names = ["a", "b", "c", "d"]
    await configure(kit, unique=names)
    await create(kit, "first", dict.fromkeys(names, "taken"))
    for name in names:
        refused = await failure(create(kit, "second", dict.fromkeys(names, "new") | {name: "taken"}))
        assert refused.field == f"args.data.{name}"

    assert {state["holder"] for state in left(kit, "unique")} == {item_object("c", "first")}


async def test_whoever_wants_what_a_dead_write_has_left_does_not_block_whom_it_is_left_to(kit: ObjectKit) -> None:
    await configure(kit, unique=["mail"])
    for id in ("first", "second"):
        await create(kit, id, {})
    begun_and_dead = {"item": item_object("c", "first"), "version": 2, "attempt": "x"}
    await kit.call("unique", unique_value(kit, {"mail": "a"}), "reserve", **begun_and_dead, caller=SERVICE)
    wanting = [
        kit.call("item", item_object("c", id), "replace", data={"mail": "a"}, caller=ADA) for id in ("second", "first")
    ]
    async with asyncio.timeout(5):
        answers = await asyncio.gather(*wanting, return_exceptions=True)

    assert isinstance(answers[0], Failure)
    assert answers[0].code == "exists"
    assert not isinstance(answers[1], BaseException)


async def test_a_repeat_that_finds_another_version_is_no_other_request(settings: Settings) -> None:
    item = item_object("c", "first")
    async with ObjectKit(data_storage, settings=settings) as kit:
        await configure(kit, unique=["mail"])
        await create(kit, "first", {})
        replacing = {"data": {"mail": "a"}}
        gate = asyncio.Event()
        kit.store.faults.extend([OPEN, gate])
        lost = await begun(kit.call("item", item, "replace", **replacing, caller=ADA, headers=chosen("once")))
        await until(lambda: not kit.store.faults)
        await crash(kit)
        lost.cancel()
    async with ObjectKit(data_storage, settings=settings, store=kit.store) as successor:
        await successor.call("item", item, "replace", data={"mail": "b"}, caller=ADA)
        repeated = await successor.call("item", item, "replace", **replacing, caller=ADA, headers=chosen("once"))

        assert (repeated["version"], repeated["data"]) == (3, {"mail": "a"})


async def test_terms_that_were_asked_for_before_a_collection_was_made_are_not_those_of_who_comes_after() -> None:
    cache, gate = TermsCache(), asyncio.Event()
    terms = Terms(name="c", owner="ada", incarnation="1", rules=Rules())

    async def before() -> Terms | None:
        await gate.wait()
        return None

    async def after() -> Terms | None:
        return terms

    early = await begun(cache.get("c", before))
    late = await begun(cache.get("c", after))
    gate.set()

    assert await early is None
    assert await late is terms


async def test_a_change_that_dies_while_items_are_looked_at_lapses(
    settings: Settings,
) -> None:
    async with ObjectKit(data_storage, settings=settings) as kit:
        await create(kit, "first", {"mail": "a"})
        await create(kit, "second", {"mail": "b"})
        changing = asyncio.create_task(configure(kit, unique=["mail"]))
        collection = kit.store.documents["collection"]["c"]
        await until(lambda: collection["state"]["proposal"])
        proposed = collection["state"]["proposal"]
        await crash(kit)
        changing.cancel()
        async with ObjectKit(data_storage, settings=settings, store=kit.store) as successor:
            meanwhile = await failure_or(create(successor, "third", {"mail": "c"}))
            taken = await failure_or(create(successor, "fourth", {"mail": "c"}))
            successor.clock.advance(DataStorageDO.change_timeout + 1)
            await asyncio.sleep(0.6)
            lapsed = await failure_or(create(successor, "fifth", {"mail": "c"}))
            shown = await successor.call("collection", "c", "config", caller=ADA)

            assert proposed["unique"] == ["mail"]
            assert (meanwhile, taken, lapsed) == ("third", "exists", "fifth")
            assert (shown["unique"], shown["version"]) == ([], 1)


async def failure_or(creating: Any) -> str:
    """Return the ID of the new item, or the code of the refusal."""
    made = (await asyncio.gather(creating, return_exceptions=True))[0]
    return str(made["id"] if isinstance(made, dict) else made.code)


async def test_a_user_who_is_erased_leaves_no_item_and_no_version(kit: ObjectKit) -> None:
    await configure(kit, history=True, rules={"create": "authenticated", "read": "authenticated"})
    for number in range(120):
        await create(kit, f"b{number}", {"by": "bob"}, BOB)
    await kit.call("item", item_object("c", "b0"), "replace", data={"by": "bob again"}, caller=BOB)
    await create(kit, "mine", {"by": "ada"})
    erasing = asyncio.create_task(kit.call("eraser", "bob", "erase", caller=SERVICE))
    await until(lambda: 'by": "bob' not in repr(left(kit)).replace("'", '"'))
    await until(lambda: "bob" not in repr(left(kit, "item_version")))
    erasing.cancel()

    assert [state["item"] for state in left(kit)] == ["mine"]
    assert all("bob" not in repr(state) for state in left(kit, "item_version"))


def left(kit: ObjectKit, type: str = "item") -> list[Any]:
    return [doc["state"] for doc in kit.store.documents[type].values() if doc.get("deleted") is None]


async def test_what_has_expired_is_removed_in_the_background(kit: ObjectKit, settings: Settings) -> None:
    await configure(kit, expires_after=10)
    await create(kit, "short", 1)
    kit.clock.advance(5)
    await create(kit, "long", 2)
    kit.clock.advance(6)
    removing = asyncio.create_task(remove_expired(ObjectCaller(kit), settings))  # type: ignore[arg-type]
    await until(lambda: len(left(kit)) == 1)
    removing.cancel()

    assert left(kit)[0]["item"] == "long"


class ObjectCaller:
    """The service's own client, on a kit."""

    def __init__(self, kit: ObjectKit) -> None:
        self._kit = kit

    async def call(self, type: str, id: str, method: str, /, **args: Any) -> Any:
        return await self._kit.call(type, id, method, **args, caller=SERVICE)

    async def query(self, type: str, name: str, /, **args: Any) -> Any:
        return await self._kit.query(type, name, **args, caller=SERVICE)


@pytest.mark.parametrize("permissions", [{"data:write", "collections:create"}, {"data:write"}, set()])
async def test_the_view_foretells_whether_a_first_item_can_make_its_collection(
    kit: ObjectKit, permissions: set[str]
) -> None:
    caller = Principal("bob", (), frozenset(permissions))

    foretold = await creatable(kit, "c", caller)
    args = {"collection": "c", "id": "first", "data": 1}
    made = await outcome(kit, "item", item_object("c", "first"), "create", args, caller)

    assert foretold == made == ("done" if "collections:create" in permissions else "not-found")
