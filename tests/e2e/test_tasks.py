"""Tasks of the built-in kinds, from request to result, with the rights of their makers."""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import httpx2
import msgspec
import pytest

from tests.support.people import Person
from tests.support.tasks import PATCH, done, project_of, queue, shown, until
from tests.support.world import NatsEntryPoint, World

Register = Callable[[], Awaitable[Person]]


@pytest.fixture
async def counting(http: httpx2.AsyncClient, world: World) -> str:
    """Create a role that may count, for this test alone."""
    name = f"r{secrets.token_hex(6)}"
    body = {"name": name, "permissions": ["counter:write", "counter:read"]}
    made = await http.post("/roles", headers={"Authorization": world.admin}, json=body)
    assert made.status_code == 201
    return name


async def give(http: httpx2.AsyncClient, world: World, who: Person, *roles: str) -> None:
    headers = {"Authorization": world.admin, **PATCH}
    given = await http.patch(f"/users/{who.id}", headers=headers, json={"roles": ["user", *roles]})
    assert given.status_code == 200, given.text


class Waiting(NamedTuple):
    """A task of Ada's that will call a counter, in a project that Bob maintains too. Only Ada may count."""

    ada: Person
    bob: Person
    task: str


@pytest.fixture
async def waiting(http: httpx2.AsyncClient, world: World, person: Register, counting: str, new_id: str) -> Waiting:
    ada, bob = await person(), await person()
    await give(http, world, ada, counting)
    project = await project_of(http, ada)
    member = {"role": "maintainer"}
    assert (
        await http.put(f"/projects/{project}/members/{bob.id}", headers=ada.headers, json=member)
    ).status_code == 200
    call = {"object_id": f"counter:{new_id}", "method": "increment"}
    task = await queue(http, project, ada, "object.call", call, run_at="2099-01-01T00:00:00Z")
    return Waiting(ada, bob, task)


async def test_an_object_is_called_with_the_makers_rights_and_the_result_is_what_it_returned(
    http: httpx2.AsyncClient, world: World, person: Register, counting: str, new_id: str
) -> None:
    ada = await person()
    await give(http, world, ada, counting)
    project = await project_of(http, ada)
    call = {"object_id": f"counter:{new_id}", "method": "increment", "args": {"by": 5}}
    task = await done(http, project, ada, "object.call", call)
    assert (task["status"], task["result"], task["error"]) == ("succeeded", 5, None)
    assert (task["attempts"], task["progress"]) == (1, 1.0)
    assert task["created_at"] <= task["started_at"] <= task["finished_at"]
    other = await done(http, project, ada, "object.call", {**call, "args": {"by": "five"}})
    assert (other["status"], other["error"]["code"]) == ("failed", "invalid")


async def test_the_maker_may_do_what_they_may_when_it_runs(
    http: httpx2.AsyncClient, world: World, person: Register, counting: str, new_id: str
) -> None:
    ada = await person()
    await give(http, world, ada, counting)
    project = await project_of(http, ada)
    call = {"object_id": f"counter:{new_id}", "method": "increment", "args": {"by": 5}}
    later = {"run_at": "2099-01-01T00:00:00Z"}
    task = await queue(http, project, ada, "object.call", call, **later)
    await give(http, world, ada)
    soon = {"run_at": "2020-01-01T00:00:00Z"}
    assert (await http.patch(f"/tasks/{task}", headers=ada.headers | PATCH, json=soon)).status_code == 200
    ended = await until(http, task, ada)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "forbidden")


async def test_a_maker_who_was_deactivated_acts_no_more(
    http: httpx2.AsyncClient, world: World, waiting: Waiting
) -> None:
    ada, bob, task = waiting
    admin = {"Authorization": world.admin}
    assert (await http.post(f"/users/{ada.id}/deactivate", headers=admin)).status_code == 200
    soon = {"run_at": "2020-01-01T00:00:00Z"}
    assert (await http.patch(f"/tasks/{task}", headers=bob.headers | PATCH, json=soon)).status_code == 200
    ended = await until(http, task, bob)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "forbidden")


async def test_nobody_has_anothers_rights_used_for_a_payload_of_their_own(
    http: httpx2.AsyncClient, waiting: Waiting
) -> None:
    _, bob, task = waiting
    change = {"payload": {"args": {"by": 100}}, "run_at": "2020-01-01T00:00:00Z"}
    assert (await http.patch(f"/tasks/{task}", headers=bob.headers | PATCH, json=change)).status_code == 200
    ended = await until(http, task, bob)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "forbidden")


async def test_nobody_repeats_a_task_with_anothers_rights(http: httpx2.AsyncClient, waiting: Waiting) -> None:
    _, bob, task = waiting
    for action in ("cancel", "retry"):
        assert (await http.post(f"/tasks/{task}/{action}", headers=bob.headers)).status_code == 200
    ended = await until(http, task, bob)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "forbidden")


async def test_a_task_that_is_made_over_nats_is_done_all_the_same(
    http: httpx2.AsyncClient, over_nats: NatsEntryPoint, world: World, person: Register, counting: str, new_id: str
) -> None:
    ada = await person()
    await give(http, world, ada, counting)
    project = await project_of(http, ada)
    call = {"object_id": f"counter:{new_id}", "method": "increment", "args": {"by": 2}}
    payload = msgspec.json.encode({"project": project, "kind": "object.call", "payload": call})
    await over_nats.call("task", new_id, "create", payload, authorization=ada.authorization)
    ended = await until(http, new_id, ada)
    assert (ended["status"], ended["result"]) == ("succeeded", 2)
    assert await over_nats.call("task", new_id, "read", authorization=ada.authorization) == ended


async def test_items_come_in_and_go_out_with_the_makers_rights(http: httpx2.AsyncClient, person: Register) -> None:
    ada, bob = await person(), await person()
    project, name = await project_of(http, ada), f"c{secrets.token_hex(6)}"
    items: list[dict[str, Any]] = [{"id": f"i{number:03}", "data": {"number": number}} for number in range(60)]
    brought = await done(http, project, ada, "data.import", {"collection": name, "items": [*items, {"data": "one"}]})
    assert (brought["result"]["created"], brought["result"]["refused"]) == (61, 0)
    assert [result["status"] for result in brought["result"]["results"]] == [201] * 61
    again = await done(http, project, ada, "data.import", {"collection": name, "items": items[:2]})
    assert [result["problem"]["code"] for result in again["result"]["results"]] == ["exists", "exists"]

    taken = await done(http, project, ada, "data.export", {"collection": name})
    streamed = await http.get(f"/data/collections/{name}/export", headers=ada.headers)
    assert taken["result"] == {"count": 61, "ndjson": streamed.text}
    assert [json.loads(line) for line in streamed.text.splitlines()][:60] != []
    foreign = await done(http, await project_of(http, bob), bob, "data.export", {"collection": name})
    assert (foreign["result"] or {}).get("count", 0) == 0


async def test_an_export_that_is_too_large_says_where_else_it_is(http: httpx2.AsyncClient, person: Register) -> None:
    ada = await person()
    project, name = await project_of(http, ada), f"c{secrets.token_hex(6)}"
    for id in ("a", "b", "c"):
        body = {"id": id, "data": "x" * 200_000}
        assert (await http.post(f"/data/collections/{name}", headers=ada.headers, json=body)).status_code == 201
    ended = await done(http, project, ada, "data.export", {"collection": name})
    assert (ended["status"], ended["error"]["code"]) == ("failed", "too-large")
    assert f"/data/collections/{name}/export" in ended["error"]["detail"]


async def test_webhooks_to_private_addresses_are_refused(http: httpx2.AsyncClient, person: Register) -> None:
    ada = await person()
    project = await project_of(http, ada)
    for url in ("http://127.0.0.1:1/", "http://[::1]/", "http://169.254.169.254/latest/"):
        ended = await done(http, project, ada, "webhook", {"url": url})
        assert (ended["status"], ended["error"]["code"], ended["attempts"]) == ("failed", "forbidden", 1)


async def test_a_kind_that_no_worker_has_stays_queued(http: httpx2.AsyncClient, person: Register) -> None:
    ada = await person()
    project = await project_of(http, ada)
    own = await queue(http, project, ada, "report", {})
    await done(http, project, ada, "data.export", {"collection": f"c{secrets.token_hex(6)}"})
    assert (await shown(http, own, ada))["status"] == "queued"


async def test_a_task_runs_on_time(http: httpx2.AsyncClient, person: Register) -> None:
    ada = await person()
    project = await project_of(http, ada)
    now = (await shown(http, await queue(http, project, ada, "report", {}), ada))["created_at"]
    at = datetime.fromisoformat(now) + timedelta(seconds=2)
    payload = {"collection": f"c{secrets.token_hex(6)}"}
    task = await done(http, project, ada, "data.export", payload, run_at=at.isoformat())
    started = datetime.fromisoformat(task["started_at"])
    assert timedelta(0) <= started - at < timedelta(seconds=2)


async def test_the_secret_of_webhooks_is_for_owners_and_can_be_renewed(
    http: httpx2.AsyncClient, person: Register
) -> None:
    ada, bob = await person(), await person()
    project = await project_of(http, ada)
    path = f"/projects/{project}/webhook-secret"
    await http.put(f"/projects/{project}/members/{bob.id}", headers=ada.headers, json={"role": "maintainer"})
    first = (await http.post(path, headers=ada.headers, json={})).json()
    again = (await http.post(path, headers=ada.headers, json={})).json()
    renewed = (await http.post(path, headers=ada.headers, json={"renew": True})).json()
    assert first == again != renewed
    assert first["secret"].startswith("whsec_")
    assert (await http.post(path, headers=bob.headers, json={})).status_code == 403
