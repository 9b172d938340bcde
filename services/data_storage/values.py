"""What a user's document may be, and how it stands in the store.

A document is any JSON value. In the store its names are escaped, so that each is a name in a
MongoDB path whatever it was: `.` becomes `%2E`, `$` `%24`, `%` `%25`, and the empty name `%`. Values,
their types (1 and 1.0, integers of 64 bit) and the order of names come back as they were. Of a name
that JSON text gives twice, the last value counts, at the first one's place.
"""

from __future__ import annotations

import math
import re
from typing import Any, TypeAlias

import bson
import msgspec

from aidevos.contracts.errors import Failure
from aidevos.queries import INT64, MAX_DEPTH

MAX_SIZE = 1 << 20
NAME = "data"
QUOTES = "'\""
_Wrong: TypeAlias = tuple[str, str] | None
_awkward = re.compile(r"[%.$]")
_escaped = re.compile(r"%(?:(2E|24|25)|$)")
_characters = {"2E": ".", "24": "$", "25": "%", None: ""}


def check(data: Any, field: str = NAME) -> None:
    """Refuse what is no JSON value or can't be kept. Raises `invalid`, naming the path: `data.a.b[3]`.

    Integers fit into 64 bit, floats are finite, text is Unicode, names are without NUL, maps and lists
    nest at most 64 levels deep, and the whole takes at most 1 MiB, as JSON and as it is stored.
    """
    wrong = _find(data, MAX_DEPTH)
    if wrong is not None:
        raise Failure("invalid", wrong[0], field=field + wrong[1])
    size = max(len(bson.encode({NAME: encode(data)})), len(msgspec.json.encode(data)))
    if size > MAX_SIZE:
        detail = f"a document has at most {MAX_SIZE} bytes, as JSON and as it is stored, and this has {size}"
        raise Failure("invalid", detail, field=field)


def encode(data: Any) -> Any:
    """The value as the store keeps it, of a value that `check` has passed."""
    kind = type(data)
    if kind is dict:
        return {escape(name): encode(item) for name, item in data.items()}
    return [encode(item) for item in data] if kind is list else data


def decode(stored: Any) -> Any:
    """The value that was encoded."""
    kind = type(stored)
    if kind is dict:
        return {unescape(name): decode(item) for name, item in stored.items()}
    return [decode(item) for item in stored] if kind is list else stored


def to_json(stored: Any) -> msgspec.Raw:
    """The value that was encoded, as JSON. Every escape has a percent sign: without one, it is what is stored."""
    text = msgspec.json.encode(stored)
    return msgspec.Raw(text if b"%" not in text else msgspec.json.encode(decode(stored)))


def escape(name: str) -> str:
    """A name as it stands in the store and in its paths."""
    if name.isalnum():
        return name
    return _awkward.sub(lambda match: f"%{ord(match[0]):X}", name) or "%"


def unescape(name: str) -> str:
    """The name that was escaped."""
    return _escaped.sub(lambda match: _characters[match[1]], name) if "%" in name else name


def _find(value: Any, levels: int) -> _Wrong:
    """The first thing in a value that can't be kept: what is wrong, and where below the value."""
    kind = type(value)
    if kind is str:
        return None if _is_unicode(value) else ("text must be valid Unicode", "")
    if kind is int:
        return None if value in INT64 else ("integers must fit into 64 bit", "")
    if kind is float:
        return None if math.isfinite(value) else ("numbers must be finite", "")
    if kind is dict or kind is list:
        if levels == 0:
            return f"values nest at most {MAX_DEPTH} levels deep", ""
        return _find_in_list(value, levels - 1) if kind is list else _find_in_map(value, levels - 1)
    return None if value is None or kind is bool else ("this is no JSON value", "")


def _find_in_list(value: list[Any], levels: int) -> _Wrong:
    for index, item in enumerate(value):
        wrong = _find(item, levels)
        if wrong is not None:
            return wrong[0], f"[{index}]{wrong[1]}"
    return None


def _find_in_map(value: dict[Any, Any], levels: int) -> _Wrong:
    for name, item in value.items():
        if type(name) is not str or "\0" in name or not _is_unicode(name):
            return "a name must be valid Unicode without NUL", f".{ascii(name).strip(QUOTES)}"
        wrong = _find(item, levels)
        if wrong is not None:
            return wrong[0], f".{name}{wrong[1]}"
    return None


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
