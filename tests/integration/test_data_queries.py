"""Item queries use their indexes: MongoDB reports how many keys and documents each page examined."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
import pymongo
import pytest

from aidevos.contracts.data import ITEM_TYPE, FindItems, ItemPage, Rules
from aidevos.contracts.errors import Failure
from aidevos.durable.base.fair_share import FairShare
from aidevos.durable.objects.reader import Reader
from aidevos.durable.objects.registry import DurableObjectRegistry
from aidevos.durable.store.mongo import MongoStore
from aidevos.projects.memberships import Memberships
from aidevos.security.permissions import Principal
from services.data_storage import values
from services.data_storage.cursors import Cursors
from services.data_storage.find import Finder
from services.data_storage.item import ItemDO
from services.data_storage.item_state import ItemState, render
from services.data_storage.keys import compute_index_keys
from services.data_storage.terms import Index, Terms
from tests.support.searches import Commands
from tests.support.servers import Servers

COUNT = 3000
LIMIT = 20
INDEXES = {
    "0": Index(("price",), complete=True),
    "3": Index(("kind", "-price"), complete=True),
    "15": Index(("-na.me",), complete=True),
}
TERMS = Terms(name="books", owner="ada", incarnation="1", rules=Rules(read="public"), indexes=INDEXES)


class KnownTerms:
    async def get(self, collection: str, fetch: Any) -> Terms:
        return TERMS


class Queries:
    """Requests pages, and keeps the commands that MongoDB received for them."""

    def __init__(self, store: MongoStore, commands: Commands, database: Any) -> None:
        self._finder = Finder(KnownTerms(), Memberships(), Cursors(b"s" * 32))  # type: ignore[arg-type]
        types = DurableObjectRegistry([ItemDO]).types
        self._reader = Reader(store, cast(Any, None), FairShare(2), Principal("ada"), 0.0, types)
        self._commands = commands
        self._database = database

    async def page(self, **args: Any) -> Any:
        wanted = FindItems(collection="books", limit=LIMIT, **args)
        found = await self._finder.answer(self._reader, wanted)
        return msgspec.json.decode(msgspec.json.encode(found), type=ItemPage)

    def cost(self) -> tuple[int, int]:
        """Return how many keys and documents the last query examined."""
        explained = self._database.command("explain", self._commands.find, verbosity="executionStats")
        stats = explained["executionStats"]
        return stats["totalKeysExamined"], stats["totalDocsExamined"]


@pytest.fixture
async def queries(servers: Servers, shared_database: str) -> AsyncIterator[Queries]:
    commands = Commands()
    store = MongoStore(servers.mongo_url, shared_database, listeners=[commands])
    await store.open(ITEM_TYPE, ItemDO.indexes, ItemDO.sparse_indexes)
    with pymongo.MongoClient[dict[str, Any]](servers.mongo_url) as client:
        items = client[shared_database][f"obj_{ITEM_TYPE}"]
        if items.find_one() is None:
            items.insert_many([document(incarnation, number) for number in range(COUNT) for incarnation in "12"])
        yield Queries(store, commands, client[shared_database])
    store.close()


def document(incarnation: str, number: int) -> dict[str, Any]:
    data = {"price": number % 7 or "free", "kind": "abc"[number % 3], "na": {"me": f"n{number:04}"}, "number": number}
    id = f"i{number:04}"
    state = ItemState(
        incarnation=incarnation,
        collection="books",
        item=id,
        owner="ada",
        data=values.encode(data),
        keys=compute_index_keys(INDEXES, data, id),
    )
    if number % 500:  # the others are as an earlier version of the service has left them
        state.shown = render(state, 1, values.to_json(state.data))
    now = datetime.now(UTC)
    stored = {"_id": f"{incarnation}{id}", "created_at": now, "made_at": now, "updated_at": now, "version": 1}
    return stored | {"state": msgspec.to_builtins(state)}


PRICE_1 = {"price": {"eq": 1}}


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({}, lambda data: True),
        ({"sort": "price"}, lambda data: True),
        ({"sort": "-price"}, lambda data: True),
        ({"filter": PRICE_1}, lambda data: data["price"] == 1),
        ({"filter": {"price": {"gt": 3}}, "sort": "-price"}, lambda data: data["price"] in (4, 5, 6)),
        ({"filter": {"price": {"starts_with": "fr"}}}, lambda data: data["price"] == "free"),
        ({"filter": {"kind": {"eq": "b"}}, "sort": "price"}, lambda data: data["kind"] == "b"),
        ({"filter": {"kind": {"eq": "b"}, **PRICE_1}}, lambda data: data["kind"] == "b" and data["price"] == 1),
        ({"filter": {"na.me": {"gte": "n1000", "lt": "n2000"}}}, lambda data: 1000 <= data["number"] < 2000),
        ({"filter": {"na.me": {"starts_with": "n29"}}, "sort": "na.me"}, lambda data: data["number"] >= 2900),
    ],
)
async def test_every_page_of_a_query_costs_what_it_shows(queries: Queries, args: dict[str, Any], expected: Any) -> None:
    found, cursor = [], None
    while True:
        page = await queries.page(**args, cursor=cursor)
        keys, documents = queries.cost()
        assert keys <= LIMIT + 3
        assert documents <= LIMIT + 3
        found += [item.data["number"] for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break

    assert len(set(found)) == len(found)
    wanted = [document("1", number)["state"]["data"]["number"] for number in range(COUNT)]
    assert sorted(found) == [number for number in wanted if expected(document("1", number)["state"]["data"])]


async def test_what_no_index_serves_is_for_few_items(queries: Queries, monkeypatch: pytest.MonkeyPatch) -> None:
    unserved = {"filter": {"number": {"lt": 30}}, "sort": "-number"}
    page = await queries.page(**unserved)
    assert [item.data["number"] for item in page.items] == list(range(29, 9, -1))
    monkeypatch.setattr("services.data_storage.find.MAX_UNINDEXED", COUNT - 1)
    with pytest.raises(Failure, match="declare an index") as refused:
        await queries.page(**unserved)
    assert refused.value.status == 422
