"""The metrics of a whole fleet: found as Prometheus finds them, valid, and without any ID in a label."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import httpx2
from prometheus_client.samples import Sample

from aidevos.observability.exposition import OPENMETRICS
from aidevos.process.targets import FOLDER, remove_stale
from tests.support.host_processes import eventually
from tests.support.metrics import parse
from tests.support.people import Person, made
from tests.support.receiver import Receiver
from tests.support.sse import Source
from tests.support.tasks import done, project_of
from tests.support.world import SERVICES, NatsEntryPoint, World

Register = Callable[[], Awaitable[Person]]
ACCEPT = {"accept": OPENMETRICS}
# New IDs: UUIDs without dashes, and hashes.
_is_id = re.compile(r"[0-9a-f]{16,}").search


class Scrape:
    """The samples of all processes that list themselves under the home."""

    def __init__(self, samples: list[Sample], services: set[str]) -> None:
        self.samples = samples
        self.services = services

    def total(self, name: str, **labels: str) -> float:
        return sum(each.value for each in self.samples if each.name == name and labels.items() <= each.labels.items())


async def scrape(world: World) -> Scrape:
    remove_stale(world.servers.home)
    samples, services = [], set()
    async with httpx2.AsyncClient(timeout=20) as http:
        for path in (world.servers.home / FOLDER).glob("*.json"):
            (target,) = json.loads(path.read_bytes())
            answer = await http.get(f"http://{target['targets'][0]}/metrics", headers=ACCEPT)
            samples += [each._replace(labels=target["labels"] | each.labels) for each in parse(answer.text)]
            services.add(target["labels"]["service"])
    return Scrape(samples, services)


async def use_everything(
    http: httpx2.AsyncClient, world: World, over_nats: NatsEntryPoint, ada: Person, receiver: Receiver
) -> list[str]:
    """Use each service as a user does, and return the IDs that came up."""
    counter, collection, key = (f"x{secrets.token_hex(8)}" for _ in range(3))
    wrong = await http.post("/auth/login", json={"username": ada.name, "password": "wrong" * 4})
    assert wrong.status_code == 401
    hook = await made(http, "/webhooks", ada, url=receiver.url("metrics"), events=["item.created"])
    await asyncio.sleep(1.0)  # Changes of webhooks take effect within a second.
    for _ in range(3):
        await over_nats.call("counter", counter, "increment", authorization=world.admin)
    item = await made(http, f"/data/collections/{collection}", ada, data={"n": 1}, id=key)
    await receiver.until(1, "metrics")
    project = await project_of(http, ada)
    task = await done(http, project, ada, "webhook", {"url": receiver.url("task"), "data": {}})
    assert (await http.get("/durable-objects", headers={"Authorization": world.admin})).status_code == 200
    return [counter, collection, key, item["id"], hook["id"], project, task["id"], ada.id, ada.name]


async def test_a_whole_fleet_is_found_and_counts_what_its_users_do(
    http: httpx2.AsyncClient, world: World, over_nats: NatsEntryPoint, person: Register
) -> None:
    before = await scrape(world)
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(Receiver())
        ada = await person()
        used = await use_everything(http, world, over_nats, ada, receiver)
        reader = await Source(http, ada.headers).opened()
        stack.push_async_callback(reader.close)
        after = await scrape(world)

    def grown(name: str, **labels: str) -> float:
        return after.total(name, **labels) - before.total(name, **labels)

    assert after.services == set(SERVICES)
    assert grown("aidevos_turn_seconds_count", type="counter", method="increment", outcome="ok", service="objects") == 3
    assert grown("aidevos_logins_total", outcome="ok") >= 1
    assert grown("aidevos_logins_total", outcome="wrong") == 1
    assert grown("aidevos_webhook_deliveries_total", outcome="delivered") >= 1
    assert grown("aidevos_webhook_seconds_count") >= 1
    assert grown("aidevos_task_seconds_count", task="webhook", outcome="done") == 1
    assert grown("aidevos_events_total", outcome="published", service="data_storage") >= 1
    assert grown("aidevos_tells_total", outcome="done") >= 1
    assert grown("aidevos_http_requests_total", route="/webhooks", status="201") == 1
    assert grown("aidevos_sse_readers") == 1
    assert grown("aidevos_partitions_owned") == 0
    assert after.total("aidevos_partitions_owned", type="counter") == 64
    assert 0 < after.total("aidevos_lease_age_seconds", service="objects") < 3
    assert after.total("aidevos_loop_lag_seconds_count", service="http_gateway") > 0
    assert [each.name for each in after.samples if each.name == "aidevos_tasks_queued"] == ["aidevos_tasks_queued"]
    values = {value for each in after.samples for value in each.labels.values()}
    assert not [value for value in values if any(id in value for id in used) or _is_id(value)]


async def test_the_gateway_shows_the_whole_fleet_to_operators_only(http: httpx2.AsyncClient, world: World) -> None:
    headers = {"Authorization": world.token("fleet:read"), **ACCEPT}

    refused = await http.get("/metrics?fleet=true", headers={"Authorization": world.token("users:read")})

    async def is_whole() -> bool:
        """True once every process has answered in time, and the leases of those before them are over."""
        shown = await http.get("/metrics?fleet=true", headers=headers)
        assert shown.status_code == 200
        samples = parse(shown.text)
        counts = {each.name: each.value for each in samples}
        processes = {each.labels["service"] for each in samples if each.name == "aidevos_process_info"}
        assert processes <= set(SERVICES)
        found = (counts["aidevos_fleet_processes"], counts["aidevos_fleet_silent_hosts"], len(processes))
        return found == (len(SERVICES), 0, len(SERVICES))

    assert refused.status_code == 403
    await eventually(is_whole)
