"""The logs of a real fleet: one request's lines from all processes, and what is told when a process dies."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import nats
import pytest
from nats.js.errors import NotFoundError

from aidevos.contracts import subjects
from tests.support import shims
from tests.support.host_processes import eventually
from tests.support.http import http_client
from tests.support.local_fleet import LocalFleet

pytestmark = pytest.mark.xdist_group("fleet")
TOKEN = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
MODULE = f"""
import logging
from typing import Any
import msgspec
from aidevos import BaseDurableObject, authenticated, command

log = logging.getLogger(__name__)

class Sold(msgspec.Struct):
    count: int = 0

class Till(BaseDurableObject[Sold], type="till"):
    @command(allow=authenticated())
    async def sell(self) -> int:
        self.state.count += 1
        log.warning("sold with %s", "Bearer {TOKEN}", extra={{"card": {{"password": "hunter2"}}}})
        return self.state.count
"""


@pytest.fixture(scope="module")
def fleet(shared_fleet: LocalFleet) -> LocalFleet:
    return shared_fleet


@contextmanager
def serving(fleet: LocalFleet, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Serve the module with a log beside those of the fleet."""
    (folder / "tills.py").write_text(MODULE)
    command = [shims.python(), "-m", "aidevos.cli.main", "serve", "tills:Till"]
    with (fleet.home / "logs" / "tills.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=fleet.environment, stderr=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def token(fleet: LocalFleet, *options: str) -> str:
    return fleet.aidevos("token", *options).stdout.strip()


async def sell(fleet: LocalFleet) -> str:
    """Call the till, as soon as it is served, and return the request's ID in the logs."""
    request = f"reported-by-a-user-{secrets.token_hex(4)}"
    headers = {"Authorization": f"Bearer {token(fleet, '--role', 'admin')}", "X-Request-Id": request}

    async def sold() -> bool:
        answer = await http.post("/durable-objects/till:front/request", json={"method": "sell"}, headers=headers)
        return answer.status_code == 200

    async with http_client(base_url=fleet.read()["gateway_url"], timeout=20) as http:
        await eventually(sold, within=30)
    return request


async def deaths_of(fleet: LocalFleet, service: str) -> list[dict[str, Any]]:
    """Return the last event about a death of a service, if there is one."""
    password = json.loads((fleet.home / "secrets.json").read_bytes())["nats"]["fleet"]
    connection = await nats.connect(
        fleet.read()["nats_url"], user="fleet", password=password, allow_reconnect=False, connect_timeout=2
    )
    try:
        found = await connection.jetstream().get_last_msg(subjects.EVENTS_STREAM, f"event.fleet.{service}.process_died")
    except NotFoundError:
        return []
    finally:
        await connection.close()
    return [json.loads(found.data or b"")["data"]]


async def counted_deaths(fleet: LocalFleet, credential: str) -> dict[str, float]:
    """Return the number of deaths of each service, from the metrics of the whole fleet."""
    headers = {"Authorization": f"Bearer {credential}"}
    async with http_client(base_url=fleet.read()["gateway_url"], timeout=20) as http:
        try:
            shown = await http.get("/metrics?fleet=true", headers=headers)
        except httpx2.TransportError:
            return {}
    found: dict[str, float] = {}
    for line in shown.text.splitlines():
        if line.startswith("aidevos_process_deaths_total{"):
            labels, _, value = line.rpartition(" ")
            service = labels.rpartition('service="')[2].partition('"')[0]
            found[service] = found.get(service, 0.0) + float(value)
    return found


async def test_one_request_is_found_in_the_logs_of_all_processes_that_it_reached(
    fleet: LocalFleet, tmp_path: Path
) -> None:
    with serving(fleet, tmp_path):
        request = await sell(fleet)

    lines = fleet.logs("--grep", request)
    (access,) = [line for line in lines if line.get("status") == 200]
    (sold,) = [line for line in lines if line["logger"] == "tills"]
    common = {"request_id": request, "type": "till", "object": "till:front"}
    route = "/durable-objects/{object_id}/request"
    expected: dict[str, Any] = common | {"service": "http_gateway", "route": route, "principal": "user"}
    assert [name for name in expected if access.get(name) != expected[name]] == []
    expected = common | {"service": "tills", "replica": 1, "method": "sell", "card": {"password": "[secret]"}}
    assert [name for name in expected if sold.get(name) != expected[name]] == []
    assert sold["message"] == "sold with Bearer [secret]"


@pytest.mark.parametrize("name", ["objects", "nats", "http_gateway"])
async def test_a_process_that_was_killed_is_told_by_a_line_an_event_and_a_metric(fleet: LocalFleet, name: str) -> None:
    credential = token(fleet, "--permission", "fleet:read")
    before = fleet.pids()[name]
    os.kill(before, signal.SIGKILL)

    async def is_published() -> bool:
        try:
            return bool(await deaths_of(fleet, name))
        except (OSError, nats.errors.Error):
            return False

    async def is_counted() -> bool:
        return (await counted_deaths(fleet, credential)).get(name) == 1

    await eventually(is_published, within=60)
    await eventually(is_counted, within=60)
    (event,) = await deaths_of(fleet, name)
    assert (event["replica"], event["signal"], event["status"], event["deaths"]) == (0, "SIGKILL", None, 1)
    assert event["seconds"] > 0
    (line,) = fleet.logs("supervisor", "--level", "CRITICAL", "--grep", f"^{name} died")
    assert "killed by SIGKILL; deaths so far: 1" in line["message"]


async def test_a_user_s_process_reports_the_death_of_its_predecessor(fleet: LocalFleet, tmp_path: Path) -> None:
    with serving(fleet, tmp_path) as process:
        await sell(fleet)
        process.kill()
        process.wait()
    with serving(fleet, tmp_path):
        await eventually(lambda: _is_told(fleet), within=30)
    with serving(fleet, tmp_path):
        await sell(fleet)

    (line,) = fleet.logs("tills", "--level", "CRITICAL")
    assert line["message"] == "objects-1 died, it is unknown how; deaths so far: 1"


async def _is_told(fleet: LocalFleet) -> bool:
    return bool(fleet.logs("tills", "--level", "CRITICAL"))
