"""States and records as BSON. A state is encoded once per turn.

The encoded state has five uses. It shows whether the turn changed anything and how large the state is. It reveals
values that MongoDB can't hold while the turn can still be undone. It is the snapshot that a failed turn is rolled back
to. And it goes into the commit without being encoded again.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC
from typing import Any, TypeAlias

import bson
import msgspec
from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry
from bson.errors import InvalidDocument
from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument

from aidevos.contracts.errors import Failure

MAX_DEPTH = 64
# A state may hold an argument somewhat deeper. MongoDB takes 100 levels.
STATE_DEPTH = 80
PATH_LIMIT = 256
INT64 = range(-(2**63), 2**63)
SCALARS = frozenset({float, bool, type(None), bytes})
SEQUENCES = frozenset({list, tuple, set, frozenset})


class _PlainInt(TypeDecoder):
    bson_type = Int64

    def transform_bson(self, value: Any) -> int:
        return int(value)


OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True, tzinfo=UTC, type_registry=TypeRegistry([_PlainInt()])
)
RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument, tz_aware=True, tzinfo=UTC)


def encode(value: Any, field: str = "state") -> bytes:
    """Encode a struct or a map as BSON.

    Raises `invalid` for a value that can't be stored. The error names its path, which begins with `field`.
    """
    try:
        document = msgspec.to_builtins(value, str_keys=True)
    except (TypeError, RecursionError) as error:
        raise Failure("invalid", f"the value can't be stored: {error}", field=field) from None
    try:
        return bson.encode(document)
    except (OverflowError, InvalidDocument, RecursionError, UnicodeEncodeError) as error:
        check_storable(document, field)
        raise Failure("invalid", f"the value can't be stored: {error}", field=field) from None


def may_nest_too_deep(encoded: bytes) -> bool:
    """True if the encoded value may nest more than `MAX_DEPTH` levels, so the value itself has to be checked.

    Each level contains a type byte, 3 for a map or 4 for a list, so there are at least as many such bytes as levels.
    """
    return encoded.count(3) + encoded.count(4) > MAX_DEPTH


def encode_document(document: dict[str, Any]) -> bytes:
    """Encode one of the framework's own documents as BSON. Unlike in `encode`, bytes stay bytes."""
    return bson.encode(document)


def decode(encoded: bytes) -> dict[str, Any]:
    """Decode a document to dicts, lists and scalars. A map with the key `$ref` stays a dict."""
    if b"$ref\0" in encoded:
        plain: dict[str, Any] = _to_plain(RawBSONDocument(encoded, RAW))
        return plain
    return bson.decode(encoded, OPTIONS)


def _to_plain(value: Any) -> Any:
    if isinstance(value, RawBSONDocument):
        return {key: _to_plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_to_plain(item) for item in value]
    return int(value) if isinstance(value, Int64) else value


class Encoded:
    """An encoded document as a value in an update, so that it isn't encoded again.

    For the driver's encoder, it is a `RawBSONDocument`, but it takes a tenth of the time to make.
    """

    __slots__ = ("raw",)
    _type_marker = RawBSONDocument._type_marker

    def __init__(self, raw: bytes) -> None:
        self.raw = raw


def check_storable(value: Any, field: str, depth: int = MAX_DEPTH) -> None:
    """Refuse values that MongoDB can't hold, before any other code sees them.

    These are integers beyond 64 bits, keys with NUL, keys and text that are not valid Unicode, and nesting beyond
    `depth` levels. Raises `invalid` with the path, which begins with `field`.
    """
    problem = _find_unstorable(value, depth)
    if problem is not None:
        detail, path = problem
        if detail is _TOO_DEEP:
            detail = f"values nest at most {depth} levels deep"
        raise Failure("invalid", detail, field=".".join([field, *reversed(path)])[:PATH_LIMIT])


_TOO_DEEP = "values nest too deep"
_Problem: TypeAlias = tuple[str, list[str]] | None


def _find_unstorable(value: Any, depth: int) -> _Problem:
    """Return a description of the first value that can't be stored and its path, innermost name first, or None.

    The value may have `depth` levels.
    """
    kind = type(value)
    if isinstance(value, msgspec.Struct) and depth >= 0:
        return _find_unstorable_in([(name, getattr(value, name)) for name in value.__struct_fields__], depth)
    if kind is int:
        return None if value in INT64 else ("integers must fit into 64 bits", [])
    if kind is str:
        return None if value.isascii() or _is_unicode(value) else ("text must be valid Unicode", [])
    if kind in SCALARS:
        return None
    if depth < 0:
        return _TOO_DEEP, []
    if kind is dict:
        return _find_unstorable_in_map(value, depth)
    if kind in SEQUENCES:
        return _find_unstorable_in(enumerate(value), depth)
    return None


def _find_unstorable_in_map(value: dict[Any, Any], depth: int) -> _Problem:
    for key in value:
        if type(key) is str and ("\0" in key or not (key.isascii() or _is_unicode(key))):
            return "a key must be valid Unicode without NUL", [ascii(key)[1:-1]]
    return _find_unstorable_in(value.items(), depth)


def _find_unstorable_in(items: Iterable[tuple[Any, Any]], depth: int) -> _Problem:
    for key, item in items:
        kind = type(item)
        if kind in SCALARS or (kind is int and item in INT64) or (kind is str and item.isascii()):
            continue
        problem = _find_unstorable(item, depth - 1)
        if problem is not None:
            problem[1].append(str(key))
            return problem
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
