"""Lines that people read."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable

import pytest

from aidevos.observability.log_lines import is_colourful, line_renderer

Configure = Callable[..., None]

LINE = {
    "time": "2026-11-30T08:00:00.123+00:00",
    "level": "ERROR",
    "service": "objects",
    "replica": 1,
    "logger": "aidevos.durable",
    "message": "it failed",
    "request_id": "r-1",
    "exception": "Traceback (most recent call last):\n  File x\nValueError: y",
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_begins_with_time_level_process_and_message_and_its_traceback_is_below() -> None:
    assert line_renderer(colours=False)(LINE) == (
        "2026-11-30 08:00:00.123 ERROR objects-1       it failed request_id=r-1 logger=aidevos.durable\n"
        "    Traceback (most recent call last):\n"
        "      File x\n"
        "    ValueError: y"
    )


def test_colours_change_nothing_but_the_colours() -> None:
    import re

    coloured = line_renderer(colours=True)(LINE)

    assert "\x1b[31mERROR" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == line_renderer(colours=False)(LINE)


def test_no_text_controls_the_terminal_or_looks_like_another_line() -> None:
    evil = "a\x1b[2Jb\r\nc\n2026-11-30 08:00:00.000 CRIT  objects forged\x9b\u202e"

    for name in ("message", "service", "level", "time", "logger", "request_id", "exception"):
        shown = line_renderer(colours=False)({"message": "m", name: evil})
        assert not {"\x1b", "\r", "\x9b", "\u202e"} & set(shown)
        assert all(line.startswith("    ") for line in shown.split("\n")[1:])


def test_a_terminal_gets_text_in_colours_unless_it_wants_none(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for variable, value, coloured in (("NO_COLOR", "", True), ("NO_COLOR", "1", False), ("TERM", "dumb", False)):
        monkeypatch.setenv("NO_COLOR", "")
        monkeypatch.setenv(variable, value)
        monkeypatch.setattr(sys, "stderr", Terminal())
        configure("objects")

        logging.getLogger("n").info("m")

        assert ("\x1b[32mINFO" in sys.stderr.getvalue()) == coloured
        assert "INFO" in sys.stderr.getvalue()
        assert not sys.stderr.getvalue().startswith("{")
    assert not is_colourful(io.StringIO())
