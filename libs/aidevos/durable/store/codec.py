"""State and records as BSON, encoded once per turn.

The encoded state serves five ends: it shows whether a turn changed anything, bounds the size,
finds what MongoDB can't hold while the turn can still be undone, is what a raised turn is rolled
back to, and goes into the commit as it is.
"""

from __future__ import annotations

from datetime import UTC
from typing import Any

import bson
import msgspec
from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry
from bson.errors import InvalidDocument
from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument

from aidevos.contracts.errors import Failure

MAX_DEPTH = 64
INT64 = range(-(2**63), 2**63)


class _PlainInt(TypeDecoder):
    bson_type = Int64

    def transform_bson(self, value: Any) -> int:
        return int(value)


OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True, tzinfo=UTC, type_registry=TypeRegistry([_PlainInt()])
)
RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument, tz_aware=True, tzinfo=UTC)


def encode(value: Any, field: str = "state") -> bytes:
    """BSON of a struct or a map; raises `invalid`, naming the path below `field` that can't be kept."""
    document = msgspec.to_builtins(value, str_keys=True)
    try:
        return bson.encode(document)
    except (OverflowError, InvalidDocument, RecursionError, UnicodeEncodeError) as error:
        check(document, field)
        raise Failure("invalid", f"the value can't be stored: {error}", field=field) from None


def may_nest_too_deep(encoded: bytes) -> bool:
    """Whether a look at the value itself is needed: each level has a byte 3 or 4 of its own."""
    return encoded.count(3) + encoded.count(4) > MAX_DEPTH


def encode_document(document: dict[str, Any]) -> bytes:
    """BSON of a document of the framework's own, bytes as they are."""
    return bson.encode(document)


def decode(encoded: bytes) -> dict[str, Any]:
    """A document as Python's own maps, lists and scalars; a map with the key `$ref` is a map."""
    if b"$ref\0" in encoded:
        plain: dict[str, Any] = _plain(RawBSONDocument(encoded, RAW))
        return plain
    return bson.decode(encoded, OPTIONS)


def _plain(value: Any) -> Any:
    if isinstance(value, RawBSONDocument):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, Int64) else value


def raw(encoded: bytes) -> RawBSONDocument:
    """The encoded document as a value of an update, not encoded again."""
    return RawBSONDocument(encoded)


def check(value: Any, path: str, depth: int = 0) -> None:
    """Refuse what MongoDB can't hold, before any code sees it: integers beyond 64 bit, NUL in keys,
    text that is not Unicode, nesting beyond 64 levels. Raises `invalid` with the path."""
    kind = type(value)
    if kind is int:
        if value not in INT64:
            raise Failure("invalid", "integers must fit into 64 bit", field=path)
    elif kind is str:
        if not value.isascii():
            _check_text(value, path)
    elif kind is dict:
        _check_depth(depth, path)
        for key, item in value.items():
            if type(key) is str:
                if "\0" in key:
                    raise Failure("invalid", "a key must not contain NUL", field=path)
                _check_text(key, path)
            check(item, f"{path}.{key}", depth + 1)
    elif kind in (list, tuple, set, frozenset):
        _check_depth(depth, path)
        for index, item in enumerate(value):
            check(item, f"{path}.{index}", depth + 1)
    elif isinstance(value, msgspec.Struct):
        _check_depth(depth, path)
        for name in value.__struct_fields__:
            check(getattr(value, name), f"{path}.{name}", depth + 1)


def _check_depth(depth: int, path: str) -> None:
    if depth > MAX_DEPTH:
        raise Failure("invalid", f"values nest at most {MAX_DEPTH} levels deep", field=_shorten(path))


def _check_text(text: str, path: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Failure("invalid", "text must be valid Unicode", field=_shorten(path)) from None


def _shorten(path: str) -> str:
    return path if len(path) <= 200 else path[:200] + "…"
