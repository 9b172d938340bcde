"""Arguments of a method as `KEY=VALUE`, and as one JSON object."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import msgspec

from aidevos.cli.errors import CommandError

STANDARD = "-"


def parse_arguments(pairs: Iterable[str]) -> dict[str, Any]:
    """Return the arguments in `KEY=VALUE` pairs. Raises `CommandError`.

    A value is JSON if it can be read as JSON, and otherwise text: `by=2`, `name=Ada`, `tags=["a"]`. Quotes make text of
    what looks like JSON: `zip='"08150"'`.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not (equals and key):
            raise CommandError(f"{pair!r} must have the form KEY=VALUE")
        if key.endswith(":"):
            raise CommandError(f"{pair!r} must have the form KEY=VALUE: a value that is JSON needs no colon")
        if key in found:
            raise CommandError(f"{key!r} is given twice")
        found[key] = parse_value(text)
    return found


def parse_value(text: str) -> Any:
    """Return the value of JSON, or the text itself if it is none."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return text


def read_object(text: str, option: str) -> dict[str, Any]:
    """Return the JSON object in a text, or on standard input for `-`. Raises `CommandError`, which names the option."""
    source = sys.stdin.buffer.read() if text == STANDARD else text
    try:
        return msgspec.json.decode(source, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise CommandError(f"{option} must be a JSON object: {error}") from None
