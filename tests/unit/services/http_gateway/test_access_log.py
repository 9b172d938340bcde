"""The access log, and what other lines of a request name."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from starlette.types import Receive, Scope, Send

from aidevos.contracts.errors import Failure
from aidevos.security.permissions import ANONYMOUS, Principal
from services.http_gateway.http.request import PRINCIPAL
from services.http_gateway.middleware import access_log
from services.http_gateway.middleware.responses import ResponseMiddleware, describe_request

PATH = "/durable-objects/counter:clicks"
SECRET = "hidden-in-the-query"
CALLERS: dict[str, Principal | None] = {
    "unknown": None,
    "anonymous": ANONYMOUS,
    "user": Principal("ada"),
    "api_key": Principal("ada", ("service",), key="k"),
    "service": Principal("service:x", ("service",)),
}
log = logging.getLogger("tests.access")


class Application:
    """Answers 7 bytes in two parts to a caller of a kind, or raises."""

    def __init__(self, kind: str, error: Exception | None) -> None:
        self._caller = CALLERS[kind]
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"], scope["path_params"] = (
            SimpleNamespace(path="/durable-objects/{object_id}"),
            {"object_id": "counter:clicks"},
        )
        if self._caller is not None:
            scope[PRINCIPAL] = self._caller
        log.warning("inside", extra=describe_request())
        if self._error is not None:
            raise self._error
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"1234", "more_body": True})
        await send({"type": "http.response.body", "body": b"567"})


async def access_lines(
    caplog: pytest.LogCaptureFixture, kind: str = "user", error: Exception | None = None, *, on: bool = True
) -> list[dict[str, Any]]:
    caplog.set_level("INFO")
    app = ResponseMiddleware(Application(kind, error), "http://x", logs_access=on)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://x") as client:
        await client.get(f"{PATH}?token={SECRET}", headers={"X-Request-Id": "r-1"})
    lines = [vars(record) for record in caplog.records if record.name == access_log.__name__]
    assert SECRET not in str(lines)
    return lines


@pytest.mark.parametrize("kind", CALLERS)
async def test_a_line_says_what_was_asked_and_how_it_was_answered(caplog: pytest.LogCaptureFixture, kind: str) -> None:
    (line,) = await access_lines(caplog, kind)

    shown = ("levelname", "message", "method", "route", "path", "status", "bytes", "request_id", "principal")
    assert [line[name] for name in shown] == [
        "INFO",
        f"GET {PATH} 200",
        "GET",
        "/durable-objects/{object_id}",
        PATH,
        200,
        7,
        "r-1",
        kind,
    ]
    assert 0 < line["seconds"] < 5


@pytest.mark.parametrize(("error", "status"), [(Failure("not-found", "x"), 404), (ValueError("x"), 500)])
async def test_a_failure_has_a_line_too(caplog: pytest.LogCaptureFixture, error: Exception, status: int) -> None:
    (line,) = await access_lines(caplog, error=error)

    assert (line["status"], line["bytes"] > 0) == (status, True)


async def test_nothing_is_logged_unless_it_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    assert await access_lines(caplog, on=False) == []


async def test_lines_of_a_request_name_it_and_the_object_of_its_path(caplog: pytest.LogCaptureFixture) -> None:
    await access_lines(caplog)

    inside = next(vars(record) for record in caplog.records if record.name == log.name)
    assert (inside["request_id"], inside["type"], inside["object"]) == ("r-1", "counter", "counter:clicks")
