"""Events are valid CloudEvents 1.0 by the standard's schema, with data as /asyncapi.json describes it."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from typing import Any

import httpx2
import nats
import pytest
from jsonschema import Draft7Validator, Draft202012Validator, ValidationError

from aidevos.contracts.authentication import session_of
from aidevos.contracts.data import item_object
from aidevos.durable.bus.jetstream import JetStreamBus
from aidevos.durable.bus.port import Delivery
from tests.support.logins import Person, bearer, logged_in
from tests.support.paths import VECTORS
from tests.support.world import World

STANDARD = Draft7Validator(json.loads((VECTORS / "cloudevents" / "1.0.2.json").read_text()))


async def published(world: World, since: float, ids: set[str]) -> list[Delivery]:
    """Return the events of these objects so far."""
    connection = await nats.connect(world.servers.nats_url("objects"), inbox_prefix=b"_INBOX_objects")
    found: list[Delivery] = []
    async with contextlib.aclosing(JetStreamBus(connection).follow(["event.>"], since=since)) as events:
        async for event in events:
            if event is None:
                break
            if event.subject.split(".")[2] in ids:
                found.append(event)
    await connection.close()
    return found


async def test_what_is_published_is_a_cloud_event_as_described(http: httpx2.AsyncClient, world: World) -> None:
    since, name = time.time() - 1, f"c{secrets.token_hex(6)}"
    pair = await logged_in(http, Person(name, f"{name}@example.org"))
    ada = bearer(pair)
    assert (await http.put(f"/data/collections/{name}", headers=ada, json={})).status_code == 201
    assert (await http.post(f"/data/collections/{name}", headers=ada, json={"id": "x", "data": 1})).status_code == 201
    assert (await http.put(f"/data/collections/{name}/x", headers=ada, json={"data": 2})).status_code == 200
    assert (await http.delete(f"/data/collections/{name}/x", headers=ada)).status_code == 204
    project = await http.post("/projects", headers=ada, json={"name": name})
    task = await http.post(f"/projects/{project.json()['id']}/tasks", headers=ada, json={"kind": "report"})
    assert (await http.post("/auth/logout", headers=ada)).status_code == 204
    ids = {item_object(name, "x"), pair["user"]["id"], session_of(pair["refresh_token"]), project.json()["id"]}
    ids.add(task.json()["id"])
    described: dict[str, Any] = (await http.get("/asyncapi.json")).json()
    wanted = {
        *("item.created", "item.updated", "item.deleted"),
        *("session.session_ended", "project.created", "task.created"),
    }
    told: set[str] = set()
    end = time.monotonic() + 10
    while not wanted <= told and time.monotonic() < end:
        events = await published(world, since, ids)
        told = {".".join(event.subject.split(".")[1::2]) for event in events}

    assert wanted <= told
    for event in events:
        document, (_, type, id, kind) = json.loads(event.payload), event.subject.split(".")
        STANDARD.validate(document)
        assert (document["source"], document["type"]) == (f"/durable-objects/{type}:{id}", f"{type}.{kind}")
        assert document["id"] == event.id
        schema = described["channels"][f"event.{type}.{kind}"]["messages"]["event"]["payload"]
        Draft202012Validator(schema | {"components": described["components"]}).validate(document)
        assert schema["allOf"][1]["properties"]["data"].keys() & {"$ref", "properties"}


@pytest.mark.parametrize("missing", ["id", "source", "specversion", "type"])
def test_the_standard_refuses_what_lacks_an_attribute(missing: str) -> None:
    event = {"id": "a:b:1", "source": "/durable-objects/a:b", "specversion": "1.0", "type": "a.changed"}
    STANDARD.validate(event)
    with pytest.raises(ValidationError):
        STANDARD.validate({name: value for name, value in event.items() if name != missing})
