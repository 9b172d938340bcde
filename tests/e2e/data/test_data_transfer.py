"""Export and import of many items: memory use, and clients that disconnect."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import psutil
import pymongo
import pytest

from aidevos.contracts.data import item_object
from tests.support.data_collections import create_item, headers_of
from tests.support.world import World

MIB = 1024 * 1024
# The allowed memory growth of both processes together, for any export: a few pages.
GROWTH = 96 * MIB
SIZES = [pytest.param(1500, 100_000, id="150 MB")]
if os.environ.get("FULL"):
    SIZES.append(pytest.param(200_000, 1000, id="200,000 items", marks=pytest.mark.timeout(900)))


@pytest.mark.parametrize(("count", "size"), SIZES)
async def test_an_export_takes_no_more_memory_than_a_few_pages(
    http: httpx2.AsyncClient, world: World, name: str, count: int, size: int
) -> None:
    ada = headers_of(world, "ada")
    await create_item(http, name, ada, "x" * size, id=f"{0:06}")
    copy(world, name, count)
    lines = received = 0
    with watch_memory(world) as grown:
        async with http.stream("GET", f"/{name}/export", headers=ada, timeout=600) as answer:
            async for chunk in answer.aiter_bytes():
                lines += chunk.count(b"\n")
                received += len(chunk)
                grown()
        growth = grown()

    assert lines == count
    assert received > count * size
    assert growth < GROWTH < received


def copy(world: World, name: str, count: int) -> None:
    """Insert copies of a collection's first item into the store."""
    with pymongo.MongoClient[dict[str, Any]](world.servers.mongo_url) as client:
        items = client[world.database]["obj_item"]
        first = items.find_one({"_id": item_object(name, f"{0:06}")})
        assert first is not None
        # With an outbox, each item would be activated to send it.
        for bookkeeping in ("outbox", "relay", "replies"):
            first.pop(bookkeeping, None)
        for begin in range(1, count, 1000):
            ids = (f"{number:06}" for number in range(begin, min(count, begin + 1000)))
            items.insert_many(_rename(first, name, id) for id in ids)


def _rename(item: dict[str, Any], name: str, id: str) -> dict[str, Any]:
    """Return the document of an item of a collection with another ID, also in its JSON."""
    shown = item["state"]["shown"].replace(f"{0:06}", id, 1)
    return item | {"_id": item_object(name, id), "state": item["state"] | {"item": id, "shown": shown}}


@contextmanager
def watch_memory(world: World) -> Iterator[Any]:
    """Yield a function that returns the largest memory growth of gateway and data service so far, in bytes."""
    services = [psutil.Process(world.pid(name)) for name in ("http_gateway", "data_storage")]
    before = [process.memory_info().rss for process in services]
    most = 0

    def grown() -> int:
        nonlocal most
        now = sum(process.memory_info().rss - rss for process, rss in zip(services, before, strict=True))
        most = max(most, now)
        return most

    yield grown


async def test_an_import_takes_lines_of_any_length_that_an_item_may_have_and_tells_of_each(
    http: httpx2.AsyncClient, world: World, name: str
) -> None:
    ada = headers_of(world, "ada")
    await http.put(f"/{name}", headers=ada, json={})
    big = b'{"id":"big","data":"' + b"x" * (MIB - 100) + b'"}\n'
    too_big = b'{"id":"more","data":"' + b"x" * (MIB + 1) + b'"}\n'

    async def body() -> AsyncIterator[bytes]:
        for part in (big, too_big, b'{"id":"small",', b'"data":1}'):
            yield part

    answer = await http.post(f"/{name}/import", headers=ada, content=body())
    endless = await http.post(f"/{name}/import", headers=ada, content=b"x" * (3 * MIB))
    other = await http.post(f"/{name}/import", headers=ada | {"Content-Type": "text/csv"}, content=b"1")

    assert [line.split(b'"status":')[1][:3] for line in answer.content.splitlines()] == [b"201", b"422", b"201"]
    assert endless.status_code == 413
    assert other.status_code == 415
