"""The gateway's HTTP: IDs, problems, methods, credentials, health, the description, and invalid input."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx2
import msgspec
import pytest
import pytest_asyncio
from nats.aio.msg import Msg
from nats.js.errors import NoKeysError
from nats.js.kv import KeyValue
from openapi_spec_validator import OpenAPIV31SpecValidator

from aidevos.contracts import subjects
from aidevos.contracts.fleet import (
    FIGURES,
    BusyObject,
    FleetFigures,
    FleetHosts,
    HostInfo,
    MetricShare,
    ProcessFigures,
    ProcessMetrics,
)
from aidevos.observability.exposition import OPENMETRICS
from aidevos.security.keys import load_signing_key
from aidevos.security.tokens import TokenIssuer
from services.http_gateway.endpoints import operations
from services.http_gateway.http.protocol import HEAD_LIMIT
from services.http_gateway.live import figures as live_figures
from services.http_gateway.survey import SETTLED
from tests.support.gateway_world import World, assert_problem, eventually, gateway_world
from tests.support.metrics import parse
from tests.support.servers import Servers

OBJECT = "/durable-objects/counter:c"
REQUEST = f"{OBJECT}/request"
OPEN = ("/health/live", "/health/ready", "/openapi.json", "/docs")


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(servers: Servers) -> AsyncIterator[World]:
    async with gateway_world(servers) as world:
        yield world


@pytest.fixture
def world(shared: World) -> World:
    shared.host.reset()
    return shared


async def hosts_without_leases(world: World) -> KeyValue:
    """Return the bucket of leases without those that hosts of other tests have left."""
    leases = await world.host.connection.jetstream().key_value(subjects.HOSTS_BUCKET)
    with suppress(NoKeysError):
        for key in await leases.keys():
            await leases.delete(key)
    return leases


class TestRequestIds:
    @pytest.mark.parametrize("proposed", ["a", "req-1", "x" * 128, "with space"])
    async def test_a_fitting_one_is_echoed(self, world: World, proposed: str) -> None:
        answer = await world.http.get("/health/live", headers={"X-Request-Id": proposed})

        assert answer.headers["x-request-id"] == proposed

    @pytest.mark.parametrize("proposed", ["", "x" * 129, "caf\xe9", "a\tb"])
    async def test_any_other_is_replaced(self, world: World, proposed: str) -> None:
        headers = httpx2.Headers({"X-Request-Id": proposed}, encoding="latin-1")

        answer = await world.http.get("/health/live", headers=headers)

        assert answer.headers["x-request-id"] not in (proposed, "")

    async def test_two_requests_get_two(self, world: World) -> None:
        answers = [await world.http.get(path) for path in ("/health/live", "/nowhere")]

        assert len({answer.headers["x-request-id"] for answer in answers}) == 2

    async def test_it_finds_the_log_line_of_a_failure(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)

        await world.http.get("/nowhere", headers={"X-Request-Id": "find-me"})

        assert "find-me" in [getattr(record, "request_id", "") for record in caplog.records]


class TestPathsAndMethods:
    @pytest.mark.parametrize(
        "path",
        [
            "/nowhere",
            "/durable-objects/",
            f"{OBJECT}/",
            f"{REQUEST}/",
            "/docs/",
            "/%00",
            "/%ff",
            "//",
            "/durable-objects//request",
        ],
    )
    async def test_an_unknown_path_is_404_and_a_trailing_slash_no_redirect(self, world: World, path: str) -> None:
        assert_problem(await world.http.get(world.url + path), 404, "not-found")

    @pytest.mark.parametrize("path", ["/data/collections/", "/durable-objects/", f"{OBJECT}/"])
    async def test_the_refusal_of_a_trailing_slash_says_so(self, world: World, path: str) -> None:
        assert "without the slash" in (await world.http.get(world.url + path)).json()["detail"]

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("DELETE", "/durable-objects", "GET, HEAD, POST"),
            ("PATCH", OBJECT, "DELETE, GET, HEAD, PUT"),
            ("GET", REQUEST, "POST"),
            ("POST", "/health/live", "GET, HEAD"),
            ("OPTIONS", "/openapi.json", "GET, HEAD"),
        ],
    )
    async def test_another_method_is_405_with_those_allowed(
        self, world: World, method: str, path: str, allowed: str
    ) -> None:
        answer = await world.anonymous.request(method, path)

        assert_problem(answer, 405, "method-not-allowed")
        assert answer.headers["allow"] == allowed

    @pytest.mark.parametrize(
        "path", ["/health/live", "/health/ready", "/openapi.json", "/docs", "/durable-objects", OBJECT]
    )
    async def test_head_is_get_without_the_body(self, world: World, path: str) -> None:
        world.host.objects["counter:c"] = (7, {})
        got, head = await world.http.get(path), await world.http.head(path)

        assert (head.status_code, head.content) == (got.status_code, b"")
        assert head.headers["content-length"] == str(len(got.content))
        assert head.headers.get("etag") == got.headers.get("etag")

    @pytest.mark.parametrize(
        "request_line",
        [
            b"nonsense",
            b"GET / HTTP/9.9",
            b"G\x00T / HTTP/1.1",
            b"GET /\xff\xfe HTTP/1.1",
            b"GET  HTTP/1.1",
            b"POST /durable-objects HTTP/1.1\r\nContent-Length: abc",
            b"POST /durable-objects HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
            b"GET / HTTP/1.1\r\nbad header: x",
            b"GET / HTTP/1.1\r\nX: a\x00b",
            b"GET / HTTP/1.1\r\nHost: y",
            b"OPTIONS * HTTP/1.1",
            b"GET * HTTP/1.1",
        ],
    )
    async def test_what_is_no_http_request_gets_a_problem_too(self, world: World, request_line: bytes) -> None:
        answer = await world.raw(request_line + b"\r\nHost: x\r\n\r\n")

        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 4")
        assert b"application/problem+json" in head
        assert msgspec.json.decode(body)["status"] == int(head[9:12])

    @pytest.mark.parametrize("part", [b"X-Big: ", b"GET /"])
    async def test_a_head_without_end_is_cut_off(self, world: World, part: bytes) -> None:
        start = b"" if part.startswith(b"GET") else b"GET / HTTP/1.1\r\nHost: x\r\n"
        answer = await world.raw(start + part + b"a" * HEAD_LIMIT)

        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 4")
        assert b"application/problem+json" in head
        assert msgspec.json.decode(body)["status"] == int(head[9:12])

    async def test_a_trailer_is_no_credential(self, world: World) -> None:
        start = b"POST /durable-objects/counter:c/request HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        body = b'11\r\n{"method":"echo"}\r\n0\r\n'
        credential = b"Authorization: " + world.http.headers["Authorization"].encode() + b"\r\n"

        as_header = await world.raw(start + credential + b"\r\n" + body + b"\r\n")
        as_trailer = await world.raw(start + b"\r\n" + body + credential + b"\r\n")

        assert (as_header[9:12], as_trailer[9:12]) == (b"200", b"401")

    async def test_a_large_body_is_no_large_head(self, world: World) -> None:
        body = b'{"method":"echo","args":{"text":"' + b"x" * (3 * HEAD_LIMIT) + b'"}}'
        for _ in range(3):
            assert (await world.http.post(f"{OBJECT}/request", content=body)).status_code == 200

    async def test_an_encoded_slash_is_no_slash(self, world: World) -> None:
        assert_problem(await world.http.post(f"{OBJECT}%2Frequest", content=b'{"method":"echo"}'), 404, "not-found")

    @pytest.mark.parametrize("query", ["%", "%zz", "a=%00", "\xff", "&&&", "=", "a" * 20_000])
    async def test_no_query_string_is_a_server_error(self, world: World, query: str) -> None:
        answer = await world.raw(
            b"GET /durable-objects?" + query.encode("latin-1") + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Authorization: " + world.http.headers["Authorization"].encode() + b"\r\n\r\n"
        )

        assert answer[:10] in (b"HTTP/1.1 2", b"HTTP/1.1 4")


class TestCredentials:
    @pytest.mark.parametrize("path", OPEN)
    async def test_health_and_description_are_open(self, world: World, path: str) -> None:
        assert (await world.anonymous.get(path)).status_code == 200

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/durable-objects"),
            ("POST", "/durable-objects"),
            ("GET", OBJECT),
            ("PUT", OBJECT),
            ("DELETE", OBJECT),
            ("POST", REQUEST),
            ("GET", "/fleet"),
            ("GET", "/metrics"),
        ],
    )
    async def test_nothing_else_is(self, world: World, method: str, path: str) -> None:
        for credential in (
            {},
            {"Authorization": "Bearer x.y.z"},
            {"Authorization": "Basic YTpi"},
            {"Authorization": ""},
        ):
            answer = await world.anonymous.request(method, path, headers=credential)

            assert_problem(answer, 401, "unauthenticated")
            assert answer.headers["www-authenticate"] == "Bearer"
        assert not world.host.seen

    @pytest.mark.parametrize(
        ("permission", "passing"),
        [
            ("objects:request", {REQUEST}),
            ("objects:manage", {"/durable-objects", OBJECT}),
            ("fleet:read", {"/fleet", "/metrics"}),
        ],
    )
    async def test_each_path_asks_for_its_own_permission(
        self, world: World, permission: str, passing: set[str]
    ) -> None:
        headers = world.authorized("user", permissions=(permission,))

        reads = [("GET", path) for path in ("/durable-objects", OBJECT, "/fleet", "/metrics")]
        for method, path in [("POST", REQUEST), *reads]:
            status = (await world.anonymous.request(method, path, headers=headers)).status_code
            assert (status != 403) == (path in passing), path

    async def test_an_expired_token_is_refused(self, world: World) -> None:
        issuer = TokenIssuer(load_signing_key(world.settings.home), world.settings.public_url, now=lambda: 1_000_000)
        headers = {"Authorization": f"Bearer {issuer.issue('late', roles=('admin',))}"}

        assert_problem(await world.anonymous.post(REQUEST, headers=headers), 401, "unauthenticated")

    async def test_two_credentials_are_refused(self, world: World) -> None:
        token = world.http.headers["Authorization"]

        answer = await world.anonymous.post(REQUEST, headers=[("Authorization", token), ("Authorization", token)])

        assert_problem(answer, 400, "bad-request", "Authorization")

    async def test_a_token_in_the_query_string_is_no_credential(self, world: World) -> None:
        token = world.http.headers["Authorization"].removeprefix("Bearer ")

        assert_problem(await world.anonymous.get(f"/users/me?access_token={token}"), 401, "unauthenticated")
        for client in (world.anonymous, world.http):
            assert_problem(await client.post(f"{REQUEST}?access_token={token}"), 422, "invalid", "access_token")


class TestDescription:
    async def test_it_is_valid_openapi_with_the_announced_types(self, world: World) -> None:
        answer = await world.anonymous.get("/openapi.json")

        document = answer.json()
        OpenAPIV31SpecValidator(document).validate()
        assert "counter.increment.args" in document["components"]["schemas"]
        assert "/durable-objects/account:{id}/request" in document["paths"]

    @pytest.mark.parametrize("path", ["/openapi.json", "/asyncapi.json"])
    async def test_internal_types_are_for_operators_who_ask(self, world: World, path: str) -> None:
        await world.host.host("gearbox", internal=True)
        operator = world.authorized(permissions=("fleet:read",))

        async def is_known() -> bool:
            return "gearbox" in (await world.anonymous.get(f"{path}?internal=true", headers=operator)).text

        await eventually(is_known)
        assert "gearbox" not in (await world.anonymous.get(path)).text
        assert "gearbox" not in (await world.anonymous.get(path, headers=operator)).text
        assert_problem(await world.anonymous.get(f"{path}?internal=true"), 401, "unauthenticated")
        stranger = world.authorized(permissions=("objects:manage",))
        assert_problem(await world.anonymous.get(f"{path}?internal=true", headers=stranger), 403, "forbidden")
        assert_problem(await world.anonymous.get(f"{path}?internal=perhaps"), 422, "invalid", "internal")

    async def test_it_is_spared_to_who_has_it(self, world: World) -> None:
        etag = (await world.anonymous.get("/openapi.json")).headers["etag"]

        answer = await world.anonymous.get("/openapi.json", headers={"If-None-Match": etag})

        assert (answer.status_code, answer.content) == (304, b"")

    async def test_the_page_may_load_from_its_own_origin_alone_and_runs_no_inline_script(self, world: World) -> None:
        answer = await world.anonymous.get("/docs")

        policy = answer.headers["content-security-policy"]
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
        assert "unsafe" not in policy
        assert "http://" not in answer.text
        assert "https://" not in answer.text
        loaded = re.findall(r'(?:src|href)="(docs/[^"]+)"', answer.text)
        assert len(loaded) == 3
        for path in loaded:
            file = await world.anonymous.get(f"/{path}")
            assert file.status_code == 200
            again = await world.anonymous.get(f"/{path}", headers={"If-None-Match": file.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")

    async def test_the_type_of_a_problem_is_an_address_in_the_gateway(self, world: World) -> None:
        problem = (await world.anonymous.get("/nowhere")).json()

        answer = await world.anonymous.get(problem["type"])

        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert f'id="{problem["code"]}"' in answer.text

    @pytest.mark.parametrize(
        "path", ["/docs/nothing.js", "/docs/update.sh", "/docs/..%2fdocs.py", "/docs/%2e%2e/docs.py"]
    )
    async def test_the_page_has_no_other_files(self, world: World, path: str) -> None:
        assert_problem(await world.anonymous.get(world.url + path), 404, "not-found")


def described_host(service: str, replica: int) -> HostInfo:
    return HostInfo(
        service=service,
        replica=replica,
        incarnation=f"{service}-{replica}.1",
        version="1",
        since="2027-01-15T08:00:00.000Z",
        state="serving",
        detail="",
        partitions={"counter": [replica]},
        objects=1,
        memory=100,
    )


class TestFleet:
    async def test_all_hosts_that_answer_are_listed_in_order(self, world: World) -> None:
        described = [described_host(*each) for each in (("objects", 1), ("events", 0), ("objects", 0))]

        async def answer(message: Msg) -> None:
            for host in described:
                await world.host.connection.publish(message.reply, msgspec.json.encode(host))
            await world.host.connection.publish(message.reply, b"not JSON")

        subscription = await world.host.connection.subscribe(subjects.FLEET, cb=answer)
        await world.host.connection.flush()
        try:
            answer_of_all = await world.http.get("/fleet")
        finally:
            await subscription.unsubscribe()

        assert (answer_of_all.status_code, answer_of_all.headers["cache-control"]) == (200, "no-store")
        listed = msgspec.json.decode(answer_of_all.content, type=FleetHosts)
        assert listed.hosts == [described[1], described[2], described[0]]

    async def test_without_hosts_the_list_is_empty(self, world: World) -> None:
        assert (await world.http.get("/fleet")).json() == {"hosts": []}

    async def test_the_list_comes_once_all_hosts_with_leases_have_answered_and_waits_for_a_slow_one(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("services.http_gateway.survey.WITHIN", 60.0)
        monkeypatch.setattr("services.http_gateway.hosts.QUIET", 60.0)
        connection = world.host.connection
        quick, slow = described_host("objects", 0), described_host("objects", 1)
        leases = await hosts_without_leases(world)
        keys = [subjects.lease_key("objects", host.incarnation) for host in (quick, slow)]
        for key in keys:
            await leases.put(key, b"1")

        async def answer(message: Msg) -> None:
            await connection.publish(message.reply, msgspec.json.encode(quick))
            # Longer than any pause in the answers of other hosts.
            await asyncio.sleep(4 * SETTLED)
            await connection.publish(message.reply, msgspec.json.encode(slow))

        subscription = await connection.subscribe(subjects.FLEET, cb=answer)
        await connection.flush()
        try:
            async with asyncio.timeout(20):
                listed = msgspec.json.decode((await world.http.get("/fleet")).content, type=FleetHosts)
        finally:
            await subscription.unsubscribe()
            for key in keys:
                await leases.delete(key)

        assert listed.hosts == [quick, slow]


class TestMetrics:
    async def test_requests_and_failures_are_counted(self, world: World) -> None:
        await world.call("echo")
        await world.call("no_such")
        await world.http.get("/nowhere")

        text = (await world.http.get("/metrics")).text

        route = 'route="/durable-objects/{object_id}/request"'
        assert f'aidevos_http_requests_total{{method="POST",{route},status="200"}}' in text
        assert 'aidevos_http_requests_total{method="GET",route="unmatched",status="404"}' in text
        assert 'aidevos_failures_total{code="unknown-method",door="http"}' in text
        assert f"aidevos_http_seconds_count{{{route}}}" in text

    async def test_the_metrics_of_all_processes_are_one_exposition_and_silent_hosts_are_counted(
        self, world: World
    ) -> None:
        connection = world.host.connection
        leases = await hosts_without_leases(world)
        for host in ("objects-7_here", "objects-8_here"):
            await leases.put(subjects.lease_key("objects", f"{host}.abc"), b"1")
        ours = MetricShare("app_x", "# TYPE app_x gauge\n", 'app_x{replica="7",service="objects"} 5.0\n')

        async def answer(message: Msg) -> None:
            metrics = ProcessMetrics("objects-7_here", [ours] * (message.data == OPENMETRICS.encode()))
            await connection.publish(message.reply, msgspec.msgpack.encode(metrics))
            await connection.publish(message.reply, b"no metrics")

        subscription = await connection.subscribe(subjects.FLEET_METRICS, cb=answer)
        await connection.flush()
        try:
            shown = await world.http.get("/metrics?fleet=true", headers={"accept": OPENMETRICS})
        finally:
            await subscription.unsubscribe()
            for host in ("objects-7_here", "objects-8_here"):
                await leases.delete(subjects.lease_key("objects", f"{host}.abc"))

        assert shown.headers["content-type"].startswith(OPENMETRICS)
        samples = {(each.name, each.labels.get("service", "")): each.value for each in parse(shown.text)}
        assert samples["app_x", "objects"] == 5
        assert samples["aidevos_process_info", "http_gateway"] == 1
        assert samples["aidevos_fleet_processes", ""] == 2
        assert samples["aidevos_fleet_silent_hosts", ""] == 1

    async def test_only_operators_see_the_metrics_of_the_fleet(self, world: World) -> None:
        refused = await world.anonymous.get("/metrics?fleet=true", headers=world.authorized("user", permissions=()))

        assert_problem(refused, 403, "forbidden")


class TestFigures:
    async def test_readers_share_samples_and_nobody_is_asked_without_readers(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(live_figures, "SAMPLE_EVERY", 0.1)
        connection, asked = world.host.connection, []

        async def answer(message: Msg) -> None:
            asked.append(message.data)
            count = len(asked)
            found = ProcessFigures("objects-0", 10 * count, count, 0, 0, 7, 70, 0, [BusyObject("counter:hot", 3.0)])
            await connection.publish(message.reply, msgspec.msgpack.encode(found))
            await connection.publish(message.reply, b"no figures")

        async def read(count: int) -> list[FleetFigures]:
            found: list[FleetFigures] = []
            async with world.http.stream("GET", "/fleet/live", timeout=10) as stream:
                assert stream.headers["content-type"] == "text/event-stream"
                async for line in stream.aiter_lines():
                    if line.startswith("data: "):
                        found.append(msgspec.json.decode(line.removeprefix("data: "), type=FleetFigures))
                        if len(found) == count:
                            break
            return found

        subscription = await connection.subscribe(subjects.FLEET_METRICS, cb=answer)
        await connection.flush()
        try:
            assert asked == []
            first, second = await asyncio.gather(read(2), read(2))
            await eventually_quiet(asked)
        finally:
            await subscription.unsubscribe()

        assert first == second
        assert set(asked) == {FIGURES}
        assert first[0].requests is None
        assert first[1].latency == pytest.approx(0.1)
        assert [load.objects for load in first[1].processes if load.process == "objects-0"] == [7]
        assert BusyObject("counter:hot", 3.0) in first[1].busiest

    async def test_only_operators_follow_the_figures(self, world: World) -> None:
        refused = await world.anonymous.get("/fleet/live", headers=world.authorized("user", permissions=()))

        assert_problem(refused, 403, "forbidden")


async def eventually_quiet(asked: list[bytes]) -> None:
    """Return once nobody has been asked for a second."""
    async with asyncio.timeout(10):
        before = -1
        while len(asked) != before:
            before = len(asked)
            await asyncio.sleep(1)


class TestBugs:
    async def test_an_exception_is_500_with_an_id_that_finds_the_log_line_and_nothing_else(
        self, world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(**_: bool) -> bytes:
            raise RuntimeError("the secret of the house")

        monkeypatch.setattr(operations, "exposition", broken)

        answer = await world.http.get("/metrics")

        problem = assert_problem(answer, 500, "internal")
        assert "secret" not in answer.text
        logged = [record for record in caplog.records if getattr(record, "error_id", "") == problem["error_id"]]
        assert logged[0].exc_info
        assert (await world.http.get("/health/live")).status_code == 200
