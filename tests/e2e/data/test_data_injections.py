"""Injections over HTTP and NATS, in every place that takes a caller's text or value.

Each is refused, or taken literally.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import quote
from zlib import crc32

import httpx2
import msgspec
import pytest

from aidevos.contracts.data import item_object
from aidevos.contracts.errors import Failure
from tests.support.data_collections import create_item, headers_of
from tests.support.injections import OBJECTS, TEXTS
from tests.support.world import NatsEntryPoint, World

AT_ONCE = 32
SECRET = "what-nobody-else-may-read"
JSON_PATCH = {"Content-Type": "application/json-patch+json"}
MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
FINE = {200, 201, 204, 207, 400, 404, 405, 409, 412, 422}

# An HTTP request: method, path below the collections, and the client's options.
Asked = tuple[str, str, dict[str, Any]]


def encoded(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def find(**parameters: Any) -> Callable[[str], Asked]:
    return lambda name: ("GET", f"/{name}", {"params": parameters})


def with_text(text: str) -> list[Callable[[str], Asked]]:
    """Return requests with a text in each place that takes one; none of them addresses an existing item."""
    path, fresh = quote(text, safe=""), f"{crc32(text.encode()):08x}"
    return [
        find(filter=text),
        find(sort=text),
        find(fields=text),
        find(cursor=text),
        find(limit=text),
        find(count=text),
        find(filter=encoded({text: {"eq": "no such value"}})),
        find(filter=encoded({"a": {text: 1}})),
        lambda name: ("GET", f"/{name}/{path}", {}),
        lambda name: ("DELETE", f"/{name}/{path}", {}),
        lambda name: ("GET", f"/{name}/mine", {"params": {"fields": text}}),
        lambda name: ("GET", f"/{name}/mine", {"params": {"version": text}}),
        lambda name: ("GET", f"/{name}/mine/history", {"params": {"cursor": text}}),
        lambda name: ("POST", f"/{name}", {"json": {"id": text, "data": None}}),
        lambda name: ("GET", f"/{path}", {}),
        lambda name: ("GET", f"/{path}/theirs", {}),
        lambda name: ("GET", "", {"params": {"cursor": text}}),
        lambda name: ("PUT", f"/{name}", {"json": {}, "params": {"validate": text}}),
        lambda name: ("PUT", f"/{name}", {"json": {"rules": {"read": text}}}),
        lambda name: ("PUT", f"/{name}-u{fresh}", {"json": {"unique": [text]}}),
        lambda name: ("PUT", f"/{name}-i{fresh}", {"json": {"indexes": [[text]]}}),
        lambda name: ("PUT", f"/{name}-r{fresh}", {"json": {"schema": {"$ref": text}}}),
        lambda name: ("PUT", f"/{name}-p{fresh}", {"json": {"schema": {"pattern": text}}}),
        lambda name: (
            "PATCH",
            f"/{name}/mine",
            {"headers": JSON_PATCH, "content": encoded([{"op": "remove", "path": text}])},
        ),
        lambda name: (
            "PATCH",
            f"/{name}/mine",
            {"headers": JSON_PATCH, "content": encoded([{"op": "copy", "from": f"/{text}", "path": "/x"}])},
        ),
    ]


def with_value(value: Any) -> list[Callable[[str], Asked]]:
    """Return requests with a value in each place that takes one."""
    return [
        find(filter=encoded(value)),
        find(filter=encoded({"a": value})),
        find(filter=encoded({"a": {"eq": value}})),
        find(filter=encoded({"a": {"in": [value]}})),
        find(filter=encoded({"or": [value]})),
        find(filter=encoded({"not": value})),
        lambda name: ("POST", f"/{name}", {"json": value}),
        lambda name: ("POST", f"/{name}", {"json": {"id": value, "data": 1}}),
        lambda name: ("PUT", f"/{name}/mine", {"json": value}),
        lambda name: ("PATCH", f"/{name}/none", {"headers": MERGE_PATCH, "content": encoded(value)}),
        lambda name: ("PATCH", f"/{name}/mine", {"headers": JSON_PATCH, "content": encoded([value])}),
        lambda name: ("PUT", f"/{name}", {"json": value}),
        lambda name: ("PUT", f"/{name}", {"json": {"rules": value}}),
        lambda name: ("PUT", f"/{name}", {"json": {"rules": {"read": [value]}}}),
        lambda name: ("PUT", f"/{name}", {"json": {"unique": [value]}}),
        lambda name: ("PUT", f"/{name}", {"json": {"indexes": value}}),
    ]


@pytest.fixture
async def target(http: httpx2.AsyncClient, world: World, name: str) -> str:
    """Create Ada's collection with her item `mine`, and Bob's item `theirs`, which only he may read."""
    await http.put(f"/{name}", headers=headers_of(world, "ada"), json={"rules": {"create": "authenticated"}})
    await create_item(http, name, headers_of(world, "ada"), {"a": 1}, id="mine")
    await create_item(http, name, headers_of(world, "bob"), {"a": SECRET}, id="theirs")
    return name


async def changes(http: httpx2.AsyncClient, world: World, name: str) -> list[Any]:
    """Return the values that have changed."""
    admin = {"Authorization": world.admin}
    mine, theirs = [(await http.get(f"/{name}/{id}", headers=admin)).json() for id in ("mine", "theirs")]
    config = (await http.get(f"/{name}/config", headers=admin)).json()
    found = mine["data"], theirs["data"], theirs["version"], config["version"]
    return [one for one, before in zip(found, ({"a": 1}, {"a": SECRET}, 1, 1), strict=True) if one != before]


@pytest.mark.timeout(180)
async def test_an_injection_over_http_is_refused_or_means_itself(
    http: httpx2.AsyncClient, world: World, target: str
) -> None:
    ada, free = headers_of(world, "ada"), asyncio.Semaphore(AT_ONCE)
    # Clients resolve dot segments before sending (RFC 3986 §5.2.4).
    texts = [text for text in TEXTS if text not in (".", "..")]
    requests = [request for text in texts for request in with_text(text)]
    requests += [request for value in OBJECTS for request in with_value(value)]

    async def ask(request: Callable[[str], Asked]) -> str | None:
        method, path, options = request(target)
        headers = ada | options.pop("headers", {})
        async with free:
            answer = await http.request(method, path, headers=headers, **options)
        problem = answer.status_code >= 400
        right = "application/problem+json" if problem else "application/json" if answer.content else None
        if answer.status_code in FINE and answer.headers.get("content-type") == right and SECRET not in answer.text:
            return None
        return f"{method} {path} {options}: {answer.status_code} {answer.text[:200]}"

    assert [told for told in await asyncio.gather(*map(ask, requests)) if told] == []
    assert await changes(http, world, target) == []


def over_the_bus(payload: Any, target: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Return calls with a text or a value in each argument: the method, and its object or view."""
    view, mine = {"collection": target}, item_object(target, "mine")
    arguments: list[dict[str, Any]] = [
        {"filter": payload},
        {"filter": {"a": payload}},
        {"filter": {"a": {"eq": payload}}},
        {"filter": {"a": {"in": [payload]}}},
        {"filter": {"or": [payload]}},
        {"sort": payload},
        {"fields": payload},
        {"cursor": payload},
        {"limit": payload},
        {"count": payload},
        {"collection": payload},
    ]
    calls = [("find", "", view | each) for each in arguments]
    calls += [
        ("create", mine, {"collection": payload, "id": "mine", "data": 1}),
        ("create", mine, {"collection": target, "id": payload, "data": 1}),
        ("read", mine, {"fields": payload}),
        ("read", mine, {"version": payload}),
        ("history", mine, {"cursor": payload}),
        ("restore", mine, {"version": payload}),
        ("patch", mine, {"patch": [{"op": "remove", "path": payload}], "kind": "json"}),
        ("patch", mine, {"patch": [], "kind": payload}),
        ("configure", target, {"config": payload}),
        ("configure", target, {"config": {"rules": {"read": payload}}}),
        ("configure", target, {"config": {"unique": payload}}),
        ("configure", target, {"config": {"schema": payload}, "validate": payload}),
    ]
    return calls


@pytest.mark.timeout(180)
async def test_an_injection_over_nats_is_refused_or_means_itself(
    http: httpx2.AsyncClient, over_nats: NatsEntryPoint, world: World, target: str
) -> None:
    ada, free = world.token(roles=("user",), subject="ada"), asyncio.Semaphore(AT_ONCE)

    async def ask(method: str, id: str, args: dict[str, Any]) -> str | None:
        try:
            async with free:
                if method == "find":
                    result = await over_nats.query("item", "find", args, authorization=ada)
                else:
                    type = "collection" if method == "configure" else "item"
                    result = await over_nats.call(type, id, method, msgspec.json.encode(args), authorization=ada)
        except Failure as failure:
            return None if failure.status in FINE and SECRET not in failure.detail else f"{args}: {failure}"
        return f"{args}: {result}" if SECRET in str(result) else None

    calls = [call for payload in (*TEXTS, *OBJECTS) for call in over_the_bus(payload, target)]

    assert [told for told in await asyncio.gather(*(ask(*call) for call in calls)) if told] == []
    assert await changes(http, world, target) == []
