"""Measures document operations against a plain service on the same data, and with many items against few."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx2
import msgspec

from tests.bench.cases import Stage, http_order, post
from tests.bench.comparison import Comparison
from tests.bench.load import Order
from tests.support.world import wait_ready

IN_FLIGHT = 64
FEW = 1000
HOT = 100
PAGE = 20
BATCH = 1000
# The largest allowed cost of an operation with many items, relative to few.
GROWTH = 1.3
PLAIN = "plain_items"


class Collection(NamedTuple):
    """A collection of the product with `items` items."""

    name: str
    items: int

    @property
    def path(self) -> str:
        return f"/data/collections/{self.name}"


def prepare(stage: Stage, items: int) -> tuple[Collection, Collection]:
    """Store `items` items and a few in collections indexed by `price`, and `items` documents for the plain service."""
    many, few = Collection("many", items), Collection("few", FEW)
    head = {"Authorization": stage.authorization}
    with httpx2.Client(base_url=stage.world.url, timeout=3600, headers=head) as client:
        for collection in (many, few):
            client.put(f"{collection.path}", json={"indexes": [["price"]]}).raise_for_status()
            lines = _lines(collection.items)
            headers = {"Content-Type": "application/x-ndjson"}
            client.post(f"{collection.path}/import", content=lines, headers=headers).raise_for_status()
    plain: Iterator[dict[str, Any]] = ({"_id": id(number), **document(number)} for number in range(items))
    stage.world.servers.insert(stage.world.database, PLAIN, plain)
    # The imported items are in memory; a restart makes them cold.
    stage.world.restart("data_storage")
    wait_ready(stage.world.url, [])
    return many, few


def comparisons(stage: Stage, seconds: float, many: Collection, few: Collection) -> list[Comparison]:
    own = _product(stage, seconds, many)
    small = _product(stage, seconds, few)
    plain = _plain(stage, seconds, many.items)
    targets = {"get, hot": 3.0, "get, cold": 1.0, "create": 2.0, "replace": None, "query page": 0.9}
    found = [
        Comparison(f"{name}, {many.items:,} items", own[name], "plain", plain[name], at_least=target)
        for name, target in targets.items()
    ]
    found += [
        Comparison(f"{name}, {many.items:,} items", own[name], f"{few.items:,}", small[name], at_least=1 / GROWTH)
        for name in targets
        if name != "get, cold"
    ]
    return found


def _product(stage: Stage, seconds: float, collection: Collection) -> dict[str, Order]:
    credential = f"Authorization: {stage.authorization}\r\n"
    path, body = collection.path, msgspec.json.encode({"data": document(7)})
    hot, cold = _ids(collection.items)
    query = "filter=%7B%22price%22%3A%7B%22gte%22%3A{}%7D%7D&sort=price&limit=" + str(PAGE)
    return _orders(
        stage.world.url,
        seconds,
        {
            "get, hot": [_get(f"{path}/{id}", credential) for id in hot],
            "get, cold": [_get(f"{path}/{id}", credential) for id in cold],
            "create": [post(path, body, credential)],
            "replace": [_put(f"{path}/{id}", body, credential) for id in hot],
            "query page": [_get(f"{path}?{query.format(price)}", credential) for price in _prices(collection.items)],
        },
    )


def _plain(stage: Stage, seconds: float, items: int) -> dict[str, Order]:
    body = msgspec.json.encode(document(7))
    hot, cold = _ids(items)
    return _orders(
        stage.plain,
        seconds,
        {
            "get, hot": [_get(f"/items/{id}") for id in hot],
            "get, cold": [_get(f"/items/{id}") for id in cold],
            "create": [post("/items", body)],
            "replace": [_put(f"/items/{id}", body) for id in hot],
            "query page": [_get(f"/items?from={price}&limit={PAGE}") for price in _prices(items)],
        },
    )


def _orders(url: str, seconds: float, requests: dict[str, list[bytes]]) -> dict[str, Order]:
    return {
        name: msgspec.structs.replace(http_order(url, each, IN_FLIGHT, seconds), counts=(200, 201))
        for name, each in requests.items()
    }


def id(number: int) -> str:
    return f"item-{number:07}"


def document(number: int) -> dict[str, Any]:
    return {"name": f"thing {number}", "price": number, "tags": ["red", "round"], "size": {"w": 10, "h": 2.5}}


def _ids(items: int) -> tuple[list[str], list[str]]:
    """Return the IDs that are requested again and again, and all others."""
    ids = [id(number) for number in range(items)]
    return ids[:HOT], ids[HOT:]


def _prices(items: int) -> range:
    return range(0, items // 2, max(1, items // 400))


def _get(path: str, headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n{headers}\r\n".encode()


def _put(path: str, body: bytes, headers: str = "") -> bytes:
    return b"PUT" + post(path, body, headers)[len(b"POST") :]


def _lines(items: int) -> Iterator[bytes]:
    for first in range(0, items, BATCH):
        numbers = range(first, min(first + BATCH, items))
        yield b"".join(msgspec.json.encode({"id": id(n), "data": document(n)}) + b"\n" for n in numbers)
