"""A collection against a plain dict, on the real stack: filters, orders, counts, and pages during writes.

The model follows README and shares no code with the service. `FULL=1` runs more examples.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from itertools import pairwise
from operator import ge, gt, le, lt
from typing import Any

import httpx2
import msgspec
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.support.data_collections import headers_of
from tests.support.http import http_client
from tests.support.kits import examples
from tests.support.world import World

EXAMPLES = 300 if os.environ.get("FULL") else 25
MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
INDEXES = [["n"], ["s", "-n"], ["-in.n"]]
MISSING = object()
# More items than an example has.
MANY = 100

scalars = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.5, 1.0]) | st.text("ab", max_size=2)
values = scalars | st.lists(scalars, max_size=2) | st.fixed_dictionaries({}, optional={"n": scalars})
documents = st.fixed_dictionaries({}, optional={"n": values, "s": values, "in": values})
paths = st.sampled_from(["n", "s", "in.n", "in"])
ordered = st.integers(-2, 2) | st.just(0.5) | st.text("ab", max_size=2)
operators = st.one_of(
    st.dictionaries(st.sampled_from(["eq", "ne"]), scalars, min_size=1),
    st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), ordered, min_size=1),
    st.dictionaries(st.sampled_from(["in", "nin"]), st.lists(scalars, max_size=3), min_size=1),
    st.fixed_dictionaries({"exists": st.booleans()}),
    st.fixed_dictionaries({"contains": scalars}),
    st.fixed_dictionaries({"starts_with": st.text("ab", max_size=2)}),
)
filters: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.dictionaries(paths, operators, max_size=2),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"or": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"and": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"not": inner}),
    ),
    max_leaves=3,
)
sorts = st.sampled_from(["", "n", "-n", "s,-n", "-s,n", "in.n", "-in.n", "n,s", "-s"])


def at(data: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(data, dict) or name not in data:
            return MISSING
        data = data[name]
    return data


def kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "other" if value is not MISSING else "missing"


def equal(value: Any, operand: Any) -> bool:
    return kind(value) == kind(operand) and value == operand


def compared(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda value, operand: kind(value) == kind(operand) and compare(value, operand)


def contains(value: Any, operand: Any) -> bool:
    if isinstance(value, list):
        return any(equal(item, operand) for item in value)
    return isinstance(value, str) and isinstance(operand, str) and operand in value


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": equal,
    "ne": lambda value, operand: not equal(value, operand),
    "gt": compared(gt),
    "gte": compared(ge),
    "lt": compared(lt),
    "lte": compared(le),
    "in": lambda value, operand: any(equal(value, item) for item in operand),
    "nin": lambda value, operand: not any(equal(value, item) for item in operand),
    "exists": lambda value, operand: (value is not MISSING) == operand,
    "contains": contains,
    "starts_with": lambda value, operand: isinstance(value, str) and value.startswith(operand),
}


def fits(filter: dict[str, Any], data: Any) -> bool:
    def member(name: str, value: Any) -> bool:
        if name == "not":
            return not fits(value, data)
        if name in ("and", "or"):
            return (all if name == "and" else any)(fits(inner, data) for inner in value)
        return all(OPERATORS[operator](at(data, name), operand) for operator, operand in value.items())

    return all(member(name, value) for name, value in filter.items())


KINDS = ["missing", "None", "False", "True", "number", "text", "other"]


def in_order(found: list[str], model: dict[str, Any], sort: str) -> bool:
    """Return True if the IDs are in the requested order; equal ones may be in any order."""

    def compare(one: str, other: str) -> int:
        for path in filter(None, sort.split(",")):
            left, right = (at(model[id], path.removeprefix("-")) for id in (one, other))
            difference = KINDS.index(kind(left)) - KINDS.index(kind(right))
            if not difference and kind(left) in ("number", "text"):
                difference = (left > right) - (left < right)
            if difference:
                return -difference if path.startswith("-") else difference
        return 0

    return all(compare(one, other) <= 0 for one, other in pairwise(found))


class Collection:
    """A collection, and a writer that changes it all the time."""

    def __init__(self, http: httpx2.AsyncClient, headers: dict[str, str]) -> None:
        self._http = http
        self._headers = headers
        self._path = f"/m{secrets.token_hex(8)}"

    async def make(self, model: dict[str, Any], indexes: list[list[str]]) -> None:
        configured = await self._http.put(self._path, headers=self._headers, json={"indexes": indexes})
        assert configured.status_code == 201
        items = [{"id": id, "data": data} for id, data in model.items()]
        made = (await self._http.post(self._path, headers=self._headers, json=items)).json()
        assert {result["status"] for result in made["results"]} <= {201}

    async def page(self, **parameters: Any) -> Any:
        if "filter" in parameters:
            parameters["filter"] = msgspec.json.encode(parameters["filter"]).decode()
        answer = await self._http.get(self._path, headers=self._headers, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def pages(self, limit: int, **query: Any) -> list[Any]:
        items, cursor = [], {}
        while True:
            page = await self.page(limit=limit, **query, **cursor)
            items += page["items"]
            assert len(items) <= MANY, "the pages don't end"
            if page["next_cursor"] is None:
                return items
            cursor = {"cursor": page["next_cursor"]}

    async def disturb(self, touched: list[str], others: list[Any]) -> None:
        """Until cancelled, touch items that no query returns, and create, move and remove others."""
        number = 0
        while True:
            number += 1
            id, data = f"x{number % 5}", others[number % len(others)]
            one = touched[number % len(touched)] if touched else id
            await asyncio.gather(
                self._http.patch(f"{self._path}/{one}", headers=self._headers | MERGE_PATCH, json={"touched": number}),
                self._http.post(self._path, headers=self._headers, json={"id": id, "data": data}),
            )
            await self._http.put(f"{self._path}/{id}", headers=self._headers, json={"data": others[-1 - number % 2]})
            if number % 3 == 0:
                await self._http.delete(f"{self._path}/{id}", headers=self._headers)


# Shrinking an example takes minutes on the real stack.
@settings(examples(EXAMPLES), phases=[Phase.reuse, Phase.generate])
@given(
    data=st.lists(documents, min_size=4, max_size=14),
    others=st.lists(documents, min_size=2, max_size=4),
    queries=st.lists(st.tuples(filters, sorts, st.integers(1, 5)), min_size=3, max_size=3),
    indexed=st.booleans(),
)
async def test_a_collection_finds_what_a_dict_finds_in_pages_that_nobody_disturbs(
    world: World, data: list[Any], others: list[Any], queries: list[tuple[dict[str, Any], str, int]], indexed: bool
) -> None:
    model = {f"i{number:02}": document for number, document in enumerate(data)}
    async with http_client(base_url=f"{world.url}/data/collections", timeout=60) as http:
        collection = Collection(http, headers_of(world, "ada"))
        await collection.make(model, INDEXES if indexed else [])

        async def check(filter: dict[str, Any], sort: str, limit: int) -> None:
            items = [item for item in await collection.pages(limit, filter=filter, sort=sort) if item["id"] in model]
            found = [item["id"] for item in items]
            assert sorted(found) == [id for id, document in model.items() if fits(filter, document)]
            assert in_order(found, model, sort)
            assert [item["data"] | {"touched": 0} for item in items] == [model[id] | {"touched": 0} for id in found]

        for filter, sort, limit in queries:
            await check(filter, sort, limit)
            counted = (await collection.page(filter=filter, count="true", limit=1))["count"]
            assert counted == sum(fits(filter, document) for document in model.values())
        writing = asyncio.create_task(collection.disturb(list(model)[::2], others))
        for query in queries:
            await check(*query)
        assert not writing.done()
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
