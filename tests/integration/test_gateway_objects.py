"""The durable-object endpoints, in front of a fake host on real NATS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx2
import msgspec
import pytest
import pytest_asyncio

from aidevos.contracts import envelope, subjects
from tests.support.gateway_world import World, assert_problem, described, eventually, gateway_world
from tests.support.servers import Servers

REQUEST = "/durable-objects/counter:c/request"


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(servers: Servers) -> AsyncIterator[World]:
    async with gateway_world(servers) as world:
        yield world


@pytest.fixture
def world(shared: World) -> World:
    shared.host.reset()
    return shared


async def test_a_request_passes_arguments_and_result_through_untouched(world: World) -> None:
    body = b'{"args": {"n": 12345678901234567890123, "s": "\\u00e9"} , "method":"echo"}'

    answer = await world.http.post(REQUEST, content=body)

    assert answer.content == b'{"result":{"n": 12345678901234567890123, "s": "\\u00e9"}}'
    assert answer.headers["content-type"] == "application/json"
    assert world.host.last.subject == f"dop.{subjects.partition('counter', 'c')}.counter.c.echo"


async def test_methods_that_need_no_credential_are_called_without_one_and_without_a_permission(world: World) -> None:
    method = {"name": "echo", "kind": "query", "doc": "", "allow": "anyone", "args": {}, "result": {}}
    closed = method | {"name": "nothing", "allow": "window:count"}
    await world.host.host("window", methods=[method | {"needs_credential": False}, closed])
    path = "/durable-objects/window:w/request"
    await eventually(lambda: world.answers("window:w"))
    ada = world.authorized(permissions=("a:b",))

    looks = [await world.anonymous.post(path, json={"method": "echo"}, headers=who) for who in ({}, ada)]
    sent = world.host.headers
    counts = [await world.anonymous.post(path, json={"method": "nothing"}, headers=who) for who in ({}, ada)]
    unread = await world.anonymous.post(REQUEST, content=b"no JSON")

    assert [answer.status_code for answer in looks] == [200, 200]
    assert sent["Authorization"] == ada["Authorization"]
    assert_problem(counts[0], 401, "unauthenticated")
    assert_problem(counts[1], 403, "forbidden")
    assert_problem(unread, 401, "unauthenticated")


async def test_a_request_without_arguments_sends_an_empty_object_and_no_result_is_null(world: World) -> None:
    answer = await world.call("nothing")

    assert answer.json() == {"result": None}
    assert world.host.last.data == b"{}"


async def test_an_object_lives_from_its_creation_to_its_deletion(world: World) -> None:
    made = await world.http.post("/durable-objects", json={"type": "counter", "name": "clicks", "state": {"value": 3}})
    assert made.status_code == 201
    assert made.headers["location"] == "/durable-objects/counter:clicks"
    assert made.headers["etag"] == '"1"'
    assert made.json()["state"] == {"value": 3}

    again = await world.http.post("/durable-objects", json={"type": "counter", "name": "clicks"})
    assert_problem(again, 409, "exists")

    read = await world.http.get(made.headers["location"])
    assert (read.status_code, read.headers["etag"], read.json()["object_id"]) == (200, '"1"', "counter:clicks")

    replaced = await world.http.put("/durable-objects/counter:clicks", json={"state": {"value": 4}})
    assert (replaced.status_code, replaced.headers["etag"]) == (200, '"2"')

    deleted = await world.http.delete("/durable-objects/counter:clicks")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert_problem(await world.http.get("/durable-objects/counter:clicks"), 404, "not-found")


async def test_a_name_that_is_no_id_is_hashed_as_everywhere_else(world: World) -> None:
    made = await world.http.post("/durable-objects", json={"type": "counter", "name": "alice@example.com"})

    assert made.json()["id"] == subjects.id_from_name("counter", "alice@example.com")


@pytest.mark.parametrize("name", ["Hello World", "alice@example.com", "a:b", "a.b", "x" * 129, "größe", "\0", "%"])
async def test_an_object_is_called_by_any_name_without_a_slash(world: World, name: str) -> None:
    id, path = subjects.id_from_name("counter", name), f"/durable-objects/counter:{quote(name)}"
    made = await world.http.post("/durable-objects", json={"type": "counter", "name": name})

    answer = await world.http.post(f"{path}/request", json={"method": "echo"})

    assert (answer.status_code, made.json()["id"]) == (200, id)
    assert world.host.last.subject == f"dop.{subjects.partition('counter', id)}.counter.{id}.echo"
    assert (await world.http.get(path)).json()["object_id"] == f"counter:{id}"


async def test_no_log_line_has_the_name_that_a_path_calls_an_object_by(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    name, id = "alice@example.com", subjects.id_from_name("counter", "alice@example.com")
    with caplog.at_level("INFO"):
        assert_problem(await world.http.get(f"/durable-objects/counter:{name}"), 404, "not-found")

    assert any(id in line for line in caplog.messages)
    assert not any("alice" in f"{vars(record)}" for record in caplog.records if record.name.startswith("services"))


async def test_without_a_name_every_creation_makes_another_object(world: World) -> None:
    ids = {(await world.http.post("/durable-objects", json={"type": "counter"})).json()["id"] for _ in range(2)}

    assert len(ids) == 2


async def test_a_repeated_creation_without_a_name_reaches_the_same_object_by_its_key(world: World) -> None:
    first, repeated, other = [
        await world.http.post("/durable-objects", json={"type": "counter"}, headers={"Idempotency-Key": key})
        for key in ("k1", '"k1"', "k2")
    ]

    # The fake host keeps no completion records; a real host answers the repeat like the first.
    assert first.status_code == other.status_code == 201
    assert_problem(repeated, 409, "exists")


@pytest.mark.parametrize(
    ("sent", "expected"),
    [("abc-1", "abc-1"), ('"abc-1"', "abc-1"), ('"a \\"b\\" \\\\c"', 'a "b" \\c'), ("k" * 256, "k" * 256)],
)
async def test_the_idempotency_key_becomes_the_request_id(world: World, sent: str, expected: str) -> None:
    await world.call("echo", headers={"Idempotency-Key": sent})

    assert world.host.headers[envelope.REQUEST_ID] == expected
    assert envelope.REQUEST_ACK not in world.host.headers


@pytest.mark.parametrize("key", ['""', '"open', "a b", "k" * 257, '"k";p=1', 'a"b', '" a"', "ä"])
async def test_a_malformed_idempotency_key_is_refused_by_name(world: World, key: str) -> None:
    answer = await world.call("echo", headers=httpx2.Headers({"Idempotency-Key": key}, encoding="latin-1"))

    assert_problem(answer, 400, "bad-request", "Idempotency-Key")
    assert not world.host.seen


async def test_without_a_key_requests_are_numbered_and_acknowledged(world: World) -> None:
    await world.call("echo")
    first = world.host.headers
    await world.call("echo")
    second = world.host.headers

    client, _, number = first[envelope.REQUEST_ID].rpartition(".")
    assert second[envelope.REQUEST_ID].startswith(client)
    assert int(second[envelope.REQUEST_ACK]) > int(number)


async def test_the_headers_that_matter_reach_the_host(world: World) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    await world.call(
        "echo", headers={"If-Match": '"3", W/"4"', "traceparent": trace, "Deadline": "900", "X-Other": "x"}
    )

    sent = world.host.headers
    assert sent[envelope.IF_MATCH] == '"3", W/"4"'
    assert sent[envelope.TRACEPARENT] == trace
    assert 0 < int(sent[envelope.DEADLINE]) <= 900
    assert sent[envelope.AUTHORIZATION] == world.http.headers["Authorization"]
    assert "X-Other" not in sent


@pytest.mark.parametrize("value", ["3", '"3', '"a" "b"', '*, "3"', "", '"' + "x" * 5000 + '"'])
async def test_a_malformed_if_match_is_refused_by_name(world: World, value: str) -> None:
    answer = await world.http.put("/durable-objects/counter:c", json={"state": {}}, headers={"If-Match": value})

    assert_problem(answer, 400, "bad-request", "If-Match")


async def test_a_stale_if_match_is_answered_412(world: World) -> None:
    await world.http.post("/durable-objects", json={"type": "counter", "name": "c"})

    stale = await world.http.put("/durable-objects/counter:c", json={"state": {}}, headers={"If-Match": '"7"'})

    assert_problem(stale, 412, "precondition-failed")


@pytest.mark.parametrize(
    ("condition", "status"),
    [('"1"', 304), ('W/"1"', 304), ('"0", "1"', 304), ("*", 304), ('"2"', 200), ('"0","2"', 200)],
)
async def test_if_none_match_spares_the_body(world: World, condition: str, status: int) -> None:
    await world.http.post("/durable-objects", json={"type": "counter", "name": "c"})

    answer = await world.http.get("/durable-objects/counter:c", headers={"If-None-Match": condition})

    assert (answer.status_code, answer.headers["etag"]) == (status, '"1"')
    assert bool(answer.content) == (status == 200)


@pytest.mark.parametrize(
    ("value", "status", "code"),
    [
        ("0", 408, "deadline-past"),
        ("-5", 408, "deadline-past"),
        ("soon", 400, "bad-request"),
        ("1.5", 400, "bad-request"),
    ],
)
async def test_a_deadline_that_is_none_or_past_is_refused(world: World, value: str, status: int, code: str) -> None:
    assert_problem(await world.call("echo", headers={"Deadline": value}), status, code, "Deadline")
    assert not world.host.seen


async def test_a_host_that_stays_silent_is_asked_again_with_the_same_id_until_the_deadline(world: World) -> None:
    answer = await world.call("silence", headers={"Deadline": "1300"})

    assert_problem(answer, 503, "unavailable")
    assert answer.headers["retry-after"] == "1"
    assert len(world.host.seen) >= 2
    assert len({message.headers[envelope.REQUEST_ID] for message in world.host.seen if message.headers}) == 1
    assert "may or may not" in answer.json()["detail"]


async def test_a_read_that_nobody_answers_cannot_have_changed_anything(world: World) -> None:
    path = "/durable-objects/counter:silent"
    read, deleted = [await world.http.request(verb, path, headers={"Deadline": "50"}) for verb in ("GET", "DELETE")]

    assert_problem(read, 503, "unavailable")
    assert read.json()["detail"] == "no process answered before the deadline"
    assert "may or may not" in deleted.json()["detail"]


@pytest.mark.parametrize(
    ("method", "status", "code", "field"),
    [
        ("refuse", 409, "out-of-stock", "args.item"),
        ("no_such", 404, "unknown-method", "method"),
        ("broken", 500, "internal", None),
    ],
)
async def test_an_error_of_the_object_is_shown_as_the_host_tells_it(
    world: World, method: str, status: int, code: str, field: str | None
) -> None:
    problem = assert_problem(await world.call(method), status, code, field)

    assert problem.get("error_id") == ("abc" if method == "broken" else None)


async def test_overload_says_when_to_come_again(world: World) -> None:
    answer = await world.call("overload")

    assert_problem(answer, 503, "overloaded")
    assert answer.headers["retry-after"] == "3"


async def test_an_unknown_type_is_404_and_names_the_known_ones(world: World) -> None:
    problems = [
        assert_problem(await world.call("echo", object_id="nobody:x"), 404, "unknown-type", "type"),
        assert_problem(await world.http.get("/durable-objects/nobody:x"), 404, "unknown-type", "type"),
        assert_problem(await world.http.post("/durable-objects", json={"type": "nobody"}), 404, "unknown-type", "type"),
        assert_problem(await world.http.get("/durable-objects?type=nobody"), 404, "unknown-type", "type"),
    ]

    assert all("account, basket, counter" in problem["detail"] for problem in problems)


@pytest.mark.parametrize("method", ["_delete", "_create", "a.b", "a b", "*", ">", "", "É", "a" * 65, "A"])
async def test_what_is_no_method_name_never_becomes_a_subject(world: World, method: str) -> None:
    assert_problem(await world.call(method), 404, "unknown-method", "method")
    assert not world.host.seen


@pytest.mark.parametrize(
    "object_id",
    [
        "counter",
        "counter:",
        ":c",
        "Counter:c",
        "counter:%ff%fe",
        "counter:" + "x" * (subjects.NAME_LIMIT + 1),
    ],
)
async def test_an_object_id_that_is_none_is_refused(world: World, object_id: str) -> None:
    assert_problem(await world.http.get(f"/durable-objects/{object_id}"), 422, "invalid", "object_id")


async def _is_known(world: World, type: str) -> bool:
    return (await world.http.get(f"/durable-objects?type={type}", headers={"Deadline": "1"})).status_code != 404


class TestLists:
    async def fill(self, world: World) -> list[str]:
        for object_id in ("counter:a", "counter:b", "counter:c", "account:x", "account:y"):
            world.host.objects[object_id] = (1, {})
        return ["account:x", "account:y", "counter:a", "counter:b", "counter:c"]

    async def walk(self, world: World, query: str) -> tuple[list[str], int]:
        found, pages, cursor = [], 0, ""
        while True:
            page = (await world.http.get(f"/durable-objects?{query}{cursor}")).json()
            found += [item["object_id"] for item in page["items"]]
            pages += 1
            if page["next_cursor"] is None:
                return found, pages
            cursor = f"&cursor={page['next_cursor']}"

    @pytest.mark.parametrize("limit", [1, 2, 3, 5, 50])
    async def test_every_object_of_all_types_is_listed_once_and_in_order(self, world: World, limit: int) -> None:
        expected = await self.fill(world)

        assert (await self.walk(world, f"limit={limit}"))[0] == expected

    async def test_a_type_that_nobody_serves_is_named_and_does_not_hide_the_others(self, world: World) -> None:
        expected = await self.fill(world)
        bucket = await world.host.connection.jetstream().key_value(subjects.TYPES_BUCKET)
        await bucket.put("ghost", msgspec.json.encode(described("ghost")))
        await eventually(lambda: _is_known(world, "ghost"))

        page = (await world.http.get("/durable-objects?limit=50&count=true")).json()
        listed = (await world.http.get("/durable-objects?limit=50")).json()
        alone = await world.http.get("/durable-objects?type=ghost&count=true", headers={"Deadline": "500"})
        await bucket.delete("ghost")

        assert [item["object_id"] for item in page["items"]] == expected
        assert (page["count"], page["left_out"]) == (len(expected), ["ghost"])
        assert listed["left_out"] == ["ghost"]
        assert_problem(alone, 503, "unavailable")

    async def test_one_type_is_listed_alone(self, world: World) -> None:
        expected = await self.fill(world)

        assert await self.walk(world, "type=counter&limit=2") == (expected[2:], 2)

    async def test_a_type_without_objects_is_an_empty_page(self, world: World) -> None:
        page = await world.http.get("/durable-objects?type=basket")

        assert page.json() == {"items": [], "next_cursor": None}

    async def test_internal_types_are_listed_for_operators_who_ask(self, world: World) -> None:
        await world.host.host("gearbox", internal=True)
        await eventually(lambda: world.answers("gearbox:x"))
        await world.http.post("/durable-objects", json={"type": "gearbox", "name": "m"})
        manager = world.authorized(permissions=("objects:manage",))
        operator = world.authorized(
            permissions=(
                "objects:manage",
                "fleet:read",
            )
        )

        async def types(query: str, headers: dict[str, str]) -> set[str]:
            page = (await world.anonymous.get(f"/durable-objects?{query}", headers=headers)).json()
            return {item["object_id"].partition(":")[0] for item in page["items"]}

        assert "gearbox" not in await types("limit=500", operator)
        assert "gearbox" in await types("limit=500&internal=true", operator)
        assert await types("type=gearbox&internal=true", operator) == {"gearbox"}
        listed = await world.anonymous.get("/durable-objects?type=gearbox", headers=operator)
        assert "gearbox" not in assert_problem(listed, 404, "unknown-type", "type")["detail"]
        refused = await world.anonymous.get("/durable-objects?internal=true", headers=manager)
        assert_problem(refused, 403, "forbidden", "internal")

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("limit=0", "limit"),
            ("limit=501", "limit"),
            ("limit=ten", "limit"),
            ("limit=-1", "limit"),
            ("limit=", "limit"),
            ("limit=%D9%A1", "limit"),
            ("limit=1&limit=2", "limit"),
            ("cursor=nonsense", "cursor"),
            ("cursor=", "cursor"),
            ("cursor=W10", "cursor"),
            ("colour=red", "colour"),
            ("access_token=secret", "access_token"),
            ("type=%ff", "query"),
            ("&".join(["type=a"] * 50), "query"),
        ],
    )
    async def test_a_wrong_parameter_is_refused_by_name(self, world: World, query: str, field: str) -> None:
        problem = assert_problem(await world.http.get(f"/durable-objects?{query}"), 422, "invalid", field)

        assert "secret" not in str(problem)

    async def test_a_cursor_serves_only_the_list_that_gave_it(self, world: World) -> None:
        await self.fill(world)
        cursor = (await world.http.get("/durable-objects?type=counter&limit=1")).json()["next_cursor"]

        answer = await world.http.get(f"/durable-objects?type=account&cursor={cursor}")

        assert_problem(answer, 422, "invalid", "cursor")


class TestBodies:
    @pytest.mark.parametrize(
        ("body", "status", "code", "field"),
        [
            (b"", 400, "bad-request", "body"),
            (b"{", 400, "bad-request", "body"),
            (b"\xff", 400, "bad-request", "body"),
            (b'{"method": "\xff"}', 400, "bad-request", "body"),
            (b'{"method": "echo"} x', 400, "bad-request", "body"),
            (b'\xef\xbb\xbf{"method": "echo"}', 400, "bad-request", "body"),
            (b"[]", 422, "invalid", "body"),
            (b"null", 422, "invalid", "body"),
            (b"{}", 422, "invalid", "method"),
            (b'{"method": 1}', 422, "invalid", "method"),
            (b'{"method": null}', 422, "invalid", "method"),
            (b'{"method": "echo", "extra": 1}', 422, "invalid", "extra"),
            (b'{"method": "echo", "args": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 422, "invalid", "args"),
        ],
    )
    async def test_a_wrong_body_is_refused_and_reaches_nobody(
        self, world: World, body: bytes, status: int, code: str, field: str
    ) -> None:
        answer = await world.http.post(REQUEST, content=body)

        assert_problem(answer, status, code, field)
        assert not world.host.seen

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "type"),
            ({"type": 1}, "type"),
            ({"type": "counter", "name": 1}, "name"),
            ({"type": "counter", "name": ""}, "name"),
            ({"type": "counter", "name": "x" * 1025}, "name"),
            ({"type": "counter", "id": "x"}, "id"),
        ],
    )
    async def test_a_wrong_creation_names_the_field(self, world: World, body: dict[str, object], field: str) -> None:
        assert_problem(await world.http.post("/durable-objects", json=body), 422, "invalid", field)

    async def test_a_replacement_needs_a_state(self, world: World) -> None:
        assert_problem(await world.http.put("/durable-objects/counter:c", json={}), 422, "invalid", "state")

    @pytest.mark.parametrize("type", ["application/json", "application/json; charset=utf-8", "Application/JSON", None])
    async def test_json_and_no_content_type_are_accepted(self, world: World, type: str | None) -> None:
        headers = {} if type is None else {"Content-Type": type}

        answer = await world.http.post(REQUEST, content=b'{"method":"echo"}', headers=headers)

        assert answer.status_code == 200

    @pytest.mark.parametrize(
        ("headers", "field"),
        [
            ({"Content-Type": "text/plain"}, "Content-Type"),
            ({"Content-Type": "application/json; charset=utf-16"}, "Content-Type"),
            ({"Content-Type": ""}, "Content-Type"),
            ({"Content-Encoding": "gzip"}, "Content-Encoding"),
        ],
    )
    async def test_another_content_type_is_415(self, world: World, headers: dict[str, str], field: str) -> None:
        answer = await world.http.post(REQUEST, content=b'{"method":"echo"}', headers=headers)

        assert_problem(answer, 415, "unsupported-media-type", field)

    async def test_a_body_on_get_is_ignored(self, world: World) -> None:
        answer = await world.http.request("GET", "/durable-objects", content=b"\xff" * 100_000)

        assert answer.status_code == 200
