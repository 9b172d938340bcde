r"""Keys of indexes: text whose order by characters is the order of the indexed values.

Missing values come first, then null, false, true, numbers, texts by their code points, and finally
maps and lists, which all compare as equal. Integers and floats are ordered by their exact value. Only the
first 1025 characters of a text count. A descending part of a key has its bits inverted.

A key is text and not binary, because MongoDB orders binary values by their length first. Each character
is one byte: the first is the class of the value, the others order the value within its class. No part is
a prefix of another, so a part never affects the order of the one before it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from aidevos.queries import MISSING, Compare, OneOf, StartsWith, at

from .paths import Field, parse_field
from .terms import Index

# The longest text in a filter. A longer text in a document is cut one character later, so that it never
# equals a text in a filter.
MAX_TEXT = 1024
ABSENT, NULL, FALSE, TRUE, NUMBER, TEXT, OTHER = (bytes([order]) for order in range(1, 8))
Ranged: TypeAlias = Compare | OneOf | StartsWith
# Appended to a prefix, this sorts after every key with that prefix.
END = "\u0100"
_inverted = bytes(255 - byte for byte in range(256))


class Range(NamedTuple):
    """The keys from `low`, inclusive, to `high`, exclusive."""

    low: str
    high: str

    def intersect(self, other: Range) -> Range:
        """Return the keys that are in both ranges."""
        return Range(max(self.low, other.low), min(self.high, other.high))


def encode_key(values: Iterable[tuple[Any, bool]]) -> str:
    """Return the key for pairs of a value and True if it is descending. `MISSING` is allowed as a value."""
    return b"".join(_encode_part(value, descending) for value, descending in values).decode("latin-1")


def compute_index_keys(indexes: dict[str, Index], data: Any, item: str) -> dict[str, str]:
    """Return a document's keys in these indexes, by slot."""
    return {slot: compute_key(index.paths, data, item) for slot, index in indexes.items()}


def compute_key(paths: tuple[str, ...], data: Any, item: str) -> str:
    """Return a document's key in the index of these paths. It ends in the item's ID and is so unique."""
    return encode_key([(at(data, field.path), field.descending) for field in parse_index(paths)]) + item


@lru_cache(maxsize=10_000)
def parse_index(paths: tuple[str, ...]) -> tuple[Field, ...]:
    """Return the fields by which an index is ordered."""
    return tuple(parse_field(path, "indexes") for path in paths)


def compute_key_range(
    prefix: Sequence[tuple[Any, bool]], conditions: Iterable[Ranged] = (), descending: bool = False
) -> Range:
    """Return the range of keys that begin with these values and whose next value satisfies all conditions.

    `prefix` has pairs as in `encode_key`, and `descending` is the next value's direction. For an `OneOf` the
    range spans from the first to the last value, so it may contain other values.
    """
    before = encode_key(prefix)
    found = Range(before, before + END)
    for condition in conditions:
        low, high = _find_bounds(condition, descending)
        found = found.intersect(Range(before + low, before + high))
    return found


def _encode_part(value: Any, descending: bool) -> bytes:
    part = _encode(value)
    return part.translate(_inverted) if descending else part


def _encode(value: Any) -> bytes:
    kind = type(value)
    if kind is str:
        return TEXT + _escape(value[: MAX_TEXT + 1]) + b"\0\x01"
    if kind is int or kind is float:
        return NUMBER + _encode_number(value)
    if kind is bool:
        return TRUE if value else FALSE
    if value is None:
        return NULL
    return ABSENT if value is MISSING else OTHER


def _escape(text: str) -> bytes:
    return text.encode().replace(b"\0", b"\0\xff")


def _encode_number(value: int | float) -> bytes:
    """Encode the nearest float, with its bits arranged to sort like the float, and the rest of an integer."""
    nearest = float(value)
    (bits,) = struct.unpack(">q", struct.pack(">d", nearest))
    rest = value - int(nearest) if type(value) is int else 0
    return struct.pack(">QH", bits + 2**63 if bits >= 0 else -bits, rest + 2**15)


def _find_bounds(condition: Ranged, descending: bool) -> tuple[str, str]:
    """Return the bounds, as in `Range`, of the encoded values that satisfy a condition."""
    if isinstance(condition, OneOf):
        parts = sorted(encode_key([(value, descending)]) for value in condition.values)
        return (parts[0], parts[-1] + END) if parts else (END, "")
    if isinstance(condition, StartsWith):
        prefix = _decode_part(TEXT + _escape(condition.prefix), descending)
        return prefix, prefix + END
    value, operator = condition.value, condition.operator
    here = encode_key([(value, descending)])
    if operator == "eq":
        return here, here + END
    value_class = _decode_part(TEXT if type(value) is str else NUMBER, descending)
    side = here + END if (operator in ("gt", "lte")) != descending else here
    if (operator in ("gt", "gte")) != descending:
        return side, value_class + END
    return value_class, side


def _decode_part(part: bytes, descending: bool) -> str:
    return (part.translate(_inverted) if descending else part).decode("latin-1")
