"""Repeats and versions on every path: `Idempotency-Key` makes one request of many, `ETag` names the shown version,
and `If-Match` protects it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.support.http import http_client
from tests.support.repeats import kinds
from tests.support.world import World

MERGE = {"Content-Type": "application/merge-patch+json"}


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    """Connect as the first administrator, who is a user."""
    async with http_client(base_url=world.url, timeout=30) as client:
        name = f"u{secrets.token_hex(6)}"
        person = {"username": name, "password": "wheelbarrow at noon"}
        user = (await client.post("/auth/register", json=person | {"email": f"{name}@example.org"})).json()
        patch = {"Authorization": world.admin, **MERGE}
        (await client.patch(f"/users/{user['id']}", json={"roles": ["admin"]}, headers=patch)).raise_for_status()
        pair = (await client.post("/auth/login", json=person)).json()
        client.headers["Authorization"] = f"Bearer {pair['access_token']}"
        yield client


@pytest.fixture
def name() -> str:
    return f"n{secrets.token_hex(6)}"


@pytest.mark.parametrize("kind", list(kinds("")))
async def test_of_many_requests_with_one_key_there_is_one_effect_and_one_answer(
    http: httpx2.AsyncClient, world: World, name: str, kind: str
) -> None:
    path, body, other = kinds(name)[kind]
    headers = {"Idempotency-Key": secrets.token_hex(8)}

    first, *at_once = await asyncio.gather(*(http.post(path, json=body, headers=headers) for _ in range(5)))
    later = await http.post(path, json=body, headers=headers)
    reused = await http.post(path, json=other, headers=headers)
    fresh = await http.post(path, json=other, headers={"Idempotency-Key": secrets.token_hex(8)})

    assert first.status_code in (201, 207), first.text
    for answer in (*at_once, later):
        assert (answer.status_code, answer.content) == (first.status_code, first.content)
        assert answer.headers.get("location") == first.headers.get("location")
        assert answer.headers.get("etag") == first.headers.get("etag")
    assert (reused.status_code, reused.json()["code"]) == (422, "request-id-reused")
    assert fresh.status_code in (201, 207), fresh.text


async def test_a_key_is_its_caller_s_own(http: httpx2.AsyncClient, world: World, name: str) -> None:
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    other = {"Authorization": world.token(roles=("admin",), subject=f"other-{name}")}

    mine = await http.post("/durable-objects", json={"type": "counter"}, headers=headers)
    theirs = await http.post("/durable-objects", json={"type": "account"}, headers=headers | other)

    assert (mine.status_code, theirs.status_code) == (201, 201)
    assert mine.json()["id"] != theirs.json()["id"]


@pytest.mark.parametrize("kind", [kind for kind in kinds("") if kind != "items"])
async def test_what_was_made_has_an_etag_by_which_it_is_known_again_and_protected(
    http: httpx2.AsyncClient, name: str, kind: str
) -> None:
    path, body, _ = kinds(name)[kind]
    made = await http.post(path, json=body)
    at, etag = made.headers["location"], made.headers["etag"]

    shown = await http.get(at)
    known = await http.get(at, headers={"If-None-Match": etag})
    stale = [
        answer
        for method, options in (
            ("PUT", {"json": body if kind != "a role" else {"permissions": []}}),
            ("PATCH", {"json": {}}),
            ("DELETE", {}),
        )
        if (
            answer := await http.request(
                method, at, headers={"If-Match": '"999999"'} | (MERGE if method == "PATCH" else {}), **options
            )
        ).status_code
        != 405
    ]
    gone = await http.delete(at, headers={"If-Match": etag})

    assert shown.headers["etag"] == etag
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", etag)
    assert {answer.status_code for answer in stale} <= {412, 422}, [answer.text for answer in stale]
    assert stale[-1].status_code == 412
    assert gone.status_code in (202, 204), gone.text
