"""Logs carry enough to find a fault, and no credentials."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest

from aidevos.observability import request_ids
from aidevos.observability.logs import JsonFormatter, configure

TOKEN = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"


def line(message: str, *values: object, **extra: object) -> dict[str, object]:
    record = logging.makeLogRecord({"name": "n", "levelname": "INFO", "msg": message, "args": values, **extra})
    parsed: dict[str, object] = json.loads(JsonFormatter("gateway").format(record))
    return parsed


def test_a_line_names_its_service_and_carries_the_extra_fields() -> None:
    parsed = line("asked %s", "twice", request_id="r-1", oddity=object)

    assert (parsed["service"], parsed["message"], parsed["request_id"]) == ("gateway", "asked twice", "r-1")
    assert parsed["oddity"] == "<class 'object'>"


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {TOKEN}",
        f"token={TOKEN}",
        "ApiKey aidevos_1234567890abcdef",
        "mongodb://user:hunter2@host:1/db",
        "nats://user:hunter2@host",
        "Basic dXNlcjpodW50ZXIy",
    ],
)
def test_credentials_are_replaced_wherever_they_stand(text: str) -> None:
    for written in (str(line(text)), str(line("x", detail=text)), str(line("%s", text))):
        assert not any(secret in written for secret in ("eyJ", "hunter2", "1234567890", "dXNlc"))


def test_an_exception_is_part_of_its_line_and_is_cleaned_too(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        configure("info", "gateway")
        try:
            raise ValueError(f"Bearer {TOKEN}")
        except ValueError:
            logging.getLogger("x").exception("failed")
    finally:
        root.handlers[:] = before
        root.setLevel(level)

    (written,) = stream.getvalue().splitlines()
    assert "ValueError" in json.loads(written)["exception"]
    assert "eyJ" not in written


def test_request_ids_are_taken_over_or_made() -> None:
    assert request_ids.choose("mine") == "mine"
    assert request_ids.choose("é") != request_ids.choose(None) != request_ids.choose(None)
