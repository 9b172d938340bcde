"""The test vectors for authors of NATS clients, checked against the code and the services."""

from __future__ import annotations

import base64
import json
import secrets
import time
from typing import Any

import msgspec
import nats
import pytest
from nats.aio.client import Client
from nats.errors import NoRespondersError

from aidevos import Failure, id_from_name
from aidevos.contracts import subjects
from aidevos.contracts.authentication import account_id
from aidevos.contracts.confirmation import recovery_id
from aidevos.contracts.errors import Problem
from aidevos.contracts.routes import route_id
from aidevos.durable.client.client import RequestIds, issued_at
from tests.support.paths import VECTORS
from tests.support.world import World


def vectors(name: str) -> list[dict[str, Any]]:
    return list(json.loads((VECTORS / "protocol" / f"{name}.json").read_bytes()))


def test_names_have_these_ids_and_others_are_refused() -> None:
    for row in vectors("names"):
        if row["id"] is None:
            with pytest.raises(Failure):
                id_from_name(row["type"], row["name"])
        else:
            assert id_from_name(row["type"], row["name"]) == row["id"]


def test_objects_are_in_these_partitions() -> None:
    assert [subjects.partition(row["type"], row["id"]) for row in vectors("partitions")] == [
        row["partition"] for row in vectors("partitions")
    ]


@pytest.mark.parametrize("row", vectors("numbers"))
def test_a_number_tells_when_it_was_issued(row: dict[str, Any]) -> None:
    ids = RequestIds(now=lambda: row["milliseconds"] / 1000)
    numbers = [ids.take() for _ in range(row["sequence"] + 1)]

    assert numbers[-1] == row["number"]
    assert issued_at(row["number"]) == row["milliseconds"] / 1000


def test_accounts_and_routes_have_these_ids() -> None:
    for row in vectors("accounts"):
        assert account_id(row["name"]) == row["auth"]
        assert recovery_id(row["name"]) == str(row["recovery"])
    for row in vectors("routes"):
        assert route_id(row["method"], row["path"]) == row["id"]


async def test_requests_get_these_replies(world: World) -> None:
    number = int(time.time() * 1000) << 20
    places = {
        "<token>": world.token("counter:read", "counter:write").removeprefix("Bearer "),
        "<id>": secrets.token_hex(8),
        "<client>": secrets.token_hex(16),
        "<number>": str(number),
        "<number+1>": str(number + 1),
    }
    connection = await nats.connect(world.servers.nats_url("client"))
    try:
        rows = [filled(row, places) for row in vectors("requests")]
        shown = [(row["what"], await answered(connection, row)) for row in rows]
    finally:
        await connection.close()

    assert shown == [(row["what"], expected(row)) for row in rows]


def filled(row: dict[str, Any], places: dict[str, str]) -> dict[str, Any]:
    text = json.dumps(row)
    for place, value in places.items():
        text = text.replace(place, value)
    return dict(json.loads(text))


def expected(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("result", "error", "no_responders") if key in row}


async def answered(connection: Client, row: dict[str, Any]) -> dict[str, Any]:
    in_base64 = row.get("base64", False)
    payload = base64.b64decode(row["payload"]) if in_base64 else row["payload"].encode()
    try:
        reply = await connection.request(row["subject"], payload, timeout=20, headers=row["headers"])
    except NoRespondersError:
        return {"no_responders": True}
    status = (reply.headers or {}).get("Nats-Service-Error-Code")
    if status is None:
        return {"result": base64.b64encode(reply.data).decode() if in_base64 else reply.data.decode()}
    problem = msgspec.json.decode(reply.data, type=Problem)
    assert problem.status == int(status)
    error: dict[str, Any] = {"status": problem.status, "code": problem.code}
    return {"error": error if problem.field is None else error | {"field": problem.field}}
