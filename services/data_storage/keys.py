r"""Keys of indexes: text whose order, character by character, is the order of values.

Missing values come first, then null, false, true, numbers, texts by their code points, and at last
maps and lists, which are all alike. Integers and floats are ordered by their exact value. Of a text
the first 1025 characters count. A descending part of a key has its bits inverted.

A key is text and not binary, since MongoDB orders binary values by their length first. Each of its
characters is a byte: one for the class of the value, then what orders it within its class. No part
is the beginning of another, so the next part never meddles in the order of the one before.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from aidevos.queries import MISSING, Compare, OneOf, StartsWith, at

from .paths import Field, parse_field
from .terms import Index

# The longest text that is compared with. A longer one in a document is cut behind it, and so it
# never looks like any that is compared with.
MAX_TEXT = 1024
ABSENT, NULL, FALSE, TRUE, NUMBER, TEXT, OTHER = (bytes([order]) for order in range(1, 8))
Ranged: TypeAlias = Compare | OneOf | StartsWith
# Behind every key that begins with what stands before it.
END = "\u0100"
_inverted = bytes(255 - byte for byte in range(256))


class Range(NamedTuple):
    """The keys from `low` on and before `high`."""

    low: str
    high: str

    def within(self, other: Range) -> Range:
        return Range(max(self.low, other.low), min(self.high, other.high))


def encode_key(values: Iterable[tuple[Any, bool]]) -> str:
    """The key of values, each with whether it is descending; `MISSING` is a value too."""
    return b"".join(_part(value, descending) for value, descending in values).decode("latin-1")


def index_keys(indexes: dict[str, Index], data: Any, item: str) -> dict[str, str]:
    """The keys of a document in these indexes, by slot. A key ends in the item's ID, so none is there twice."""
    return {slot: encode_key(_values(index.paths, data)) + item for slot, index in indexes.items()}


@lru_cache(maxsize=10_000)
def fields_of(paths: tuple[str, ...]) -> tuple[Field, ...]:
    """What an index is ordered by."""
    return tuple(parse_field(path, "indexes") for path in paths)


def key_range(prefix: Sequence[tuple[Any, bool]], conditions: Iterable[Ranged] = (), descending: bool = False) -> Range:
    """Where the keys are that begin with these values, and of whose next value, descending or not, all
    the conditions are true. Of an `OneOf` it is the range from the first to the last value."""
    before = encode_key(prefix)
    found = Range(before, before + END)
    for condition in conditions:
        low, high = _bounds(condition, descending)
        found = found.within(Range(before + low, before + high))
    return found


def _values(paths: tuple[str, ...], data: Any) -> list[tuple[Any, bool]]:
    return [(at(data, field.path), field.descending) for field in fields_of(paths)]


def _part(value: Any, descending: bool) -> bytes:
    part = _encode(value)
    return part.translate(_inverted) if descending else part


def _encode(value: Any) -> bytes:
    kind = type(value)
    if kind is str:
        return TEXT + _escape(value[: MAX_TEXT + 1]) + b"\0\x01"
    if kind is int or kind is float:
        return NUMBER + _number(value)
    if kind is bool:
        return TRUE if value else FALSE
    if value is None:
        return NULL
    return ABSENT if value is MISSING else OTHER


def _escape(text: str) -> bytes:
    return text.encode().replace(b"\0", b"\0\xff")


def _number(value: int | float) -> bytes:
    """The nearest float, whose bits are made to be in its order, and what is missing from it."""
    nearest = float(value)
    (bits,) = struct.unpack(">q", struct.pack(">d", nearest))
    rest = value - int(nearest) if type(value) is int else 0
    return struct.pack(">QH", bits + 2**63 if bits >= 0 else -bits, rest + 2**15)


def _bounds(condition: Ranged, descending: bool) -> tuple[str, str]:
    """Where the values are of which a condition is true."""
    if isinstance(condition, OneOf):
        parts = sorted(encode_key([(value, descending)]) for value in condition.values)
        return (parts[0], parts[-1] + END) if parts else (END, "")
    if isinstance(condition, StartsWith):
        begun = _text(TEXT + _escape(condition.prefix), descending)
        return begun, begun + END
    value, operator = condition.value, condition.operator
    here = encode_key([(value, descending)])
    if operator == "eq":
        return here, here + END
    whole = _text(TEXT if type(value) is str else NUMBER, descending)
    side = here + END if (operator in ("gt", "lte")) != descending else here
    if (operator in ("gt", "gte")) != descending:
        return side, whole + END
    return whole, side


def _text(part: bytes, descending: bool) -> str:
    return (part.translate(_inverted) if descending else part).decode("latin-1")
