"""The HTTP API as the client calls it: what is repeated, what is raised, and how streams resume."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import httpx2
import msgspec
import pytest

from aidevos.client import api as module
from aidevos.client.api import HttpApi
from aidevos.client.errors import (
    ApiError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    RateLimited,
    SecondFactorNeeded,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from aidevos.contracts.errors import MEDIA_TYPE, Failure

Answer = httpx2.Response | Exception
STREAM = {"Content-Type": "text/event-stream"}


class Server:
    """Gives its answers one after another, and keeps the requests."""

    def __init__(self, *answers: Answer) -> None:
        self.requests: list[httpx2.Request] = []
        self._answers = list(answers)

    def api(self, **options: Any) -> HttpApi:
        return HttpApi("http://fleet.test", transport=httpx2.MockTransport(self._answer), **options)

    def sent(self, header: str) -> list[str | None]:
        return [request.headers.get(header) for request in self.requests]

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Tokens:
    """A source whose next token is good once the one before has expired."""

    def __init__(self) -> None:
        self.number = 0

    async def __call__(self) -> str:
        return f"token-{self.number}"

    def expire(self, token: str) -> None:
        assert token == f"token-{self.number}"
        self.number += 1


def problem(code: str, **details: Any) -> httpx2.Response:
    failure = Failure(code, "so it is", **details)
    return httpx2.Response(
        failure.status, content=failure.encode(), headers={"Content-Type": MEDIA_TYPE, "X-Request-Id": "r1"}
    )


def ok(value: Any = None) -> httpx2.Response:
    return httpx2.Response(200, json=value)


def stream(text: str) -> httpx2.Response:
    return httpx2.Response(200, content=text.encode(), headers=STREAM)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the pauses between attempts short."""
    monkeypatch.setattr(module, "BACKOFF", module.Backoff(0.001, 0.001))
    monkeypatch.setattr(module, "FOLLOWING", module.Backoff(0.001, 0.001))


async def test_a_request_sends_json_and_returns_the_decoded_answer() -> None:
    server = Server(ok({"result": 3}))

    async with server.api(token="t") as api:
        answer = await api.call("POST", "/items", body={"by": 2}, params={"limit": 5, "all": True, "none": None})

    assert answer == {"result": 3}
    request = server.requests[0]
    assert (request.url.path, dict(request.url.params)) == ("/items", {"limit": "5", "all": "true"})
    assert msgspec.json.decode(request.content) == {"by": 2}
    assert request.headers["Authorization"] == "Bearer t"
    assert 29_000 <= int(request.headers["Deadline"]) <= 30_000


async def test_an_empty_answer_is_none_and_other_text_is_a_string() -> None:
    server = Server(httpx2.Response(204), httpx2.Response(200, text="one\ntwo"))

    async with server.api() as api:
        assert await api.call("DELETE", "/items/1?all=true") is None
        assert await api.call("GET", "/items/export") == "one\ntwo"

    assert server.requests[0].url.query == b"all=true"


async def test_an_api_key_has_a_scheme_of_its_own() -> None:
    server = Server(ok())

    async with server.api(token="adk_1") as api:
        await api.call("GET", "/")

    assert server.sent("Authorization") == ["ApiKey adk_1"]


@pytest.mark.parametrize(
    "lost",
    [
        problem("unavailable", retry_after=0.001),
        problem("moved", retry_after=0.001),
        problem("overloaded", retry_after=0.001),
        problem("rate-limited", retry_after=0.001),
        httpx2.Response(502, text="a proxy's page"),
        httpx2.ReadError("reset"),
        httpx2.RemoteProtocolError("closed without an answer"),
        httpx2.ConnectError("refused"),
        httpx2.ReadTimeout(""),
    ],
    ids=lambda answer: repr(answer),
)
async def test_a_change_is_repeated_under_the_same_key(lost: Answer) -> None:
    server = Server(lost, ok(1))

    async with server.api() as api:
        assert await api.call("POST", "/x") == 1

    first, second = server.sent("Idempotency-Key")
    assert first == second is not None


async def test_two_changes_have_different_keys_and_a_read_has_none() -> None:
    server = Server(ok(), ok(), ok())

    async with server.api() as api:
        await api.call("POST", "/x")
        await api.call("POST", "/x")
        await api.call("GET", "/x")

    first, second, read = server.sent("Idempotency-Key")
    assert first != second
    assert read is None


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("invalid", Invalid),
        ("bad-request", Invalid),
        ("unauthenticated", Unauthenticated),
        ("mfa-required", SecondFactorNeeded),
        ("forbidden", Forbidden),
        ("unknown-type", NotFound),
        ("exists", Conflict),
        ("internal", ApiError),
        ("turn-timeout", Unavailable),
    ],
)
async def test_a_refusal_is_raised_at_once_as_the_class_of_its_status(code: str, kind: type[ApiError]) -> None:
    server = Server(problem(code, field="args.by"))

    async with server.api() as api:
        with pytest.raises(kind) as raised:
            await api.call("POST", "/x")

    error = raised.value
    assert (type(error), error.code, error.field, error.request_id) == (kind, code, "args.by", "r1")
    assert isinstance(error, Failure)
    assert not error.retryable
    assert len(server.requests) == 1


async def test_a_wait_that_is_longer_than_the_deadline_is_raised_at_once() -> None:
    server = Server(problem("rate-limited", retry_after=60))

    async with server.api() as api:
        with pytest.raises(RateLimited) as raised:
            await api.call("POST", "/x")

    assert raised.value.retryable
    assert raised.value.retry_after == 60


async def test_attempts_end_with_the_deadline() -> None:
    server = Server(*[problem("unavailable", retry_after=0.01)] * 100)

    async with server.api() as api:
        with pytest.raises(Unavailable):
            await api.call("POST", "/x", deadline=0.1)

    assert 2 <= len(server.requests) < 100
    assert all(int(left or 0) <= 100 for left in server.sent("Deadline"))


async def test_an_answer_without_a_problem_document_says_that_this_is_no_fleet() -> None:
    server = Server(httpx2.Response(404, text="<html>"), httpx2.Response(301, headers={"Location": "/elsewhere"}))

    async with server.api() as api:
        with pytest.raises(NotFound, match="unlike a fleet"):
            await api.call("GET", "/x")
        with pytest.raises(ApiError, match="answered 301"):
            await api.call("GET", "/x")


async def test_nothing_that_listens_is_unreachable_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_WITHIN", 0.1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    async with HttpApi(f"http://127.0.0.1:{port}", deadline=60) as api, asyncio.timeout(5):
        with pytest.raises(Unreachable, match=f"127.0.0.1:{port} doesn't answer"):
            await api.call("GET", "/x")


@pytest.mark.parametrize("url", ["ftp://fleet.test", "fleet.test:8080", "http://", ""])
def test_an_address_of_something_else_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not the URL of a fleet"):
        HttpApi(url)


async def test_a_refused_token_is_renewed_once() -> None:
    server = Server(problem("unauthenticated"), ok(1), problem("unauthenticated"), problem("unauthenticated"))

    async with server.api(token=Tokens()) as api:
        assert await api.call("POST", "/x") == 1
        with pytest.raises(Unauthenticated):
            await api.call("POST", "/x")

    assert server.sent("Authorization") == [f"Bearer token-{number}" for number in (0, 1, 1, 2)]


async def test_an_anonymous_request_sends_no_credential() -> None:
    server = Server(ok())

    async with server.api(token=Tokens()) as api:
        await api.call("POST", "/auth/login", body={}, anonymous=True)

    assert server.sent("Authorization") == [None]


async def test_a_cancelled_request_is_not_repeated() -> None:
    async def hang(request: httpx2.Request) -> httpx2.Response:
        started.set()
        await asyncio.sleep(60)
        return ok()

    started = asyncio.Event()
    async with HttpApi("http://fleet.test", transport=httpx2.MockTransport(hang)) as api:
        task = asyncio.create_task(api.call("POST", "/x"))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_list_is_followed_to_its_last_page() -> None:
    server = Server(ok({"items": [1, 2], "next_cursor": "c"}), ok({"items": [3], "next_cursor": None}))

    async with server.api() as api:
        assert [item async for item in api.items("/x", params={"limit": 2})] == [1, 2, 3]

    assert [dict(request.url.params) for request in server.requests] == [{"limit": "2"}, {"limit": "2", "cursor": "c"}]


async def collect(api: HttpApi, count: int, **options: Any) -> list[Any]:
    found: list[Any] = []
    async for event in api.events(**options):
        found.append((event.id, event.type, event.data))
        if len(found) == count:
            break
    return found


async def test_events_resume_after_the_last_place_that_was_seen() -> None:
    server = Server(
        stream('id: 1\n\nid: 2\nevent: a.b\ndata: {"n": 1}\n\nid: 5\n\n'),
        problem("unavailable", retry_after=0.001),
        stream('id: 6\nevent: a.b\ndata: {"text": "\u2028"}\n\n'),
    )

    async with server.api() as api:
        assert await collect(api, 2) == [("2", "a.b", {"n": 1}), ("6", "a.b", {"text": "\u2028"})]

    assert server.sent("Last-Event-ID") == [None, "5", "5"]


async def test_a_stream_that_ends_for_a_token_is_opened_with_a_new_one() -> None:
    server = Server(
        stream('id: 1\n\nevent: end\ndata: {"reason": "unauthenticated", "detail": ""}\n\n'),
        stream('event: gap\ndata: {"reason": "lost"}\n\n'),
        stream("id: 3\nevent: a.b\ndata: {}\n\n"),
    )

    async with server.api(token=Tokens()) as api:
        assert await collect(api, 2, last_event_id="0") == [("1", "gap", {"reason": "lost"}), ("3", "a.b", {})]

    assert server.sent("Last-Event-ID") == ["0", "1", "1"]
    assert server.sent("Authorization") == ["Bearer token-0", "Bearer token-1", "Bearer token-1"]


@pytest.mark.parametrize(
    ("refusal", "kind"), [(problem("forbidden"), Forbidden), (problem("unauthenticated"), Unauthenticated)]
)
async def test_a_refused_stream_raises(refusal: httpx2.Response, kind: type[ApiError]) -> None:
    server = Server(refusal)

    async with server.api(token="t") as api:
        with pytest.raises(kind):
            await collect(api, 1)


async def test_another_answer_than_a_stream_is_reported() -> None:
    server = Server(ok({}))

    async with server.api() as api:
        with pytest.raises(ApiError, match="is not a stream of events"):
            await collect(api, 1)


async def test_a_stream_that_stays_away_is_given_up_with_the_deadline() -> None:
    server = Server(*[httpx2.ReadError("reset")] * 1000)

    async with server.api(deadline=0.05) as api:
        with pytest.raises(Unreachable):
            await collect(api, 1)
