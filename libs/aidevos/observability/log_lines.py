"""Log lines as people read them: coloured on a terminal, with tracebacks below.

Promise: nothing in a line controls the terminal, and no text of a line looks like another line.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, TextIO

RESET, BRIGHT, DIM = "\x1b[0m", "\x1b[1m", "\x1b[2m"
_LEVELS = {
    "DEBUG": ("DEBUG", DIM),
    "INFO": ("INFO ", "\x1b[32m"),
    "WARNING": ("WARN ", "\x1b[33m"),
    "ERROR": ("ERROR", "\x1b[31m"),
    "CRITICAL": ("CRIT ", "\x1b[1;37;41m"),
}
# What a line begins with; everything else follows as name=value.
FIRST = ("time", "level", "service", "replica", "logger", "message")
SERVICE_WIDTH = 15
# Characters of a field, beyond which it is cut. Messages and tracebacks are shown whole.
MOST_SHOWN = 200
_INDENT = "\n    "
_unprintable = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def import_structlog() -> ModuleType:
    """Return structlog, without Rich, which it loads for a renderer that isn't used: 4 MB in each process."""
    absent = "rich" not in sys.modules
    if absent:
        sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog
    finally:
        if absent:
            del sys.modules["rich"]
    return structlog


def is_colourful(stream: TextIO) -> bool:
    """True if a stream is a terminal that shows colours (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def line_renderer(*, colours: bool) -> Callable[[Mapping[str, Any]], str]:
    """Return a function that makes a readable text of a line's fields. It has no newline at its end."""
    dev = import_structlog().dev

    def column(style: str, key_style: str | None = None, width: int = 0, show: Callable[[Any], str] = _show) -> Any:
        if not colours:
            return dev.KeyValueColumnFormatter(None if key_style is None else "", "", "", show, width=width)
        return dev.KeyValueColumnFormatter(key_style, style, RESET, show, width=width)

    columns = [
        dev.Column("", column("", DIM)),
        dev.Column("time", column(DIM)),
        dev.Column("level", lambda _, level: _show_level(str(level), colours=colours)),
        dev.Column("service", column("\x1b[36m", width=SERVICE_WIDTH)),
        dev.Column("message", column(BRIGHT, show=str)),
    ]
    renderer = dev.ConsoleRenderer(columns=columns, sort_keys=False)
    return lambda line: str(renderer(None, "", _prepare(line)))


def _prepare(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields as columns: the replica stands with its service, and what follows the first ones last."""
    shown = {name: line[name] for name in ("time", "level", "service", "message") if name in line}
    shown["time"] = str(shown.get("time", "")).replace("T", " ").removesuffix("+00:00")
    if line.get("replica"):
        shown["service"] = f"{shown.get('service', '')}-{line['replica']}"
    shown["message"] = _indent(str(shown.get("message", "")))
    shown |= {_show(name): value for name, value in line.items() if name not in FIRST and value not in (None, "")}
    shown |= {name: _indent(f"\n{line[name]}")[1:] for name in ("exception", "stack") if line.get(name)}
    if line.get("logger"):
        shown["logger"] = line["logger"]
    return shown


def _show(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = escape(text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…")
    return text.replace("\n", "\\n")


def _show_level(level: str, *, colours: bool) -> str:
    name, style = _LEVELS.get(level, (level[:5].ljust(5), ""))
    return f"{style}{name}{RESET}" if colours and style else _show(name)


def _indent(text: str) -> str:
    return escape(text.rstrip()).replace("\n", _INDENT)


def escape(text: str) -> str:
    """Return the text with its control characters as escapes, except for newlines and tabs."""
    return _unprintable.sub(lambda found: f"\\x{ord(found[0]):02x}", text.replace("\r\n", "\n"))
