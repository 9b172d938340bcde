"""Items are stored as they are served, and items of earlier versions of the service are served all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos.contracts.data import Item, item_object
from aidevos.durable.store import codec
from aidevos.durable.store.memory import MemoryStore
from aidevos.settings import Settings
from aidevos.testing import ObjectKit
from aidevos.testing.kit import ADMIN
from services.data_storage import values
from services.data_storage.item_state import ItemState, load_data, project_shown, render, show
from services.data_storage.service import service as data_storage
from services.data_storage.versions import VersionState, pack, unpack
from tests.support import project_kits
from tests.support.collection_kits import configure
from tests.support.documents import documents, names
from tests.support.kits import failure

ID = item_object("books", "a")
AWKWARD = {"$set": 1, "a.b": [1.0, 1, -0.0, 2**63 - 1, 1e300], "": {"%": "é\u2028\U0001f600"}, "n": None, "t": True}


@given(documents)
def test_what_is_stored_is_what_was_served_and_gives_the_document_back(data: Any) -> None:
    document = values.check(data)
    state = ItemState(collection="books", item="a", owner="ada", data=document.stored, created_at=1.5, updated_at=2.5)
    served = Item(
        id="a",
        collection="books",
        data=data,
        version=7,
        owner="ada",
        created_at="1970-01-01T00:00:01.500Z",
        updated_at="1970-01-01T00:00:02.500Z",
    )

    state.shown = render(state, 7, msgspec.Raw(document.text))

    restored = msgspec.convert(codec.decode(codec.encode(state)), ItemState)
    assert bytes(show(restored, 7)) == msgspec.json.encode(served)
    assert msgspec.json.encode(load_data(restored)) == msgspec.json.encode(data)
    before = msgspec.structs.replace(restored, shown="")
    assert bytes(show(before, 7)) == msgspec.json.encode(served)
    assert msgspec.json.encode(load_data(before)) == msgspec.json.encode(data)


@given(st.dictionaries(names, documents, max_size=4), names)
def test_a_projection_of_what_is_stored_has_the_wanted_parts_only(data: dict[str, Any], name: str) -> None:
    state = ItemState(collection="books", item="a", owner="ada")
    item = msgspec.Raw(render(state, 1, msgspec.Raw(msgspec.json.encode(data))))

    shown = msgspec.json.decode(project_shown(item, [(name,)]), type=Item)

    expected = {key: value for key, value in data.items() if key == name}
    assert msgspec.json.encode(shown.data) == msgspec.json.encode(expected)


@given(documents)
def test_a_version_is_the_same_after_it_was_sent(data: Any) -> None:
    shown = render(ItemState(item="a"), 3, msgspec.Raw(msgspec.json.encode(data)))
    state = VersionState(life="1", number=3, shown=shown, author="ada", at=1.5)

    sent = msgspec.json.decode(msgspec.json.encode({"version": pack(state)}))

    assert unpack(msgspec.convert(sent["version"], type=type(pack(state)))) == state


@pytest.fixture
async def kit(settings: Settings) -> AsyncIterator[ObjectKit]:
    async with project_kits.kit_of(settings, data_storage) as kit:
        yield kit


async def act(kit: ObjectKit, method: str, **args: Any) -> Any:
    return await kit.call("item", ID, method, **args, caller=ADMIN)


async def find(kit: ObjectKit, **args: Any) -> list[Any]:
    page = await kit.query("item", "find", **{"collection": "books", **args}, caller=ADMIN)
    found: list[Any] = page["items"]
    return found


def stored(kit: ObjectKit) -> dict[str, Any]:
    state: dict[str, Any] = kit.store.documents["item"][ID]["state"]
    return state


async def test_every_change_stores_the_item_that_it_answers_and_later_reads_show(kit: ObjectKit) -> None:
    await configure(kit, "books", ADMIN, history=True, indexes=[["n"]])
    changes: list[tuple[str, dict[str, Any]]] = [
        ("create", {"collection": "books", "id": "a", "data": AWKWARD}),
        ("replace", {"data": {"n": 1, "x": [1.0]}}),
        ("patch", {"patch": {"x": None, "$y": {"a.b": 2}}}),
        ("restore", {"version": 1}),
    ]
    answers = []

    for method, args in changes:
        answer = await act(kit, method, **args)

        assert msgspec.json.decode(stored(kit)["shown"]) == answer == await act(kit, "read")
        assert answer["version"] == kit.store.documents["item"][ID]["version"] == len(answers) + 1
        assert await find(kit) == await find(kit, sort="n") == await find(kit, sort="other") == [answer]
        answers.append(answer)
    assert [await act(kit, "read", version=number + 1) for number in range(4)] == answers
    assert answers[3]["data"] == AWKWARD


async def test_items_of_an_earlier_service_are_served_and_migrated_when_written(settings: Settings) -> None:
    store = MemoryStore()
    async with project_kits.kit_of(settings, data_storage, store=store) as kit:
        await configure(kit, "books", ADMIN, history=True, indexes=[["n"]])
        first = await act(kit, "create", collection="books", id="a", data=AWKWARD)
        second = await act(kit, "replace", data=AWKWARD | {"n": 2})
    del stored(kit)["shown"]
    (version,) = store.documents["item_version"].values()
    del version["state"]["shown"]
    version["state"]["data"] = values.encode(AWKWARD)

    async with project_kits.kit_of(settings, data_storage, store=store) as kit:
        assert await act(kit, "read") == second
        assert await act(kit, "read", version=1) == first
        assert await act(kit, "read", fields="n") == second | {"data": {"n": 2}}
        assert await find(kit) == await find(kit, sort="n") == await find(kit, sort="other") == [second]
        assert await find(kit, fields="n") == [second | {"data": {"n": 2}}]
        patched = await act(kit, "patch", patch={"n": 3})

        assert patched["data"] == AWKWARD | {"n": 3}
        assert msgspec.json.decode(stored(kit)["shown"]) == patched
        assert await act(kit, "read", version=2) == second
        assert await act(kit, "read", version=1) == first


async def test_a_deleted_item_keeps_no_text_and_is_restored_from_its_version(kit: ObjectKit) -> None:
    await configure(kit, "books", ADMIN, history=True)
    created = await act(kit, "create", collection="books", id="a", data=AWKWARD)
    await act(kit, "delete")

    assert "shown" not in stored(kit)
    assert (await failure(act(kit, "read"))).code == "not-found"
    restored = await act(kit, "restore", version=1)
    assert restored["data"] == created["data"]


async def test_concurrent_changes_each_store_the_version_that_they_answer(kit: ObjectKit) -> None:
    await configure(kit, "books", ADMIN)
    await act(kit, "create", collection="books", id="a", data=0)

    answers = await asyncio.gather(*(act(kit, "replace", data=number) for number in range(1, 9)))

    assert sorted(answer["version"] for answer in answers) == list(range(2, 10))
    latest = max(answers, key=lambda answer: answer["version"])
    assert msgspec.json.decode(stored(kit)["shown"]) == latest == await act(kit, "read")


async def test_items_stay_invisible_after_their_expiry_though_the_collection_lets_none_expire_any_more(
    kit: ObjectKit,
) -> None:
    await configure(kit, "books", ADMIN, indexes=[["n"]])
    assert kit.store.documents["collection"]["books"]["state"]["expiring"] is False
    await configure(kit, "books", ADMIN, indexes=[["n"]], expires_after=10)
    await act(kit, "create", collection="books", id="a", data={"n": 1})
    await configure(kit, "books", ADMIN, indexes=[["n"]])
    assert len(await find(kit, sort="n")) == len(await find(kit)) == 1

    await kit.advance(11)

    assert await find(kit, sort="n") == await find(kit) == []


async def test_a_deleted_item_is_on_no_page_though_its_versions_are_kept(kit: ObjectKit) -> None:
    await configure(kit, "books", ADMIN, indexes=[["n"]], history=True)
    await act(kit, "create", collection="books", id="a", data={"n": 1})

    await act(kit, "delete")

    assert await find(kit, sort="n") == await find(kit) == await find(kit, sort="other") == []
