"""Traces of a whole fleet, as a collector gets them."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import nats
import pytest
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout

from aidevos.contracts import subjects
from aidevos.contracts.envelope import TRACEPARENT
from tests.support.collector import CollectedSpan, Collector, edges_of
from tests.support.people import made, register
from tests.support.receiver import Receiver
from tests.support.tasks import project_of, queue
from tests.support.world import EntryPoint, NatsEntryPoint, World, Worlds, start

SETTINGS = {"AIDEVOS_SLOW_TURN": "0.3", "AIDEVOS_TASK_POLL": "1", "AIDEVOS_SERVICE_PERMISSIONS": "counter:write"}
CALLER = "b7ad6b7169203331"
NOT_SAMPLED = {"OTEL_TRACES_SAMPLER": "parentbased_always_off"}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def world(worlds: Worlds, collector: Collector) -> Iterator[World]:
    """Run a fleet that samples no trace of its own, and a host of probes."""
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        **NOT_SAMPLED,
        **SETTINGS,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        with worlds.alone() as world:
            host = start(world.servers, "tests.support.traced_objects", "objects", world.database)
            # The fixture may run beside an event loop.
            with ThreadPoolExecutor(1) as thread:
                thread.submit(asyncio.run, served(world)).result()
            yield world
            host.terminate()
            host.wait(20)


async def served(world: World) -> None:
    """Return once the host of probes answers."""
    connection = await nats.connect(world.servers.nats_url("client"))
    headers = {"Authorization": world.admin}
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(NoRespondersError, NatsTimeout):
                await connection.request(subjects.call("probe", "p", "steps"), headers=headers, timeout=1)
                break
            await asyncio.sleep(0.05)
    await connection.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
def trace_id() -> str:
    return secrets.token_hex(16)


def sampled(trace_id: str) -> dict[str, str]:
    """Return the header of a caller that records its trace."""
    return {TRACEPARENT: f"00-{trace_id}-{CALLER}-01"}


def the(spans: list[CollectedSpan], name: str) -> CollectedSpan:
    (found,) = [span for span in spans if span.name == name]
    return found


async def test_one_trace_leads_from_a_request_to_everything_that_it_causes(
    world: World, door: EntryPoint, collector: Collector, trace_id: str, new_id: str
) -> None:
    await door.call("probe", new_id, "work", authorization=world.admin, headers=sampled(trace_id))

    spans = await collector.until(
        trace_id,
        ("probe.work", "mailbox probe.work"),
        ("probe.work", "turn probe.work"),
        ("probe.work", "commit probe"),
        ("commit probe", "bulkWrite obj_probe"),
        ("turn probe.work", "call counter.increment"),
        ("call counter.increment", "counter.increment"),
        ("counter.increment", "turn counter.increment"),
        ("turn probe.work", "publish event.probe.worked"),
        ("turn probe.work", "process event.probe.worked"),
        ("process event.probe.worked", "call probe.react"),
        ("call probe.react", "probe.react"),
        ("turn probe.work", "tell probe.note"),
        ("tell probe.note", "probe.note"),
        ("turn probe.work", "probe._alarm"),
    )
    above = "POST /durable-objects/{object_id}/request" if door.name == "http" else ""
    if door.name == "http":
        assert ("", above) in edges_of(spans)
        assert the(spans, above).parent_id == CALLER
        assert (above, "call probe.work") in edges_of(spans)
    else:
        assert the(spans, "probe.work").parent_id == CALLER
    assert not any(new_id in span.name for span in spans)
    assert the(spans, "call counter.increment").kind == "client"
    assert the(spans, "counter.increment").kind == "server"
    assert the(spans, "publish event.probe.worked").kind == "producer"
    assert the(spans, "process event.probe.worked").kind == "consumer"
    assert the(spans, "probe.work").attributes["aidevos.object.id"] == new_id
    assert all(span.began <= span.ended for span in spans)


async def test_an_http_span_follows_the_semantic_conventions(
    world: World, http: httpx2.AsyncClient, collector: Collector, trace_id: str
) -> None:
    answer = await http.get(
        "/durable-objects/probe:no-such", headers=sampled(trace_id) | {"Authorization": world.admin}
    )

    spans = await collector.until(trace_id, ("", "GET /durable-objects/{object_id}"))
    span = the(spans, "GET /durable-objects/{object_id}")
    assert answer.status_code == 404
    assert span.attributes["http.request.method"] == "GET"
    assert span.attributes["http.response.status_code"] == 404
    assert span.attributes["http.route"] == "/durable-objects/{object_id}"
    assert span.attributes["url.path"] == "/durable-objects/probe:no-such"
    assert span.attributes["aidevos.request.id"] == answer.headers["x-request-id"]
    assert not span.failed


async def test_a_trace_leads_to_the_webhook_of_an_event_and_to_its_receiver(
    world: World, http: httpx2.AsyncClient, collector: Collector, receiver: Receiver, trace_id: str
) -> None:
    ada, collection = await register(http), f"c{secrets.token_hex(8)}"
    assert (await http.put(f"/data/collections/{collection}", headers=ada.headers, json={})).status_code == 201
    await made(http, "/webhooks", ada, url=receiver.url(), events=["item.*"])

    body = {"data": {"n": 1}}
    created = await http.post(f"/data/collections/{collection}", headers=ada.headers | sampled(trace_id), json=body)

    assert created.status_code == 201
    (delivered, *_) = await receiver.until(1)
    spans = await collector.until(
        trace_id,
        ("turn item.create", "process event.item.created"),
        ("process event.item.created", "call delivery.begin"),
        ("turn delivery.begin", "delivery._alarm"),
        ("turn delivery._alarm", "POST"),
    )
    assert delivered.headers[TRACEPARENT] == f"00-{trace_id}-{the(spans, 'POST').span_id}-01"


async def test_a_trace_leads_to_the_worker_of_a_task(
    world: World, http: httpx2.AsyncClient, collector: Collector, receiver: Receiver, trace_id: str
) -> None:
    ada = await register(http)
    project = await project_of(http, ada)
    traced = ada._replace(headers=ada.headers | sampled(trace_id))

    await queue(http, project, traced, "webhook", {"url": receiver.url("task")})

    (delivered, *_) = await receiver.until(1, "task")
    spans = await collector.until(
        trace_id,
        ("turn task.create", "task webhook"),
        ("task webhook", "POST"),
        ("task webhook", "call task.finish"),
        ("call task.finish", "task.finish"),
    )
    assert the(spans, "task webhook").service == "task_worker"
    assert delivered.headers[TRACEPARENT].startswith(f"00-{trace_id}-")


async def test_a_stored_tell_of_a_client_continues_its_trace(
    world: World, over_nats: NatsEntryPoint, collector: Collector, trace_id: str, new_id: str
) -> None:
    headers = {"Authorization": world.admin, **sampled(trace_id)}

    await over_nats.connection.jetstream().publish(f"tell.probe.{new_id}.note", b'{"step":"told"}', headers=headers)

    spans = await collector.until(trace_id, ("probe.note", "turn probe.note"))
    assert the(spans, "probe.note").parent_id == CALLER


async def test_of_traces_that_are_not_sampled_only_slow_and_failed_ones_are_recorded(
    world: World, http: httpx2.AsyncClient, collector: Collector, new_id: str
) -> None:
    quick, slow, failed = (secrets.token_hex(16) for _ in range(3))

    async def request(trace_id: str, method: str, **args: object) -> int:
        headers = {"Authorization": world.admin, TRACEPARENT: f"00-{trace_id}-{CALLER}-00"}
        body = {"method": method, "args": args}
        return (await http.post(f"/durable-objects/probe:{new_id}/request", headers=headers, json=body)).status_code

    assert await request(quick, "note", step="quick") == 200
    assert await request(slow, "wait", seconds=0.4) == 200
    assert await request(failed, "fail") == 500

    for trace_id, method in ((slow, "wait"), (failed, "fail")):
        spans = await collector.until(
            trace_id,
            ("", "POST /durable-objects/{object_id}/request"),
            ("POST /durable-objects/{object_id}/request", f"call probe.{method}"),
            (f"call probe.{method}", f"probe.{method}"),
            (f"probe.{method}", f"turn probe.{method}"),
        )
        assert the(spans, f"probe.{method}").failed == (method == "fail")
    assert the(collector.trace(failed), "probe.fail").attributes["error.type"] == "internal"
    assert collector.trace(quick) == []


async def test_a_hanging_or_failing_collector_delays_no_request(
    world: World, http: httpx2.AsyncClient, collector: Collector, new_id: str
) -> None:
    collector.hang.set()
    try:
        for _ in range(100):
            headers = {"Authorization": world.admin, **sampled(secrets.token_hex(16))}
            body = {"method": "note", "args": {"step": "x"}}
            async with asyncio.timeout(2.0):
                answer = await http.post(f"/durable-objects/probe:{new_id}/request", headers=headers, json=body)
            assert answer.status_code == 200
    finally:
        collector.hang.clear()
