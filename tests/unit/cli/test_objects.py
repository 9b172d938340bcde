"""`aidevos objects` and `events` as requests, and the exit statuses of their failures."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from typing import Any

import pytest

from aidevos.cli.main import main
from tests.support.fake_gateway import FakeGateway, Request, problem

Output = pytest.CaptureFixture[str]
CALL = "POST /durable-objects/counter:clicks/request"


def made(id: str, version: int = 1) -> dict[str, Any]:
    return {"object_id": f"counter:{id}", "type": "counter", "id": id, "version": version, "state": {"value": 2}}


@pytest.fixture(autouse=True)
def target(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIDEVOS_URL", gateway.url)
    monkeypatch.setenv("AIDEVOS_TOKEN", "t")


def test_a_call_sends_its_arguments_and_prints_the_result(gateway: FakeGateway, capsys: Output) -> None:
    gateway.answers[CALL] = 200, {"result": {"value": 3}}

    options = ["--args", '{"note": "x"}', "--if-match", "7", "--request-id", "r1"]
    assert main(["objects", "call", "counter:clicks", "increment", "by=2", *options]) == 0

    assert json.loads(capsys.readouterr().out) == {"value": 3}
    (request,) = gateway.requests
    assert request.body == {"method": "increment", "args": {"by": 2, "note": "x"}}
    assert (request.headers["if-match"], request.headers["idempotency-key"]) == ('"7"', "r1")
    assert request.headers["authorization"] == "Bearer t"


def test_arguments_come_from_standard_input(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway.answers[CALL] = 200, {"result": None}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"by": 5}')))

    assert main(["objects", "call", "counter:clicks", "increment", "--args", "-"]) == 0
    assert gateway.requests[0].body["args"] == {"by": 5}


def test_a_name_is_encoded_in_the_path(gateway: FakeGateway) -> None:
    gateway.answers["GET /durable-objects/board:Hello%20World%2F1"] = 200, made("x")

    assert main(["objects", "get", "board:Hello World/1"]) == 0


@pytest.mark.parametrize("command", ["count", "list"])
def test_types_that_are_missing_from_a_list_or_a_count_are_named(
    gateway: FakeGateway, capsys: Output, command: str
) -> None:
    gateway.answers["GET /durable-objects"] = (
        200,
        {"items": [made("a")], "next_cursor": None, "count": 1, "left_out": ["parcel", "sheet"]},
    )

    assert main(["objects", command]) == 0

    assert "no process serves their types: parcel, sheet" in capsys.readouterr().err


@pytest.mark.parametrize(("count", "requests"), [(7, 1), (None, 2)])
def test_a_count_reads_pages_only_if_the_fleet_can_t_count_so_many(
    gateway: FakeGateway, capsys: Output, count: int | None, requests: int
) -> None:
    page = {"items": [made(f"{number}") for number in range(7)], "next_cursor": None}
    gateway.answers["GET /durable-objects"] = 200, page | {"count": count}

    assert main(["objects", "count", "counter"]) == 0

    assert capsys.readouterr().out == "7\n"
    assert gateway.requests[0].params == {"type": "counter", "limit": "1", "count": "true"}
    assert len(gateway.requests) == requests


@pytest.mark.parametrize(("limit", "shown"), [("3", 3), ("0", 4)])
def test_a_list_reads_pages_up_to_its_limit(gateway: FakeGateway, capsys: Output, limit: str, shown: int) -> None:
    def page(request: Request) -> Any:
        first = int(request.params.get("cursor", "0"))
        return 200, {"items": [made(str(first)), made(str(first + 1))], "next_cursor": None if first else "2"}

    gateway.answers["GET /durable-objects"] = page

    assert main(["objects", "list", "counter", "--limit", limit, "--json"]) == 0

    assert len(json.loads(capsys.readouterr().out)) == shown
    assert gateway.requests[0].params["type"] == "counter"


def test_objects_are_deleted_only_after_a_confirmation(gateway: FakeGateway, capsys: Output) -> None:
    gateway.answers["DELETE /durable-objects/counter:a"] = 204, None

    assert main(["objects", "delete", "counter:a"]) == 2
    assert "--yes" in capsys.readouterr().err
    assert gateway.requests == []
    assert main(["objects", "delete", "counter:a", "--yes"]) == 0


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "bad-request", 2),
        (401, "unauthenticated", 4),
        (403, "forbidden", 4),
        (404, "not-found", 5),
        (409, "conflict", 6),
        (412, "precondition-failed", 6),
        (422, "invalid", 2),
        (428, "precondition-required", 6),
        (429, "rate-limited", 1),
        (500, "internal", 1),
        (503, "unavailable", 1),
    ],
)
def test_a_failure_is_a_line_and_an_exit_status(
    gateway: FakeGateway, capsys: Output, status: int, code: str, expected: int
) -> None:
    gateway.answers["GET /durable-objects/counter:a"] = problem(status, code, "so it is", field="id", retry_after=60)

    assert main(["objects", "get", "counter:a"]) == expected

    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"aidevos: {code}: id: so it is")
    assert output.err.count("\n") == 1


def test_an_answer_of_another_program_is_a_line(gateway: FakeGateway, capsys: Output) -> None:
    gateway.answers["GET /durable-objects/counter:a"] = 200, b"<html>"

    assert main(["objects", "get", "counter:a"]) == 2
    assert gateway.url in capsys.readouterr().err


def test_ctrl_c_ends_a_watch_with_status_130(gateway: FakeGateway) -> None:
    gateway.answers["GET /durable-objects/counter:a"] = 200, made("a")
    command = [sys.executable, "-P", "-m", "aidevos.cli.main", "objects", "watch", "counter:a", "--json"]

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watch:
        assert watch.stdout is not None
        assert json.loads(watch.stdout.readline()) == made("a")
        watch.send_signal(signal.SIGINT)
        _, errors = watch.communicate(timeout=20)

    assert (watch.returncode, errors) == (130, "")
