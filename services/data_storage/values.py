"""The validation of users' documents, and their encoding in the store.

A document is any JSON value. In the store its names are escaped, so that every name is valid in a
MongoDB path: `.` becomes `%2E`, `$` becomes `%24`, `%` becomes `%25`, and the empty name becomes `%`.
Decoding restores values, their types (1 and 1.0, 64-bit integers) and the order of names. If JSON text
repeats a name, the last value counts, in the first one's place.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple, TypeAlias

import bson
import msgspec

from aidevos.contracts.errors import Failure
from aidevos.queries import INT64, MAX_DEPTH

MAX_SIZE = 1 << 20
# The stored form of a document is at most this many times as large as its JSON: an element of a list takes at least
# two bytes of JSON, and at most 13 besides its text in BSON.
GROWTH = 8
NAME = "data"
QUOTES = "'\""
# A message, and the path below the checked value.
_Fault: TypeAlias = tuple[str, str] | None
_special = re.compile(r"[%.$]")
_escaped = re.compile(r"%(?:(2E|24|25)|$)")
_characters = {"2E": ".", "24": "$", "25": "%", None: ""}


class Document(NamedTuple):
    """A valid document: its value, the value as the store keeps it, and its JSON."""

    value: Any
    stored: Any
    text: bytes


def check(data: Any, field: str = NAME) -> Document:
    """Return the document with this value.

    Raises `invalid`, with the path as in `data.a.b[3]`, for a value that isn't JSON or can't be stored. Integers must
    fit into 64 bits, floats must be finite, text must be valid Unicode, and names may not contain NUL. Maps and lists
    nest at most 64 levels deep. The whole has at most 1 MiB, both as JSON and as stored.
    """
    fault = _find_fault(data, MAX_DEPTH)
    if fault is not None:
        raise Failure("invalid", fault[0], field=field + fault[1])
    stored, text = encode(data), msgspec.json.encode(data)
    size = len(text) if len(text) * GROWTH <= MAX_SIZE else max(len(text), len(bson.encode({NAME: stored})))
    if size > MAX_SIZE:
        detail = f"a document may have at most {MAX_SIZE} bytes, as JSON and as stored, and this one has {size}"
        raise Failure("invalid", detail, field=field)
    return Document(data, stored, text)


def encode(data: Any) -> Any:
    """Encode a value for the store. The value must have passed `check`."""
    kind = type(data)
    if kind is dict:
        return {escape(name): encode(item) for name, item in data.items()}
    return [encode(item) for item in data] if kind is list else data


def decode(stored: Any) -> Any:
    """Return the value that was encoded."""
    kind = type(stored)
    if kind is dict:
        return {unescape(name): decode(item) for name, item in stored.items()}
    return [decode(item) for item in stored] if kind is list else stored


def to_json(stored: Any) -> msgspec.Raw:
    """Return the value that was encoded, as JSON."""
    # Every escape contains a percent sign, so text without one needs no decoding.
    text = msgspec.json.encode(stored)
    return msgspec.Raw(text if b"%" not in text else msgspec.json.encode(decode(stored)))


def escape(name: str) -> str:
    """Escape a name for the store and its paths."""
    if name.isalnum():
        return name
    return _special.sub(lambda match: f"%{ord(match[0]):X}", name) or "%"


def unescape(name: str) -> str:
    """Return the name that was escaped."""
    return _escaped.sub(lambda match: _characters[match[1]], name) if "%" in name else name


def _find_fault(value: Any, levels: int) -> _Fault:
    """Return the first fault in a value, or None."""
    kind = type(value)
    if kind is str:
        return None if _is_unicode(value) else ("text must be valid Unicode", "")
    if kind is int:
        return None if value in INT64 else ("integers must fit into 64 bits", "")
    if kind is float:
        return None if math.isfinite(value) else ("numbers must be finite", "")
    if kind is dict or kind is list:
        if levels == 0:
            return f"values may nest at most {MAX_DEPTH} levels deep", ""
        return _find_fault_in_list(value, levels - 1) if kind is list else _find_fault_in_map(value, levels - 1)
    return None if value is None or kind is bool else ("this is not a JSON value", "")


def _find_fault_in_list(value: list[Any], levels: int) -> _Fault:
    for index, item in enumerate(value):
        fault = _find_fault(item, levels)
        if fault is not None:
            return fault[0], f"[{index}]{fault[1]}"
    return None


def _find_fault_in_map(value: dict[Any, Any], levels: int) -> _Fault:
    for name, item in value.items():
        if type(name) is not str or "\0" in name or not _is_unicode(name):
            return "a name must be valid Unicode without NUL", f".{ascii(name).strip(QUOTES)}"
        fault = _find_fault(item, levels)
        if fault is not None:
            return fault[0], f".{name}{fault[1]}"
    return None


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
