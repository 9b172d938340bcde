"""The fleet behaves as it describes itself: over HTTP for every kind of caller, and over NATS."""

from __future__ import annotations

import io
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from http.cookiejar import DefaultCookiePolicy
from typing import Any, NamedTuple

import httpx2
import msgspec
import nats
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from nats.aio.client import Client
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.specs.openapi.checks import positive_data_acceptance
from urllib3 import HTTPResponse

from aidevos.contracts import envelope
from tests.support import ndjson  # noqa: F401
from tests.support.declared_routes import hit, value
from tests.support.http import NO_TLS, blocking_http_client, http_client
from tests.support.kits import examples
from tests.support.world import World

BOUNDED = settings(examples(8), suppress_health_check=list(HealthCheck))
# These would revoke the caller's credential, or limit the rate of all later calls.
LEFT_OUT = {
    ("POST", "/auth/logout"),
    ("DELETE", "/auth/sessions/{session_id}"),
    ("PUT", "/rate-limits"),
}
EVENT_STREAM = "text/event-stream"
MOST_OF_A_STREAM = 64 * 1024


class Cast(NamedTuple):
    """The headers of each kind of caller, existing IDs, and the path of a declared route."""

    callers: dict[str, dict[str, str]]
    there: dict[str, str]
    declared: str


@pytest.fixture(scope="module")
def cast(world: World) -> Iterator[Cast]:
    with blocking_http_client(base_url=world.url, timeout=30) as http:
        user, other = (logged_in(http) for _ in range(2))
        patch = {"Authorization": world.admin, "Content-Type": "application/merge-patch+json"}
        chief = logged_in(http)
        given = http.patch(f"/users/{chief['user']['id']}", json={"roles": ["admin"]}, headers=patch)
        assert given.status_code == 200, given.text
        admin, token = bearer(chief), bearer(user)
        key = http.post("/api-keys", json={"name": "k", "scopes": ["*"]}, headers=token).json()
        project = http.post("/projects", json={"name": "p"}, headers=token).json()["id"]
        task = http.post(f"/projects/{project}/tasks", json={"kind": "report"}, headers=token).json()["id"]
        collection = f"books-{secrets.token_hex(4)}"
        item = http.post(f"/data/collections/{collection}", json={"data": {"a": 1}}, headers=token).headers["location"]
        segment = f"described-{secrets.token_hex(4)}"
        path = f"/{segment}/{{name}}/hit/{{by}}"
        route = http.post("/routes", json=hit(segment, path=path), headers=admin).json()
        http.post("/routes", json=value(segment), headers=admin).raise_for_status()
        while path not in http.get("/openapi.json").json()["paths"]:
            time.sleep(0.05)
        there = {
            "object_id": "counter:described",
            "user_id": other["user"]["id"],
            "key_id": key["id"],
            "project_id": project,
            "task_id": task,
            "route_id": route["id"],
            "name": "user",
            "collection": collection,
            "item_id": item.rpartition("/")[2],
        }
        callers = {"anonymous": {}, "user": token, "key": {"X-Api-Key": key["key"]}, "administrator": admin}
        yield Cast(callers, there, path)


def logged_in(http: httpx2.Client) -> dict[str, Any]:
    person = {"username": f"u{secrets.token_hex(6)}", "password": "wheelbarrow at noon"}
    http.post("/auth/register", json=person | {"email": f"{person['username']}@example.org"}).raise_for_status()
    pair: dict[str, Any] = http.post("/auth/login", json=person).raise_for_status().json()
    return pair


def bearer(pair: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {pair['access_token']}"}


class BoundedSession(requests.Session):
    """A session that takes the first bytes of an endless response for all of it."""

    def request(self, *args: Any, **options: Any) -> requests.Response:
        response = super().request(*args, **options)
        if response.headers.get("content-type") == EVENT_STREAM:
            first = response.raw.read1(MOST_OF_A_STREAM)
            response.close()
            body = io.BytesIO(first)
            response.raw = HTTPResponse(body, response.headers, response.status_code, preload_content=False)
        return response


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """Connections that are used again, no cookies, and no endless responses."""
    with BoundedSession() as session:
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        yield session


@pytest.mark.timeout(300)
def test_every_answer_over_http_to_each_kind_of_caller_is_as_described(
    world: World, cast: Cast, session: requests.Session
) -> None:
    document = httpx2.get(f"{world.url}/openapi.json", verify=NO_TLS).json()
    tried = set()
    for operation in schemathesis.openapi.from_dict(document).get_all_operations():
        described = operation.ok()
        if (described.method.upper(), described.path) in LEFT_OUT:
            continue

        @BOUNDED
        @given(case=described.as_strategy(), real=st.booleans())
        def answers_as_described(case: schemathesis.Case, real: bool) -> None:
            # A deadline of some milliseconds is valid, and rightly missed.
            case.headers.pop("Deadline", None)
            if real:
                case.headers.pop("If-Match", None)
                case.path_parameters.update({k: v for k, v in cast.there.items() if k in case.path_parameters})
            for caller, headers in cast.callers.items():
                note(f"as {caller}")
                case.call_and_validate(
                    base_url=world.url,
                    session=session,
                    headers=headers,
                    # No schema tells which IDs and cursors there are.
                    excluded_checks=[positive_data_acceptance],
                )

        answers_as_described()
        tried.add((described.method.upper(), described.path))
    assert {
        ("GET", "/events"),
        ("POST", "/data/collections/{collection}/import"),
        ("POST", "/routes"),
        ("POST", cast.declared),
    } <= tried


@pytest.mark.parametrize(
    ("method", "path", "sent", "status"),
    [
        ("GET", "/users/me", {"headers": {"Deadline": "0"}}, 408),
        ("GET", "/users/me", {"headers": {"Deadline": "-1"}}, 408),
        ("PATCH", "/users/me", {"headers": {"If-Match": "0"}, "json": {}}, 400),
        ("GET", "/examples/chat", {"params": {"room": "a room"}}, 422),
        ("POST", "/data/collections/described/import", {"headers": {"Content-Type": "application/x-ndjson"}}, 200),
        ("POST", "/data/collections/described", {"json": [{"id": 1, "data": 1}]}, 207),
    ],
)
def test_what_is_at_the_edge_of_the_description_is_answered_as_described(
    world: World, cast: Cast, method: str, path: str, sent: dict[str, Any], status: int
) -> None:
    type = {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else {}
    headers = cast.callers["user"] | type | sent.get("headers", {})
    response = requests.request(method, world.url + path, timeout=30, **sent | {"headers": headers})
    described = {"/users/me": "/users/{user_id}"}.get(path, path.replace("described", "{collection}"))
    operation = schemathesis.openapi.from_url(f"{world.url}/openapi.json")[described][method]

    assert response.status_code == status
    operation.Case().validate_response(response)


def test_the_description_of_the_running_fleet_is_valid(world: World, cast: Cast) -> None:
    OpenAPIV31SpecValidator(httpx2.get(f"{world.url}/openapi.json", verify=NO_TLS).json()).validate()


@pytest.fixture
async def connection(world: World) -> AsyncIterator[Client]:
    connection = await nats.connect(world.servers.nats_url("client"))
    yield connection
    await connection.close()


async def test_replies_and_events_over_nats_are_as_described(world: World, connection: Client, new_id: str) -> None:
    async with http_client(base_url=world.url) as http:
        answer = await http.get("/asyncapi.json")
        known = await http.get("/asyncapi.json", headers={"If-None-Match": answer.headers["etag"]})
    document = answer.json()
    events = await connection.subscribe("event.account.>")
    await connection.flush()

    async def call(key: str, args: dict[str, Any]) -> Any:
        """Call an operation, check the reply against its description, and return it."""
        operation = document["operations"][key]
        channel = at(document, operation["channel"]["$ref"])
        check(document, channel["messages"]["call"]["payload"], args)
        subject = channel["address"].replace("{id}", new_id)
        headers = {envelope.AUTHORIZATION: world.admin}
        reply = await connection.request(subject, msgspec.json.encode(args), timeout=10, headers=headers)
        failed = envelope.ERROR_CODE in (reply.headers or {})
        message = at(document, operation["reply"]["messages"][int(failed)]["$ref"])
        if failed:
            message = at(document, message["$ref"])
            check(document, message["headers"], dict(reply.headers or {}))
        result = msgspec.json.decode(reply.data)
        check(document, message["payload"], result)
        return result

    assert await call("do.account.deposit", {"amount": 5}) == 5
    assert (await call("do.account.transfer", {"to": "somebody", "amount": 100}))["status"] == 409
    await call("do.account.transfer", {"to": f"{new_id}-2", "amount": 3})
    assert (await call("query.role.search", {}))["items"]
    event = await events.next_msg(timeout=10)
    channel = document["channels"]["event.account.transfer_settled"]
    assert event.subject == channel["address"].replace("{id}", new_id)
    check(document, channel["messages"]["event"]["payload"], msgspec.json.decode(event.data))
    assert known.status_code == 304


def at(document: dict[str, Any], reference: str) -> Any:
    target: Any = document
    for part in reference.removeprefix("#/").split("/"):
        target = target[part]
    return target


def check(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    Draft202012Validator({**schema, "components": document["components"]}).validate(value)
