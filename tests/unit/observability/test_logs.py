"""The contents of a process's log, and the values that must stay out of it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
import structlog

from aidevos.observability import logs, request_ids

Configure = Callable[..., None]

TOKEN = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that parses what was logged since its last call."""
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_says_where_it_comes_from_and_carries_the_extra_fields(configure: Configure, lines: Any) -> None:
    configure("gateway", lambda: {"request_id": "r-1", "type": "counter"}, replica=2)

    logging.getLogger("n").warning("asked %s", "twice", extra={"oddity": object, "type": "own", "nested": {"a": (1,)}})

    (line,) = lines()
    assert list(line)[:6] == ["time", "level", "service", "replica", "logger", "message"]
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "WARNING",
        "service": "gateway",
        "replica": 2,
        "logger": "n",
        "message": "asked twice",
        "request_id": "r-1",
        "type": "own",
        "oddity": "<class 'object'>",
        "nested": {"a": [1]},
    }


def test_no_field_takes_the_place_of_one_that_says_where_a_line_comes_from(configure: Configure, lines: Any) -> None:
    configure("gateway")

    logging.getLogger("n").info("m", extra={"time": "never", "service": "forged", "level": "x", "logger": "y"})

    (line,) = lines()
    assert (line["service"], line["level"], line["logger"]) == ("gateway", "INFO", "n")


def test_the_replica_is_named_once_it_is_known(configure: Configure, lines: Any) -> None:
    configure("objects")

    logs.set_replica(7)
    logging.getLogger("n").info("m")

    assert lines()[0]["replica"] == 7


def test_records_of_structlog_go_the_same_way(configure: Configure, lines: Any) -> None:
    configure("objects")

    log = structlog.get_logger("mine").bind(order=7)
    log.info("paid %s", "twice", header=f"Bearer {TOKEN}")
    try:
        raise ValueError(TOKEN)
    except ValueError:
        log.exception("failed")

    paid, failed = lines()
    assert (paid["logger"], paid["message"], paid["order"]) == ("mine", "paid twice", 7)
    assert paid["header"] == "Bearer [secret]"
    assert failed["exception"].splitlines()[-1] == "ValueError: [secret]"


def test_a_stack_is_that_of_its_record(configure: Configure, lines: Any) -> None:
    configure("objects")

    logging.getLogger("n").error("odd", stack_info=True)

    assert "test_a_stack_is_that_of_its_record" in lines()[0]["stack"]


def test_what_json_cannot_hold_is_logged_nevertheless(configure: Configure, lines: Any) -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    circle: list[Any] = []
    circle.append(circle)
    configure("objects")

    logging.getLogger("n").info("\ud800", extra={"number": 2**70, "broken": Broken(), "circle": circle})

    (line,) = lines()
    assert (line["message"], line["number"], line["broken"]) == ("\ud800", 2**70, "<Broken>")


def test_loggers_have_levels_of_their_own(configure: Configure, lines: Any) -> None:
    configure("objects", log_level="warning, quiet=ERROR,aidevos.durable=DEBUG")

    for name in ("other", "quiet", "aidevos.durable.turns"):
        for level in (logging.DEBUG, logging.WARNING, logging.ERROR):
            logging.getLogger(name).log(level, "m")

    assert [(line["logger"], line["level"]) for line in lines()] == [
        ("other", "WARNING"),
        ("other", "ERROR"),
        ("quiet", "ERROR"),
        ("aidevos.durable.turns", "DEBUG"),
        ("aidevos.durable.turns", "WARNING"),
        ("aidevos.durable.turns", "ERROR"),
    ]


def test_the_url_of_a_request_that_leaves_is_not_logged(configure: Configure, lines: Any) -> None:
    configure("events", log_level="debug")

    transport = httpx2.MockTransport(lambda request: httpx2.Response(204))
    with httpx2.Client(transport=transport) as client:
        client.post("https://example.org/hooks/known-to-its-receiver-alone")
    logging.getLogger("aidevos").info("sent")

    assert [line["message"] for line in lines()] == ["sent"]


SCRIPT = f"""
import logging, sys, warnings
from aidevos.observability import logs
from aidevos.settings import load
logs.configure(load(), "mill")
assert "rich" not in sys.modules
warnings.warn("an old call")
import rich
raise ValueError("Bearer {TOKEN}")
"""


def test_an_exception_that_ends_the_process_and_a_warning_are_lines_like_any_other() -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT], stderr=subprocess.PIPE, text=True, timeout=60)

    warning, death = map(json.loads, ended.stderr.splitlines())
    assert ended.returncode == 1
    assert (warning["level"], warning["logger"]) == ("WARNING", "py.warnings")
    assert (death["level"], death["message"]) == ("CRITICAL", "the process ends")
    assert death["exception"].splitlines()[-1] == "ValueError: Bearer [secret]"


def test_request_ids_are_taken_over_or_made() -> None:
    assert request_ids.choose("mine") == "mine"
    assert request_ids.choose("é") != request_ids.choose(None) != request_ids.choose(None)
