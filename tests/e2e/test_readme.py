"""What the README says is so: its tutorial runs as it stands, and its vectors hold."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import nats
import pytest

from aidevos import DurableObjectClient, id_from_name
from aidevos.contracts import envelope
from aidevos.security.keys import load_signing_key
from aidevos.security.tokens import TokenIssuer
from aidevos.testing import ObjectKit
from tests.support.host_processes import eventually
from tests.support.http import http_client
from tests.support.local_fleet import LocalFleet
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text()

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def fleet() -> Iterator[LocalFleet]:
    running = LocalFleet()
    try:
        yield running.up()
    finally:
        running.close()


@pytest.fixture
def serving(fleet: LocalFleet, tmp_path: Path) -> Iterator[float]:
    """The tutorial's objects, served as the README says; when that began."""
    commands = re.findall(r"(?:^|once `)aidevos (serve \S+?)(?:$|`)", README, re.MULTILINE)
    assert len(commands) == 2
    for name, mark in (("shop.py", "tutorial"), ("shelf.py", "reactions")):
        found = re.search(rf"<!-- {mark} -->\n```python\n(.*?)```", README, re.DOTALL)
        assert found
        assert len(found[1].splitlines()) < 30
        (tmp_path / name).write_text(found[1])
    environment = {**os.environ, "AIDEVOS_HOME": str(fleet.home), "PYTHONPATH": f"{ROOT / 'libs'}:{ROOT}"}
    began = time.monotonic()
    lines = [[sys.executable, "-m", "aidevos.cli.main", *command.split()] for command in commands]
    processes = [subprocess.Popen(line, cwd=tmp_path, env=environment) for line in lines]
    yield began
    for process in processes:
        process.terminate()
    assert [process.wait(20) for process in processes] == [0, 0]


async def test_the_tutorials_type_is_described_and_callable_through_both_doors(
    fleet: LocalFleet, serving: float
) -> None:
    told = fleet.read()
    token = "Bearer " + TokenIssuer(load_signing_key(fleet.home), told["public_url"]).issue("ada", roles=("admin",))
    async with http_client(base_url=told["gateway_url"], headers={"Authorization": token}) as client:

        async def described() -> bool:
            known = (await client.get("/openapi.json")).text
            return "cart" in known and "shelf" in known

        await eventually(described, within=20)
        added = await client.post(
            "/durable-objects/cart:ada/request", json={"method": "add", "args": {"sku": "tea"}}, timeout=5
        )
        took = time.monotonic() - serving
        refused = await client.post(
            "/durable-objects/cart:ada/request", json={"method": "add", "args": {"sku": "tea", "count": 0}}
        )

        async def taken() -> bool:
            answer = await client.post("/durable-objects/shelf:tea/request", json={"method": "taken"}, timeout=5)
            return bool(answer.json() == {"result": 1})

        await eventually(taken, within=10)
    connection = await nats.connect(told["nats_url"], user=told["nats_username"], password=told["nats_password"])
    reply = await connection.request("do.cart.ada.total", b"", timeout=5, headers={envelope.AUTHORIZATION: token})
    await connection.close()

    assert added.json() == {"result": 1}
    assert refused.status_code == 422
    assert msgspec.json.decode(reply.data) == 1
    assert took < 15


async def test_the_examples_of_data_do_what_the_readme_says(fleet: LocalFleet) -> None:
    told = fleet.read()
    shell, python = re.findall(r"<!-- data -->\n```\w+\n(.*?)```", README, re.DOTALL)
    token = TokenIssuer(load_signing_key(fleet.home), told["public_url"]).issue("ada", roles=("user",))
    headers = f"-H 'Authorization: Bearer {token}' -H 'Content-Type: application/json'"
    script = f'call() {{ curl -s {headers} "$@"; echo; }}\n' + shell.replace("localhost:8080", told["gateway_url"])
    running = await asyncio.create_subprocess_exec("bash", "-c", script, stdout=asyncio.subprocess.PIPE)
    made, shown, changed, found = map(msgspec.json.decode, (await running.communicate())[0].splitlines())
    connection = await nats.connect(told["nats_url"], user=told["nats_username"], password=told["nats_password"])
    client = DurableObjectClient(connection, lambda: f"Bearer {token}")
    await client.start()
    begin, *asked = python.splitlines()
    names = {"client": client, "id_from_name": id_from_name}
    exec(begin, names)
    patched, again = [await eval(line.removeprefix("await "), names) for line in asked]
    await connection.close()

    assert made == shown == found["items"][0]
    assert changed["rules"]["read"] == "public"
    assert patched["data"] == {"title": "SICP", "price": 35}
    assert again["items"] == [patched]


async def test_the_example_of_alarms_rings() -> None:
    found = re.search(r"<!-- alarms -->\n```python\n(.*?)```", README, re.DOTALL)
    assert found
    names: dict[str, Any] = {}
    exec(found[1], names)
    async with ObjectKit(names["Reminder"]) as kit:
        await kit.call("reminder", "ada", "remind", {"text": "tea", "after": 90})
        await kit.call("reminder", "ada", "nag", {"text": "stretch", "every": 60})
        await kit.advance(130)
        assert await kit.call("reminder", "ada", "be_quiet") is True
        await kit.advance(600)

        assert await kit.call("reminder", "ada", "said") == ["stretch", "tea", "stretch"]


async def test_the_example_of_resources_converts_with_a_client_of_the_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = re.search(r"<!-- resources -->\n```python\n(.*?)```", README, re.DOTALL)
    assert found
    (tmp_path / "price.py").write_text(found[1])
    monkeypatch.syspath_prepend(tmp_path)
    price = importlib.import_module("price")
    answer = httpx2.MockTransport(lambda request: httpx2.Response(200, json={"eur": 0.5}))
    rates = httpx2.AsyncClient(transport=answer, base_url="https://test")
    async with rates, ObjectKit(price.Price, rates=rates) as kit:
        assert await kit.call("price", "tea", "convert", {"dollars": 3}) == 1.5


def test_the_names_in_the_readme_have_the_ids_that_it_gives() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (`[^`]+`|one space) \| `([A-Za-z0-9_-]+)` \|$", README, re.MULTILINE)

    assert len(rows) == 4
    for type, name, id in rows:
        assert id_from_name(type, " " if name == "one space" else name.strip("`")) == id


def test_every_target_and_variable_that_the_readme_names_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    settings = (ROOT / "libs" / "aidevos" / "settings.py").read_text()

    for target in set(re.findall(r"`make ([a-z]+)`", README)):
        assert re.search(rf"^(\w+ )*{target}( \w+)*:", makefile, re.MULTILINE), target
    for variable in set(re.findall(r"AIDEVOS_([A-Z_]+)", README)):
        assert f"    {variable.lower()}:" in settings, variable


async def test_the_example_of_tasks_is_done_by_the_command_that_the_readme_names(
    fleet: LocalFleet, tmp_path: Path
) -> None:
    found = re.search(r"<!-- tasks -->\n```python\n(.*?)```", README, re.DOTALL)
    command = re.search(r"`aidevos (work \S+)`", README)
    assert found
    assert command
    (tmp_path / "reports.py").write_text(found[1])
    told = fleet.read()
    environment = {**os.environ, "AIDEVOS_HOME": str(fleet.home), "PYTHONPATH": f"{ROOT / 'libs'}:{ROOT}"}
    line = [sys.executable, "-m", "aidevos.cli.main", *command[1].split()]
    working = await asyncio.create_subprocess_exec(*line, cwd=tmp_path, env=environment)
    token = "Bearer " + TokenIssuer(load_signing_key(fleet.home), told["public_url"]).issue("ada", roles=("admin",))
    async with http_client(base_url=told["gateway_url"], headers={"Authorization": token}) as client:
        project = (await client.post("/projects", json={"name": "Engine"})).json()["id"]
        good = {"kind": "report", "payload": {"title": "May", "pages": 3}}
        bad = {"kind": "report", "payload": {"title": 5}}
        ids = [(await client.post(f"/projects/{project}/tasks", json=body)).json()["id"] for body in (good, bad)]
        shown: list[Any] = []

        async def ended() -> bool:
            shown[:] = [(await client.get(f"/tasks/{id}")).json() for id in ids]
            return all(task["status"] in ("succeeded", "failed") for task in shown)

        await eventually(ended, within=30)
    working.terminate()
    assert await asyncio.wait_for(working.wait(), 20) == 0
    assert shown[0]["result"] == {"text": "May, attempt 1 of 3"}
    assert (shown[1]["status"], shown[1]["error"]["code"], shown[1]["attempts"]) == ("failed", "invalid", 1)
