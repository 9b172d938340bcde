"""Conditions as they are written on the command line, such as `price>=10`, as filters of the HTTP API."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from aidevos.cli.arguments import parse_value, read_object
from aidevos.cli.errors import CommandError

OPERATORS = {
    "=": "eq",
    "!=": "ne",
    ">": "gt",
    ">=": "gte",
    "<": "lt",
    "<=": "lte",
    "^=": "starts_with",
    "*=": "contains",
}
# Names that mean something else in a filter, unless a backslash precedes them.
GROUPS = ("and", "or", "not")
_split = re.compile(r"([^=!<>^*]+)([!<>^*]?=|[<>])(.*)", re.DOTALL).fullmatch


def parse_filter(conditions: Iterable[str], where: str = "") -> dict[str, Any]:
    """Return the filter that demands all conditions, and also what the JSON in `where` says. Raises `CommandError`."""
    found: dict[str, Any] = {}
    more = [read_object(where, "--where")] if where else []
    for text in conditions:
        path, operator, value = _parse(text)
        if operator in found.setdefault(path, {}):
            more.append({path: {operator: value}})
        else:
            found[path][operator] = value
    return found | ({"and": more} if more else {})


def _parse(text: str) -> tuple[str, str, Any]:
    parts = _split(text)
    # `=>` is not an operator, and a text that begins so can be written in quotes.
    if parts is None or (parts[2] == "=" and parts[3][:1] in ("=", ">", "<")):
        operators = " ".join(OPERATORS)
        raise CommandError(f"{text!r} must be a path, one of {operators}, and a value, such as 'price>=10'")
    path, operator, value = (part.strip() for part in parts.groups())
    return f"\\{path}" if path in GROUPS else path, OPERATORS[operator], parse_value(value)
