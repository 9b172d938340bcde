"""Backups of a fleet under load, as its operator makes them, and what another fleet makes of them."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import stat
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import bson
import httpx2
import pymongo
import pytest

from aidevos.backup.home_keys import KEYS
from aidevos.backup.manifest import split_collection
from aidevos.backup.restoring import read_part
from tests.support import copies
from tests.support.fleet_load import log_in
from tests.support.http import http_client
from tests.support.local_fleet import LocalFleet

pytestmark = pytest.mark.timeout(400)
ACCOUNTS, DEPOSIT = 20, 1000
OPTIONS = bson.CodecOptions[dict[str, Any]](tz_aware=True)
# What no claim and no housekeeping changes.
SAME = ("state", "version", "schema", "project", "made_at", "updated_at", "deleted", "alarms", "outbox_last")
LOADED = {"created": 0, "replaced": 0, "skipped": 0, "failed": 0, "failures": []}
PASSPHRASE = {"AIDEVOS_BACKUP_PASSPHRASE": "correct horse battery staple"}


class Saved(NamedTuple):
    """A fleet with users and objects, the copy that was made of it under load, and what was true then."""

    fleet: LocalFleet
    place: Path
    summary: dict[str, Any]
    refresh_token: str
    api_key: str
    acknowledged: Counter[str]


def aidevos(fleet: LocalFleet, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return fleet.aidevos(*arguments, seconds=200, **{**PASSPHRASE, **variables})


def documents(fleet: LocalFleet) -> dict[str, dict[str, Any]]:
    """Return the documents of all objects, by type and ID."""
    told, found = fleet.read(), {}
    with pymongo.MongoClient[dict[str, Any]](told["mongo_url"], tz_aware=True) as client:
        database = client[told["mongo_database"]]
        for name in database.list_collection_names():
            family, type = split_collection(name) or ("", "")
            if family == "obj":
                found |= {f"{type}:{each['_id']}": each for each in database[name].find({})}
    return found


@asynccontextmanager
async def calls(fleet: LocalFleet) -> AsyncIterator[httpx2.AsyncClient]:
    token = await log_in(fleet)
    url = fleet.read()["gateway_url"]
    async with http_client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30) as http:
        yield http


async def call(http: httpx2.AsyncClient, object_id: str, method: str, **args: Any) -> Any:
    answer = await http.post(f"/durable-objects/{object_id}/request", json={"method": method, "args": args})
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


async def transfer_and_count(http: httpx2.AsyncClient, stop: asyncio.Event, counted: Counter[str]) -> None:
    """Move money between accounts and increment counters until told to stop; note what was acknowledged."""
    pick = random.Random(7)
    while not stop.is_set():
        payer, payee = pick.sample(range(ACCOUNTS), 2)
        await call(http, f"account:a{payer}", "transfer", to=f"a{payee}", amount=pick.randint(1, 20))
        counter = f"counter:c{payer}"
        await call(http, counter, "increment")
        counted[counter] += 1


async def fill(http: httpx2.AsyncClient) -> tuple[str, str]:
    """Create a user, an API key, items and accounts. Return the user's refresh token and API key."""
    for number in range(ACCOUNTS):
        await call(http, f"account:a{number}", "deposit", amount=DEPOSIT)
    bob = {"username": "bob", "email": "bob@example.org", "password": "a long password of bob"}
    await made(http.post("/auth/register", json=bob))
    login = (await http.post("/auth/login", json={name: bob[name] for name in ("username", "password")})).json()
    as_bob = {"Authorization": f"Bearer {login['access_token']}"}
    key = await made(http.post("/api-keys", json={"name": "k", "scopes": ["profile:self"]}, headers=as_bob))
    for number in range(20):
        body = {"id": f"n{number}", "data": {"text": f"note {number}", "$set": {"a.b": [None, 1.0]}}}
        await made(http.post("/data/collections/notes", json=body))
    return login["refresh_token"], key["key"]


async def made(request: Awaitable[httpx2.Response]) -> Any:
    answer = await request
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Saved]:
    fleet, place = LocalFleet(), tmp_path_factory.mktemp("copies") / "copy"
    try:
        fleet.up()
        yield asyncio.run(save_under_load(fleet, place))
    finally:
        fleet.close()


async def save_under_load(fleet: LocalFleet, place: Path) -> Saved:
    async with calls(fleet) as http:
        refresh_token, api_key = await fill(http)
        stop, counted = asyncio.Event(), Counter[str]()
        async with asyncio.TaskGroup() as clients:
            for _ in range(4):
                clients.create_task(transfer_and_count(http, stop, counted))
            await until(lambda: counted.total() >= 20)
            acknowledged = counted.copy()
            made = await asyncio.to_thread(aidevos, fleet, "backup", str(place), "--json")
            during = counted.total() - acknowledged.total()
            stop.set()
    assert made.returncode == 0, made.stderr
    assert during > 20
    return Saved(fleet, place, json.loads(made.stdout), refresh_token, api_key, acknowledged)


class Restored(NamedTuple):
    """A fleet that was restored from the copy, the outcome, and its objects before any test used them."""

    fleet: LocalFleet
    summary: dict[str, Any]
    objects: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def restored(saved: Saved) -> Iterator[Restored]:
    fleet = LocalFleet()
    try:
        fleet.up()
        done = aidevos(fleet, "restore", str(saved.place), "--json")
        assert done.returncode == 0, done.stderr
        yield Restored(fleet, json.loads(done.stdout), documents(fleet))
    finally:
        fleet.close()


def ledger(found: dict[str, dict[str, Any]]) -> int:
    """Return the sum of all money: what accounts hold, and what has left one and not arrived."""
    states = accounts(found)
    under_way = [
        outgoing["amount"]
        for state in states.values()
        for transfer, outgoing in state["outgoing"].items()
        if transfer not in states[outgoing["to"]]["received"]
    ]
    return sum(state["balance"] for state in states.values()) + sum(under_way)


def accounts(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the states of all accounts by their IDs."""
    return {id.partition(":")[2]: each["state"] for id, each in found.items() if id.startswith("account:")}


async def until(condition: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.02)


def test_a_copy_under_load_has_every_object_as_it_was_at_one_moment(saved: Saved, restored: Restored) -> None:
    copied: dict[str, Any] = {}
    storage, key, manifest = copies.load_copy(saved.place, copies.unlock(PASSPHRASE["AIDEVOS_BACKUP_PASSPHRASE"]))
    for index, part in enumerate(manifest.parts):
        family, type = split_collection(part.collection) or ("", "")
        if family == "obj":
            read_part(
                storage, key, manifest, index, lambda each, type=type: copied.update({f"{type}:{each['_id']}": each})
            )
    copied = {id: bson.decode(each.raw, OPTIONS) for id, each in copied.items()}
    now = restored.objects

    assert ledger(copied) == ACCOUNTS * DEPOSIT
    for counter, acknowledged in saved.acknowledged.items():
        assert copied[counter]["state"]["value"] >= acknowledged
    assert restored.summary["objects"] == saved.summary["objects"] == len(copied)
    for id, each in copied.items():
        # Accounts go on with what was on its way.
        if not (each.get("outbox") or id.startswith("account:")):
            same = {name: now[id].get(name) for name in SAME}
            assert same == {name: each.get(name) for name in SAME}, id


async def test_the_restored_fleet_goes_on_where_the_other_one_was(saved: Saved, restored: Restored) -> None:
    fleet = restored.fleet

    assert fleet.read()["admin_password"] == saved.fleet.read()["admin_password"]
    async with calls(fleet) as http:
        await until(lambda: not any(each["outgoing"] for each in accounts(documents(fleet)).values()))
        assert await total(http) == ACCOUNTS * DEPOSIT
        before = {counter: await call(http, counter, "value") for counter in saved.acknowledged}
        for counter in before:
            assert await call(http, counter, "increment") == before[counter] + 1
        assert (await http.get("/data/collections/notes/n3")).json()["data"]["$set"] == {"a.b": [None, 1.0]}
        renewed = await http.post("/auth/refresh", json={"refresh_token": saved.refresh_token})
        assert renewed.status_code == 200, renewed.text
        me = await http.get("/users/me", headers={"Authorization": f"ApiKey {saved.api_key}"})
        assert me.json()["username"] == "bob"


def test_a_fleet_in_use_is_not_restored_over(saved: Saved, restored: Restored) -> None:
    refused = aidevos(restored.fleet, "restore", str(saved.place))

    assert refused.returncode == 1
    assert "is in use (it has objects of the type" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "status", "message"),
    [
        (["backup", "/proc/nowhere/copy"], {}, 1, "/proc/nowhere/copy"),
        (["backup", "ftp://host/copy"], {}, 1, "must be a folder, or a URL"),
        (["backup", "{copy}", "--recipient", "bob"], {}, 1, "must be like age1"),
        (["backup", "{copy}"], {"AIDEVOS_BACKUP_PASSPHRASE": ""}, 2, "set AIDEVOS_BACKUP_PASSPHRASE"),
        (["restore", "/nowhere"], {}, 1, "there is no folder"),
        (["restore", "/nowhere"], {"AIDEVOS_HOME": "/nowhere"}, 1, "there is no folder"),
        (["backup", "{copy}"], {"AIDEVOS_HOME": "/nowhere"}, 2, "no fleet is up"),
    ],
)
def test_a_mistake_is_said_in_one_line(
    saved: Saved, tmp_path: Path, arguments: list[str], variables: dict[str, str], status: int, message: str
) -> None:
    command, place, *options = arguments
    refused = aidevos(saved.fleet, command, place.replace("{copy}", str(tmp_path / "copy")), *options, **variables)

    assert (refused.returncode, refused.stderr.count("\n")) == (status, 1), refused.stderr
    assert message in refused.stderr


def test_every_key_of_a_home_is_known_to_backups(saved: Saved) -> None:
    assert {file.name for file in (saved.fleet.home / "keys").iterdir()} - {"lock"} == set(KEYS)


async def total(http: httpx2.AsyncClient) -> int:
    return sum([(await call(http, f"account:a{number}", "balance"))["balance"] for number in range(ACCOUNTS)])


async def test_a_single_object_comes_back_while_its_owner_lives_and_serves(saved: Saved) -> None:
    fleet, (counter, other, *_) = saved.fleet, sorted(saved.acknowledged)
    async with calls(fleet) as http:
        then = await copied_value(saved, counter)
        for _ in range(3):
            later = await call(http, counter, "increment")
        others = await call(http, other, "increment")
        version = documents(fleet)[counter]["version"]

        done = aidevos(fleet, "restore", str(saved.place), "--object", counter, "--json")

        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) | {"failures": []} == {**LOADED, "replaced": 1}
        assert later > then == await call(http, counter, "value")
        assert await call(http, counter, "increment") == then + 1
        assert await call(http, other, "value") == others
        assert documents(fleet)[counter]["version"] > version


async def test_a_paused_owner_overwrites_no_restored_object(saved: Saved) -> None:
    fleet, counter = saved.fleet, min(saved.acknowledged)
    scaled = aidevos(fleet, "scale", "objects", "2")
    assert scaled.returncode == 0, scaled.stderr
    async with calls(fleet) as http:
        then = await copied_value(saved, counter)
        for _ in range(3):
            await call(http, counter, "increment")
        owner = documents(fleet)[counter]["owner"]
        paused = next(
            pid for (name, replica), pid in fleet.replicas().items() if owner.startswith(f"{name}-{replica}_")
        )
        os.kill(paused, signal.SIGSTOP)
        try:
            done = await asyncio.to_thread(aidevos, fleet, "restore", str(saved.place), "--object", counter)
            assert done.returncode == 0, done.stderr
            assert await call(http, counter, "value") == then
        finally:
            os.kill(paused, signal.SIGCONT)

        values = [await call(http, counter, "increment") for _ in range(20)]

        assert values == list(range(then + 1, then + 21))
        assert not documents(fleet)[counter]["owner"].startswith(owner)


async def test_exported_objects_are_imported_again_line_by_line(saved: Saved, tmp_path: Path) -> None:
    fleet, file = saved.fleet, tmp_path / "accounts.ndjson"
    exported = aidevos(fleet, "objects", "export", "account", "--output", str(file))
    assert exported.returncode == 0, exported.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert {line["id"] for line in lines} == {f"a{number}" for number in range(ACCOUNTS)}
    copies_of = [{**line, "id": f"copy-{line['id']}"} for line in lines]
    bad = [{**lines[0], "id": "wrong", "state": {"balance": "much"}}, {**lines[0], "type": "nosuch"}, {"id": "x"}]
    file.write_text("".join(json.dumps(line) + "\n" for line in [*copies_of, *bad]))

    tried = aidevos(fleet, "objects", "import", str(file), "--dry-run", "--json")
    assert not any(id.startswith("account:copy-") for id in documents(fleet))
    done = aidevos(fleet, "objects", "import", str(file), "--json")
    again = aidevos(fleet, "objects", "import", str(file), "--on-conflict", "skip", "--json")

    assert (tried.returncode, done.returncode, again.returncode) == (3, 3, 3)
    expected = {**LOADED, "created": ACCOUNTS, "failed": 3}
    assert json.loads(tried.stdout) | {"failures": []} == json.loads(done.stdout) | {"failures": []} == expected
    assert json.loads(again.stdout) | {"failures": []} == {**LOADED, "skipped": ACCOUNTS, "failed": 3}
    failures = sorted(json.loads(done.stdout)["failures"])
    assert [failure.partition(": ")[0] for failure in failures] == ["line 21", "line 22", "line 23"]
    assert "balance" in failures[0]
    assert "no such type" in failures[1]
    now = documents(fleet)
    for line in lines:
        assert now[f"account:copy-{line['id']}"]["state"] == line["state"]


async def copied_value(saved: Saved, counter: str) -> int:
    """Return the value of a counter in the copy."""
    found: list[int] = []
    storage, key, manifest = await asyncio.to_thread(
        copies.load_copy, saved.place, copies.unlock(PASSPHRASE["AIDEVOS_BACKUP_PASSPHRASE"])
    )

    def take(document: Any) -> None:
        if document["_id"] == counter.partition(":")[2]:
            found.append(document["state"]["value"])

    for index, part in enumerate(manifest.parts):
        if part.collection == "obj_counter":
            read_part(storage, key, manifest, index, take)
    (value,) = found
    return value
