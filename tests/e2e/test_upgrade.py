"""Today's services on documents that the last version has written, and `aidevos objects migrate` before and after."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pymongo
import pytest
from bson.json_util import loads

from aidevos import Failure
from aidevos.cli.main import main
from aidevos.process.fleet import Fleet
from tests.support.host_processes import client
from tests.support.http import http_client
from tests.support.paths import VECTORS
from tests.support.servers import Servers
from tests.support.world import World, Worlds
from tests.vectors.release.make import PASSWORD

FILE = VECTORS / "release" / "documents.json.gz"
Documents = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def documents() -> Documents:
    found: Documents = loads(gzip.decompress(FILE.read_bytes()))
    return found


@pytest.fixture(scope="module")
def world(worlds: Worlds, servers: Servers, documents: Documents) -> Iterator[World]:
    def fill(database: str) -> None:
        with pymongo.MongoClient[dict[str, Any]](servers.mongo_url) as mongo:
            for name, each in documents.items():
                mongo[database][name].insert_many(each)

    with worlds.alone(fill) as world:
        yield world


@pytest.fixture
def fleet(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Describe the services to the command line."""
    texts = {name: "x" for name in Fleet.__struct_fields__ if name != "processes"}
    servers = world.servers
    told = {
        "gateway_url": world.url,
        "public_url": servers.public_url,
        "mongo_url": servers.mongo_url,
        "mongo_database": world.database,
    }
    nats = {"nats_url": servers.nats_url("objects"), "nats_username": "objects", "event_bus_url": ""}
    (tmp_path / "keys").symlink_to(servers.home / "keys")
    (tmp_path / "fleet.json").write_bytes(msgspec.json.encode({**texts, **told, **nats, "processes": []}))
    monkeypatch.setenv("AIDEVOS_HOME", str(tmp_path))


def existing(documents: Documents) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the type and document of each object that exists."""
    for name, each in documents.items():
        family, _, type = name.partition("_")
        for document in each if family == "obj" else ():
            if document.get("deleted") is None:
                yield type, document


def test_the_fixture_has_objects_of_most_types(documents: Documents) -> None:
    types = {type for type, _ in existing(documents)}
    assert {"auth", "user", "session", "api_key", "item", "collection", "project", "task", "counter"} <= types
    assert len(types) >= 20


@pytest.fixture(scope="module")
def versions(world: World, documents: Documents) -> dict[tuple[str, str], int]:
    """Return the version of each object as today's services read it, before any command."""
    return asyncio.run(read_versions(world, documents))


async def read_versions(world: World, documents: Documents) -> dict[tuple[str, str], int]:
    found = {}
    async with client(world.servers) as (caller, _):
        for type, document in existing(documents):
            try:
                read = await caller.call(type, document["_id"], "_read")
            except Failure:
                # One with an alarm may have ended by itself since.
                assert document.get("alarm_at") is not None, (type, document["_id"])
            else:
                found[type, document["_id"]] = read["version"]
    return found


@pytest.mark.timeout(240)
def test_every_object_is_read_as_it_was(documents: Documents, versions: dict[tuple[str, str], int]) -> None:
    for type, document in existing(documents):
        if document.get("alarm_at") is None:
            assert versions[type, document["_id"]] >= document["version"], (type, document["_id"])


@pytest.mark.timeout(240)
async def test_commands_run_on_what_the_last_version_has_written(
    world: World, versions: dict[tuple[str, str], int]
) -> None:
    async with http_client(base_url=world.url, timeout=20) as http:
        known = {"username": "ada", "password": PASSWORD}
        token = (await http.post("/auth/login", json=known)).json()["access_token"]
        ada = {"Authorization": f"Bearer {token}"}
        assert (await http.get("/auth/me", headers=ada)).json()["user"]["username"] == "ada"
        item = await http.put("/data/collections/books/b1", json={"data": {"isbn": 8}}, headers=ada)
        assert (item.status_code, item.json()["data"]) == (200, {"isbn": 8})
        assert len((await http.get("/data/collections/books/b1/history", headers=ada)).json()["items"]) == 3
        assert (await http.get("/projects", headers=ada)).json()["items"][0]["name"] == "p"
        await _repeat_and_go_on(http, world)


async def _repeat_and_go_on(http: httpx2.AsyncClient, world: World) -> None:
    admin = {"Authorization": world.admin}
    path, call = "/durable-objects/counter:clicks/request", {"method": "increment", "args": {"by": 3}}
    for key, count in (("another", 6), ("another", 6), ("third", 9)):
        answer = await http.post(path, json=call, headers=admin | {"Idempotency-Key": key})
        assert answer.json() == {"result": count}
    created = await http.post("/durable-objects", json={"type": "counter", "name": "gone"}, headers=admin)
    assert (created.status_code, created.json()["version"]) == (201, 3)


def test_all_states_fit_today_s_types_and_a_state_that_doesn_t_is_reported(
    world: World, fleet: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["objects", "migrate", "--dry-run", "--json"]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    found = {each["type"]: each for each in json.loads(output.out)}
    assert found["auth"]["objects"] >= 2
    assert all(each["failing"] == each["newer"] == 0 for each in found.values()), found

    with pymongo.MongoClient[dict[str, Any]](world.servers.mongo_url) as mongo:
        counters = mongo[world.database]["obj_counter"]
        wrong = {"_id": "wrong", "owner": "x", "by": "x", "created_at": 1, "state": {"value": "many"}, "schema": 1}
        counters.insert_one(wrong)
        try:
            assert main(["objects", "migrate", "--dry-run", "counter"]) == 3
            assert "counter:wrong: schema 1: value: Expected `int`, got `str`" in capsys.readouterr().out
        finally:
            counters.delete_one({"_id": "wrong"})


def test_wrong_types_are_refused_in_one_line(fleet: None, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in ((["nothing"], "no service has a type"), (["nowhere:Cart"], "no module nowhere")):
        assert main(["objects", "migrate", "--dry-run", *arguments]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
