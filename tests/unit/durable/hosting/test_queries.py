"""Lists and searches read no more than they show, yield to the loop, and share the store among callers."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from aidevos import BaseDurableObject, authenticated
from aidevos.durable.store.memory import MemoryStore
from aidevos.durable.store.port import Document
from aidevos.durable.turns.environment import Limits
from aidevos.observability import tracing
from aidevos.observability.tracing import Recorder, Span
from aidevos.queries import EVERYTHING, Find, Reader, Search, View
from aidevos.security.permissions import Principal
from aidevos.testing import ADMIN, ObjectKit
from tests.support.kits import failure, quiet, until
from tests.support.objects import Tally

LARGE = 200_000


class BookState(msgspec.Struct):
    title: str = ""
    text: str = ""


class Book(msgspec.Struct):
    id: str
    title: str


class PageArgs(msgspec.Struct):
    limit: int = 50
    cursor: str | None = None


async def count_books(reader: Reader, args: PageArgs) -> int:
    return len(await reader.find("book", Find(EVERYTHING, args.limit)))


class BookDO(BaseDurableObject[BookState], type="book", management="lifecycle"):
    searches = (
        Search(
            "titles",
            authenticated(),
            PageArgs,
            find=lambda args: Find(EVERYTHING, args.limit, order=("title",)),
            show=lambda id, state, version: Book(id, state.title),
        ),
    )
    views = (View("count", authenticated(), PageArgs, count_books),)


class RecordingStore(MemoryStore):
    """A store that records the documents that its pages have read, and waits at the gate before it reads one."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: list[list[Document]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.reading = 0

    async def list_page(self, *args: Any, **options: Any) -> list[Document]:
        self.reading += 1
        await self.gate.wait()
        self.pages.append(await super().list_page(*args, **options))
        return self.pages[-1]

    async def find(self, type: str, wanted: Find) -> list[Document]:
        self.pages.append(await super().find(type, wanted))
        return self.pages[-1]


def put(store: MemoryStore, type: str, count: int, **state: Any) -> None:
    for number in range(count):
        store.documents[type][f"o{number:03}"] = {"owner": "x", "version": 1, "state": state, "schema": 1}


async def test_a_page_of_large_states_reads_about_one_answer_and_its_cursor_reaches_the_rest() -> None:
    async with ObjectKit(Tally, store=RecordingStore(), limits=Limits(answer=1_000_000)) as kit:
        put(kit.store, "tally", 20, tags=["x" * LARGE])
        seen, cursor = [], None
        while True:
            page = await kit.query("tally", "list", limit=20, cursor=cursor)
            seen += [item["id"] for item in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert seen == [f"o{number:03}" for number in range(20)]
        assert max(sum(document.size for document in page) for page in kit.store.pages) < 1_000_000 + 2 * LARGE


async def test_a_list_that_shows_no_states_reads_none() -> None:
    async with ObjectKit(BookDO, store=RecordingStore()) as kit:
        put(kit.store, "book", 3, text="x" * LARGE)
        page = await kit.query("book", "list")
        assert [item["state"] for item in page["items"]] == [None] * 3
        assert [document.state for document in kit.store.pages[0]] == [None] * 3


async def test_a_list_counts_what_its_caller_sees_on_all_pages() -> None:
    manager = Principal("m", permissions=frozenset({"objects:manage"}))
    async with ObjectKit(BookDO) as kit:
        put(kit.store, "book", 3)
        kit.store.documents["book"]["o001"]["project"] = "p"
        kit.store.documents["book"]["o002"]["deleted"] = "then"

        assert "count" not in await kit.query("book", "list", limit=1)
        assert (await kit.query("book", "list", limit=1, count=True))["count"] == 2
        assert (await kit.query("book", "list", limit=1, count=True, project="p"))["count"] == 1
        assert (await kit.query("book", "list", limit=1, count=True, caller=manager))["count"] == 1
        kit.store.slow = True
        assert (await kit.query("book", "list", limit=1, count=True))["count"] is None


async def test_a_search_of_large_states_stops_reading_and_its_cursor_reaches_the_rest() -> None:
    async with ObjectKit(BookDO, store=RecordingStore()) as kit:
        put(kit.store, "book", 100, title="t", text="x" * LARGE)
        first = await kit.query("book", "titles", limit=100)
        assert 30 < len(first["items"]) < 60
        rest = await kit.query("book", "titles", limit=100, cursor=first["next_cursor"])
        shown = [item["id"] for item in (*first["items"], *rest["items"])]
        assert shown == [f"o{number:03}" for number in range(len(shown))]


async def test_a_view_that_would_read_too_much_is_told_so() -> None:
    async with ObjectKit(BookDO, store=RecordingStore()) as kit:
        put(kit.store, "book", 400, text="x" * LARGE)
        assert await kit.query("book", "count", limit=100) == 100
        assert (await failure(kit.query("book", "count", limit=400))).code == "too-large"


async def test_the_loop_turns_while_a_large_page_is_assembled() -> None:
    async with ObjectKit(Tally, limits=Limits(answer=64 * 1024 * 1024)) as kit:
        put(kit.store, "tally", 40, tags=["x" * 40] * 25_000)
        listing = asyncio.ensure_future(kit.query("tally", "list", limit=40))
        await until(lambda: kit.runtime.environment.slices.busy)
        turns = 0
        while not listing.done():
            await asyncio.sleep(0)
            turns += 1
        assert len(listing.result()["items"]) == 40
        assert turns > 5


async def test_a_caller_with_many_slow_lists_does_not_keep_another_one_out() -> None:
    async with ObjectKit(Tally, store=RecordingStore()) as kit:
        kit.store.gate.clear()
        greedy = [asyncio.ensure_future(kit.query("tally", "list", caller=ADMIN)) for _ in range(50)]
        await quiet()
        # A list takes a quarter of the places.
        assert kit.store.reading == 3
        other = Principal("other", permissions=frozenset({"objects:manage"}))
        asked = asyncio.ensure_future(kit.query("tally", "list", caller=other))
        await quiet()
        assert kit.store.reading == 4
        kit.store.gate.set()
        await asyncio.gather(asked, *greedy)


@pytest.mark.parametrize("query", ["list", "titles", "count"])
async def test_a_list_a_search_and_a_view_are_spans_of_mongodb_in_a_trace(
    query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans: list[Span] = []
    recorder = Recorder(lambda context, span: spans.append(span))
    monkeypatch.setattr(tracing, "recorder", recorder)
    async with ObjectKit(BookDO) as kit:
        put(kit.store, "book", 3)

        with tracing.using(recorder.begin(None)):
            await kit.query("book", query)

    (search,) = [span for span in spans if span.name == "find obj_book"]
    assert search.kind == "client"
    assert search.attributes["db.collection.name"] == "obj_book"
