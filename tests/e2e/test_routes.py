"""Every route as every kind of caller.

The routes come from the gateway's table of operations and from the running fleet's description, so a new route
without a row fails.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aidevos.contracts.routes import route_id
from aidevos.security.key_ring import SigningKey
from aidevos.security.tokens import TokenIssuer
from services.http_gateway.endpoints.operation import Access
from services.http_gateway.endpoints.routers import ROUTERS
from tests.support.host_processes import eventually
from tests.support.letters import bury
from tests.support.logins import PASSWORD, admin_password, bearer, logged_in, login, new_person
from tests.support.world import NatsEntryPoint, World

# None of these is admitted to any route that is not open to everyone.
STRANGERS = ("nobody", "malformed", "forged", "expired", "ended", "deactivated")
CLERK = "clerk"
CLERK_MAY = ["users:read", "roles:manage", "audit:read", "counter:read", "objects:request"]
PATCH = "application/merge-patch+json"
ROUTE = {
    "method": "GET",
    "path": "/counted",
    "object_type": "counter",
    "object_id": "c",
    "object_method": "value",
    "permission": "counter:read",
}
SPELLED_OUT = re.compile(r"/durable-objects/[a-z0-9_]+(:\{id\}/request|/searches/[a-z0-9_]+)").fullmatch


ROUTES = {f"{row.method} {row.path}": row.access for router in ROUTERS for row in router.operations}
GUARDED = [route for route, access in ROUTES.items() if access not in (Access.PUBLIC, Access.OPEN)]


class Row(NamedTuple):
    """The expected statuses for each kind of caller, asked in this order.

    `other` is another user, `clerk` has a custom role, and `user` is the user whom the route is about. `nobody` sends
    no credential.
    """

    other: int
    clerk: int
    user: int
    service: int
    admin: int
    body: Any = None
    nobody: int = 401


def data(user: int, admin: int, body: Any = None, *, nobody: int = 404) -> Row:
    """Return the row of a route of the user's collection, which others can't see."""
    return Row(404, 404, user, 404, admin, body, nobody)


def session(status: int, body: Any = None) -> Row:
    """Return the row of a route about the caller's own session, which services don't have."""
    return Row(status, status, status, 403, status, body)


# Open to everyone: one answer for any credential.
OPEN: dict[str, tuple[int, Any]] = {
    "POST /auth/register": (422, {}),
    "POST /auth/login": (422, {}),
    "POST /auth/refresh": (422, {}),
    "POST /auth/mfa/verify": (422, {}),
    "POST /auth/password/reset": (422, {}),
    "GET /auth/cli": (200, None),
    "GET /auth/password/reset/confirm": (200, None),
    "POST /auth/password/reset/confirm": (422, {}),
    "GET /auth/email/confirm": (200, None),
    "POST /auth/email/confirm": (422, {}),
    "GET /.well-known/jwks.json": (200, None),
    "GET /health/live": (200, None),
    "GET /health/ready": (200, None),
    "GET /openapi.json": (200, None),
    "GET /asyncapi.json": (200, None),
    "GET /": (200, None),
    "GET /docs": (200, None),
    "GET /client.js": (200, None),
    "GET /llms.txt": (200, None),
    "GET /llms-full.txt": (200, None),
    "GET /examples/chat": (200, None),
}
ROWS: dict[str, Row] = {
    "GET /durable-objects": Row(403, 403, 403, 403, 200),
    "POST /durable-objects": Row(403, 403, 403, 403, 201, {"type": "counter"}),
    "GET /durable-objects/{object_id}": Row(403, 403, 403, 403, 404),
    "PUT /durable-objects/{object_id}": Row(403, 403, 403, 403, 404, {"state": {}}),
    "DELETE /durable-objects/{object_id}": Row(403, 403, 403, 403, 404),
    "GET /durable-objects/{object_id}/pending": Row(403, 403, 403, 403, 404),
    "POST /durable-objects/{object_id}/hibernate": Row(403, 403, 403, 403, 404),
    "GET /durable-objects/{object_id}/versions": Row(403, 403, 403, 403, 404),
    "GET /durable-objects/{object_id}/versions/{version}": Row(403, 403, 403, 403, 404),
    "GET /durable-objects/{object_id}/versions/{version}/patch": Row(403, 403, 403, 403, 404),
    "POST /durable-objects/{object_id}/versions/{version}/restore": Row(403, 403, 403, 403, 404),
    "POST /durable-objects/{object_id}/versions/{version}/fork": Row(403, 403, 403, 403, 404, {}),
    "POST /durable-objects/{object_id}/request": Row(403, 200, 403, 403, 200, {"method": "value"}),
    "GET /durable-objects/{type}/searches/{name}": Row(403, 404, 403, 403, 404),
    "GET /durable-objects/{type}/export": Row(403, 403, 403, 403, 200),
    "POST /durable-objects/import": Row(403, 403, 403, 403, 415, {}),
    "POST /durable-objects/{type}/migrate": Row(403, 403, 403, 403, 200, {"schema": 1}),
    "GET /fleet/types": Row(403, 403, 403, 403, 200),
    # A host serves it.
    "DELETE /fleet/types/{type}": Row(403, 403, 403, 403, 409),
    "GET /auth/me": session(200),
    "GET /auth/sessions": session(200),
    "DELETE /auth/sessions/{session_id}": Row(404, 404, 204, 204, 404),
    "POST /auth/password": session(422, {"current_password": PASSWORD, "new_password": "short"}),
    "POST /auth/email": session(422, {"email": "nobody", "password": PASSWORD}),
    "POST /auth/email/verify": session(202),
    "POST /auth/logout": session(204),
    "POST /auth/mfa/totp": session(200, {"password": PASSWORD}),
    "DELETE /auth/mfa/totp": session(204, {"password": PASSWORD}),
    "POST /auth/mfa/totp/confirm": session(409, {"otp": "000000"}),
    "POST /auth/mfa/recovery-codes": session(409, {"password": PASSWORD}),
    "GET /access-tokens": Row(403, 403, 403, 403, 200),
    "DELETE /access-tokens/{token_id}": Row(403, 403, 403, 403, 404),
    "GET /users": Row(403, 200, 403, 200, 200),
    # Refused for the address, after the caller is admitted.
    "POST /users": Row(403, 403, 403, 403, 422, {"username": "u", "email": "nowhere"}),
    "GET /users/{user_id}": Row(404, 200, 200, 404, 200),
    "PUT /users/{user_id}": Row(404, 403, 200, 404, 200, {}),
    "PATCH /users/{user_id}": Row(404, 403, 200, 404, 200, {}),
    "DELETE /users/{user_id}": Row(404, 403, 204, 404, 204, {"password": PASSWORD}),
    "GET /users/{user_id}/sessions": Row(404, 200, 200, 404, 200),
    "DELETE /users/{user_id}/sessions": Row(404, 403, 204, 404, 204),
    "DELETE /users/{user_id}/sessions/{session_id}": Row(404, 403, 204, 404, 404),
    "POST /users/{user_id}/activate": Row(403, 403, 403, 403, 200),
    "POST /users/{user_id}/deactivate": Row(403, 403, 403, 403, 200),
    "GET /roles": Row(403, 200, 403, 200, 200),
    "POST /roles": Row(403, 201, 403, 403, 409, {"name": "readers", "permissions": ["data:read"]}),
    "GET /roles/{name}": Row(403, 200, 403, 403, 200),
    "PUT /roles/{name}": Row(403, 409, 403, 403, 409, {"permissions": []}),
    "DELETE /roles/{name}": Row(403, 409, 403, 403, 409),
    "GET /api-keys": Row(200, 200, 200, 403, 200),
    "POST /api-keys": Row(201, 201, 201, 403, 201, {"name": "k", "scopes": ["profile:self"]}),
    "GET /api-keys/{key_id}": Row(404, 404, 200, 403, 200),
    "PATCH /api-keys/{key_id}": Row(404, 404, 200, 403, 200, {}),
    "POST /api-keys/{key_id}/rotate": Row(404, 404, 200, 403, 403),
    "DELETE /api-keys/{key_id}": Row(404, 404, 204, 403, 404),
    "GET /routes": Row(403, 403, 403, 200, 200),
    "POST /routes": Row(403, 403, 403, 403, 409, ROUTE),
    "GET /routes/{route_id}": Row(403, 403, 403, 403, 200),
    "PUT /routes/{route_id}": Row(403, 403, 403, 403, 200, ROUTE),
    "DELETE /routes/{route_id}": Row(403, 403, 403, 403, 204),
    "GET /rate-limits": Row(403, 403, 403, 403, 200),
    "PUT /rate-limits": Row(403, 403, 403, 403, 200, {"policies": {}}),
    "GET /projects": Row(200, 200, 200, 403, 200),
    "POST /projects": Row(201, 201, 201, 403, 201, {"name": "p"}),
    "GET /projects/{project_id}": Row(404, 404, 200, 403, 200),
    "PUT /projects/{project_id}": Row(404, 404, 200, 403, 200, {"name": "p"}),
    "PATCH /projects/{project_id}": Row(404, 404, 200, 403, 200, {}),
    "DELETE /projects/{project_id}": Row(404, 404, 202, 403, 404),
    "GET /projects/{project_id}/members": Row(404, 404, 200, 403, 200),
    "PUT /projects/{project_id}/members/{user_id}": Row(404, 404, 409, 403, 409, {"role": "viewer"}),
    "DELETE /projects/{project_id}/members/{user_id}": Row(404, 404, 409, 403, 409),
    "POST /projects/{project_id}/webhook-secret": Row(404, 404, 200, 403, 200, {}),
    "GET /projects/{project_id}/tasks": Row(404, 404, 200, 403, 200),
    "POST /projects/{project_id}/tasks": Row(404, 404, 201, 403, 201, {"kind": "report"}),
    "GET /tasks/{task_id}": Row(404, 404, 200, 403, 200),
    "PATCH /tasks/{task_id}": Row(404, 404, 200, 403, 200, {}),
    "DELETE /tasks/{task_id}": Row(404, 404, 204, 403, 404),
    "POST /tasks/{task_id}/cancel": Row(404, 404, 200, 403, 409),
    "POST /tasks/{task_id}/retry": Row(404, 404, 409, 403, 409),
    "GET /data/collections": Row(200, 200, 200, 200, 200, nobody=200),
    "GET /data/collections/{collection}": data(200, 200),
    "PUT /data/collections/{collection}": data(200, 200, {}),
    "POST /data/collections/{collection}": data(201, 201, {"data": 1}),
    "DELETE /data/collections/{collection}": data(204, 404),
    "GET /data/collections/{collection}/config": data(200, 200),
    "GET /data/collections/{collection}/export": data(200, 200),
    # Refused for the body, before ownership is checked.
    "POST /data/collections/{collection}/import": Row(415, 415, 415, 415, 415, {}, 415),
    "GET /data/collections/{collection}/{item_id}": data(200, 200),
    "PUT /data/collections/{collection}/{item_id}": data(200, 200, {"data": 2}),
    "PATCH /data/collections/{collection}/{item_id}": data(200, 200, 3),
    "DELETE /data/collections/{collection}/{item_id}": data(204, 404),
    "GET /data/collections/{collection}/{item_id}/history": data(200, 200),
    "POST /data/collections/{collection}/{item_id}/restore": Row(422, 422, 422, 422, 422, nobody=422),
    "POST /mcp": Row(200, 200, 200, 200, 200, {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
    "GET /events": Row(200, 200, 200, 403, 200),
    "GET /webhooks": Row(200, 200, 200, 200, 200),
    "POST /webhooks": Row(201, 201, 201, 403, 201, {"url": "http://127.0.0.77:9/", "events": ["item.*"]}),
    "GET /webhooks/{webhook_id}": Row(404, 404, 200, 403, 200),
    "PATCH /webhooks/{webhook_id}": Row(404, 404, 200, 403, 200, {}),
    "DELETE /webhooks/{webhook_id}": Row(404, 404, 204, 403, 404),
    "POST /webhooks/{webhook_id}/rotate-secret": Row(404, 404, 200, 403, 403),
    "POST /webhooks/{webhook_id}/test": Row(404, 404, 202, 403, 202),
    "GET /webhooks/{webhook_id}/deliveries": Row(404, 404, 200, 403, 200),
    "GET /webhooks/{webhook_id}/deliveries/{delivery_id}": Row(404, 404, 200, 403, 200),
    "POST /webhooks/{webhook_id}/deliveries/{delivery_id}/replay": Row(404, 404, 202, 403, 202),
    "GET /dead-letters": Row(403, 403, 403, 200, 200),
    "GET /dead-letters/{letter_id}": Row(403, 403, 403, 403, 200),
    "POST /dead-letters/{letter_id}/replay": Row(403, 403, 403, 403, 202),
    "DELETE /dead-letters/{letter_id}": Row(403, 403, 403, 403, 204),
    "GET /audit": Row(403, 200, 403, 403, 200),
    "GET /fleet": Row(403, 403, 403, 403, 200),
    "GET /fleet/live": Row(403, 403, 403, 403, 200),
    "GET /fleet/settings": Row(403, 403, 403, 403, 200),
    "GET /metrics": Row(403, 403, 403, 403, 200),
}


Headers = dict[str, str]
# Routes whose requests may end sessions, or change users.
CHANGES_CALLERS = re.compile(r"(POST|PUT|PATCH|DELETE) /(auth|users)").match


class Cast(NamedTuple):
    """The headers of each kind of caller, and the ID and session of the user whom a route is about."""

    headers: Mapping[str, Headers]
    user: str
    session: str


class Target(NamedTuple):
    """The path parameters of a route, and the callers by kind."""

    path: Mapping[str, str]
    callers: Mapping[str, Headers]


@pytest.fixture(scope="module")
def casts() -> list[Cast]:
    """Return the list of the callers whom the next test can have, if there are any."""
    return []


@pytest.fixture
async def cast(http: httpx2.AsyncClient, world: World, casts: list[Cast]) -> Cast:
    if not casts:
        casts.append(await make_cast(http, world))
    return casts[0]


async def make_cast(http: httpx2.AsyncClient, world: World) -> Cast:
    user, other, clerk, ended, deactivated, chief = await asyncio.gather(
        *(logged_in(http, new_person()) for _ in range(6))
    )
    admin = bearer((await login(http, "admin", admin_password(world))).json())
    made = await http.post("/roles", headers=admin, json={"name": CLERK, "permissions": CLERK_MAY})
    assert made.status_code in (201, 409)
    for pair, role in ((clerk, CLERK), (chief, "admin")):
        path = f"/users/{pair['user']['id']}"
        given = await http.patch(path, headers=admin | {"Content-Type": PATCH}, json={"roles": ["user", role]})
        assert given.status_code == 200
    assert (await http.post("/auth/logout", headers=bearer(ended))).status_code == 204
    gone = await http.post(f"/users/{deactivated['user']['id']}/deactivate", headers=admin)
    assert gone.status_code == 200
    headers = {
        "nobody": {},
        "malformed": {"Authorization": "Bearer x.y.z"},
        "forged": {"Authorization": forged(world)},
        "expired": {"Authorization": expired(world)},
        "ended": bearer(ended),
        "deactivated": bearer(deactivated),
        "other": bearer(other),
        "clerk": bearer(clerk),
        "service": {"Authorization": world.token(roles=("service",), subject="service:tester")},
        "user": bearer(user),
        "admin": bearer(chief),
    }
    await wait_until_known(http, headers)
    session = (await http.get("/auth/sessions", headers=bearer(user))).json()["items"][0]["id"]
    return Cast(headers, user["user"]["id"], session)


@pytest.fixture
async def target(
    http: httpx2.AsyncClient, world: World, over_nats: NatsEntryPoint, cast: Cast, casts: list[Cast], route: str
) -> AsyncIterator[Target]:
    """Make what the route is about."""
    fixed = {"version": "1", "type": "counter", "name": "user", "user_id": cast.user, "session_id": cast.session}
    place = fixed | {name: secrets.token_hex(16) for name in ("token_id", "letter_id", "collection", "item_id")}
    place |= {"object_id": f"counter:{secrets.token_hex(8)}", "route_id": route_id("GET", "/counted")}
    user = cast.headers["user"]
    if route.endswith("/routes") or "{route_id}" in route:
        declared = await http.post("/routes", headers=cast.headers["admin"], json=ROUTE)
        assert declared.status_code in (201, 409)
    if "{key_id}" in route:
        place["key_id"] = await made(http, "/api-keys", user, name="k", scopes=["profile:self"])
    if "{project_id}" in route or "{task_id}" in route:
        place["project_id"] = await made(http, "/projects", user, name="p")
    if "{task_id}" in route:
        place["task_id"] = await made(http, f"/projects/{place['project_id']}/tasks", user, kind="report")
    if "{collection}" in route:
        await made(http, f"/data/collections/{place['collection']}", user, id=place["item_id"], data={"n": 1})
    if "{letter_id}" in route:
        letter = place["letter_id"]
        await bury(world, over_nats.connection, letter, f"do.counter.{letter}.increment")
    if "{webhook_id}" in route:
        place["webhook_id"], place["delivery_id"] = await sent_webhook(http, user)
    yield Target(place, cast.headers)
    if CHANGES_CALLERS(route):
        casts.clear()


async def made(http: httpx2.AsyncClient, path: str, headers: Headers, **body: Any) -> str:
    """Create something, and return its ID."""
    answer = await http.post(path, headers=headers, json=body)
    assert answer.status_code == 201, answer.text
    id: str = answer.json()["id"]
    return id


async def sent_webhook(http: httpx2.AsyncClient, user: dict[str, str]) -> tuple[str, str]:
    """Create a webhook of the user and one delivery; return both IDs."""
    webhook = await made(http, "/webhooks", user, url="http://127.0.0.77:9/", events=["item.*"])
    path = f"/webhooks/{webhook}"
    delivery: str = (await http.post(f"{path}/test", headers=user)).json()["delivery_id"]

    async def is_there() -> bool:
        return (await http.get(f"{path}/deliveries/{delivery}", headers=user)).status_code == 200

    await eventually(is_there)
    return webhook, delivery


async def wait_until_known(http: httpx2.AsyncClient, callers: Mapping[str, Headers]) -> None:
    """Wait until every caller's access has changed; fail after one second."""
    end = time.monotonic() + 1
    expected = {"ended": 401, "deactivated": 401, "clerk": 200, "admin": 200}
    while time.monotonic() < end:
        if {name: (await http.get("/users", headers=callers[name])).status_code for name in expected} == expected:
            return
    raise AssertionError("access has not changed within a second")


def forged(world: World) -> str:
    key = SigningKey(world.issuer.keys.at(time.time()).id, Ed25519PrivateKey.generate())
    return "Bearer " + TokenIssuer(key, world.servers.public_url).issue("admin", roles=("admin",))


def expired(world: World) -> str:
    past = TokenIssuer(world.issuer.keys, world.servers.public_url, now=lambda: time.time() - 10_000)
    return "Bearer " + past.issue("admin", roles=("admin",))


async def ask(http: httpx2.AsyncClient, route: str, target: Target, caller: str, body: Any) -> httpx2.Response:
    verb, _, template = route.partition(" ")
    headers = dict(target.callers[caller])
    if body is not None:
        headers["Content-Type"] = PATCH if verb == "PATCH" else "application/json"
    # Only the answer's head, because the body may never end.
    async with http.stream(verb, template.format(**target.path), headers=headers, json=body) as answer:
        if answer.headers.get("content-type") != "text/event-stream":
            await answer.aread()
    return answer


async def test_every_described_route_has_a_row(http: httpx2.AsyncClient) -> None:
    described = (await http.get("/openapi.json")).json()["paths"]
    verbs = {"get", "put", "post", "patch", "delete"}
    routes = {
        f"{verb.upper()} {path}": operation.get("security")
        for path, operations in described.items()
        for verb, operation in operations.items()
        if verb in verbs and not SPELLED_OUT(path) and not operation["operationId"].startswith("route_")
    }

    assert set(routes) == set(ROUTES)
    assert {route for route, security in routes.items() if security == []} == set(OPEN)
    assert {route for route, security in routes.items() if security != []} == set(ROWS)


@pytest.mark.parametrize("route", GUARDED)
async def test_a_route_answers_each_kind_of_caller_as_its_row_says(
    http: httpx2.AsyncClient, target: Target, route: str
) -> None:
    row = ROWS[route]
    known = row._asdict()
    body, nobody = known.pop("body"), known.pop("nobody")

    answers = {caller: await ask(http, route, target, caller, body) for caller in (*STRANGERS, *known)}

    assert {caller: answer.status_code for caller, answer in answers.items()} == (
        dict.fromkeys(STRANGERS, 401) | {"nobody": nobody} | known
    )
    for answer in answers.values():
        assert not answer.is_error or answer.headers["content-type"] == "application/problem+json"


async def test_an_open_route_answers_everyone_alike(http: httpx2.AsyncClient, cast: Cast) -> None:
    for route, (status, body) in OPEN.items():
        answers = [await ask(http, route, Target({}, cast.headers), caller, body) for caller in cast.headers]

        assert {answer.status_code for answer in answers} == {status}, route
