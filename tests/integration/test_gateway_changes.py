"""Changes while the gateway runs (hosts, types, health, NATS itself), and the bounds from its settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from services.http_gateway import health
from tests.support.gateway_world import World, assert_problem, eventually, gateway_world
from tests.support.http import http_client
from tests.support.servers import Servers, free_port

REQUEST = "/durable-objects/counter:c/request"


@pytest.fixture
async def world(servers: Servers) -> AsyncIterator[World]:
    async with gateway_world(servers) as world:
        yield world


async def test_a_host_that_comes_back_within_the_deadline_answers_the_waiting_request(world: World) -> None:
    await world.host.stop_serving()
    waiting = asyncio.create_task(world.call("echo", {"a": 1}))
    assert_problem(await world.call("echo", headers={"Deadline": "300"}), 503, "unavailable")
    assert not waiting.done()

    await world.host.host("counter")

    assert (await waiting).json() == {"result": {"a": 1}}


async def test_more_requests_than_the_gateway_may_hold_are_refused_as_overload(servers: Servers) -> None:
    async with gateway_world(servers, max_type_pending=1) as world:
        waiting = asyncio.create_task(world.call("silence", headers={"Deadline": "800"}))
        await eventually(world.host.was_asked)

        assert_problem(await world.call("echo"), 503, "overloaded")
        assert (await waiting).status_code == 503


async def test_a_type_that_joins_is_callable_within_two_seconds(world: World) -> None:
    await world.host.host("newcomer")

    await eventually(lambda: world.answers("newcomer:x"))


class TestHealth:
    @pytest.fixture(autouse=True)
    def fresh(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the gateway ask the services for every request."""
        monkeypatch.setattr(health, "FRESH_FOR", -1.0)

    async def test_it_is_ready_when_every_service_is(self, world: World) -> None:
        assert (await world.anonymous.get("/health/ready")).json() == {"ok": True}

    async def test_it_is_not_ready_when_a_service_says_that_it_is_unwell(self, world: World) -> None:
        world.host.healthy = False

        answer = await world.anonymous.get("/health/ready")

        problem = assert_problem(answer, 503, "unavailable")
        assert "objects: no MongoDB" in problem["detail"]
        assert answer.headers["retry-after"] == "1"

    async def test_it_passes_on_what_a_service_says_of_its_parts(self, world: World) -> None:
        told = {"part": "MongoDB", "detail": "no answer", "since": "2027-01-15T08:00:00.000Z", "status": "fail"}
        world.host.problems = [told, told | {"part": "event bus", "status": "warn"}]
        failing = assert_problem(await world.anonymous.get("/health/ready"), 503, "unavailable")
        world.host.problems = world.host.problems[1:]
        warned = await world.anonymous.get("/health/ready")

        of_objects = {"service": "objects"}
        assert failing["extra"]["services"] == {"objects": "no answer"}
        assert failing["extra"]["problems"][0] == told | of_objects
        assert warned.status_code == 200
        assert warned.json() == {"ok": True, "problems": [world.host.problems[0] | of_objects]}

    async def test_it_is_not_ready_when_a_service_is_gone_but_lives(self, world: World) -> None:
        await world.host.stop_serving()

        problem = assert_problem(await world.anonymous.get("/health/ready"), 503, "unavailable")

        assert "objects: no reply" in problem["detail"]
        assert problem["extra"]["services"] == {"objects": "no reply"}
        (since,) = {each["since"] for each in problem["extra"]["problems"]}
        again = (await world.anonymous.get("/health/ready")).json()
        assert {each["since"] for each in again["extra"]["problems"]} == {since}
        assert (await world.anonymous.get("/health/live")).status_code == 200

    async def test_a_gateway_is_ready_itself_while_it_is_connected_whatever_services_are_well(
        self, servers: Servers
    ) -> None:
        port = free_port()

        async def answers(status: int) -> bool:
            return (await probes.get("/health/ready")).status_code == status

        async with (
            gateway_world(servers, probe_port=port) as world,
            http_client(base_url=f"http://127.0.0.1:{port}") as probes,
        ):
            await world.host.stop_serving()
            ready = await answers(200)
            servers.nats.stop()
            await eventually(lambda: answers(503), 15)
            live = await probes.get("/health/live")
            servers.nats.start()
            await eventually(lambda: answers(200), 15)

        assert ready
        assert live.status_code == 200

    async def test_after_a_restart_of_nats_it_is_ready_again_and_knows_the_types(
        self, world: World, servers: Servers
    ) -> None:
        servers.nats.kill()
        assert_problem(await world.anonymous.get("/health/ready"), 503, "unavailable")
        assert_problem(await world.call("echo", headers={"Deadline": "300"}), 503, "unavailable")

        servers.nats.start()

        async def ready() -> bool:
            return (await world.anonymous.get("/health/ready")).status_code == 200

        await eventually(ready, seconds=10)
        await eventually(lambda: world.answers("counter:c"), seconds=10)
        await world.host.host("afterwards")
        await eventually(lambda: world.answers("afterwards:x"), seconds=5)


class TestDescription:
    async def test_a_type_that_joins_and_one_that_leaves_show_within_a_second(self, world: World) -> None:
        before = (await world.anonymous.get("/openapi.json")).headers["etag"]

        async def known() -> bool:
            return "newcomer.increment.args" in (await world.anonymous.get("/openapi.json")).text

        await world.host.host("newcomer")
        await eventually(known, seconds=1)
        assert (await world.anonymous.get("/openapi.json")).headers["etag"] != before

        async def unknown() -> bool:
            return not await known()

        await world.host.leave()
        await eventually(unknown, seconds=1)

    async def test_an_announcement_that_is_none_is_passed_over(self, world: World) -> None:
        bucket = await world.host.connection.jetstream().key_value("types")
        await bucket.put("broken", b"{")
        await bucket.put("other_name", b'{"type": "counter"}')
        await world.host.host("newcomer")

        await eventually(lambda: world.answers("newcomer:x"))
        assert "broken" not in (await world.anonymous.get("/openapi.json")).text


class TestSizes:
    LIMIT = 64 * 1024

    @pytest.fixture
    async def small(self, servers: Servers) -> AsyncIterator[World]:
        async with gateway_world(servers, max_body=self.LIMIT) as world:
            yield world

    def body(self, size: int) -> bytes:
        frame = b'{"method":"echo","args":{"a":""}}'
        return frame.replace(b'""', b'"' + b"x" * (size - len(frame)) + b'"')

    async def test_a_body_of_exactly_the_limit_passes(self, small: World) -> None:
        answer = await small.http.post(REQUEST, content=self.body(self.LIMIT))

        assert answer.status_code == 200

    @pytest.mark.parametrize("chunked", [False, True])
    async def test_one_byte_more_is_413(self, small: World, chunked: bool) -> None:
        body = self.body(self.LIMIT + 1)

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(body), 1000):
                yield body[start : start + 1000]

        answer = await small.http.post(REQUEST, content=chunks() if chunked else body)

        assert_problem(answer, 413, "too-large", "body")
        assert not small.host.seen

    async def test_a_declared_excess_is_refused_before_it_is_sent(self, small: World) -> None:
        head = (
            "POST /durable-objects/counter:c/request HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: {small.http.headers['Authorization']}\r\nContent-Length: 99999999999999999999\r\n\r\n"
        )

        answer = await small.raw(head.encode())

        assert answer.startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))
        assert b"application/problem+json" in answer

    async def test_an_endless_chunked_body_is_cut_off(self, small: World) -> None:
        head = (
            "POST /durable-objects/counter:c/request HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: {small.http.headers['Authorization']}\r\nTransfer-Encoding: chunked\r\n\r\n"
        )

        chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"

        answer = await small.raw(head.encode() + 3 * chunk)

        assert answer.startswith(b"HTTP/1.1 413")

    async def test_the_largest_body_that_settings_allow_by_default_passes(self, servers: Servers) -> None:
        body = self.body(8 * 1024 * 1024)

        async with gateway_world(servers, default_deadline=25.0, attempt_timeout=20.0) as patient:
            answer = await patient.http.post(REQUEST, content=body)

        assert answer.status_code == 200
        assert msgspec.json.decode(answer.content)["result"]["a"].startswith("xxx")
