"""Patches of documents: merge patches (RFC 7396) and JSON patches (RFC 6902).

A patch is applied to a copy, completely or not at all. Its result is not checked here and may be too
large or too deep for a document. A JSON patch has at most `MAX_OPERATIONS` operations. Its copy
operations copy at most `MAX_COPIED` bytes of JSON in total, so that it can't double a document repeatedly.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import msgspec
from jsonpatch import JsonPatch, JsonPatchException, JsonPatchTestFailed
from jsonpointer import JsonPointer, JsonPointerException

from aidevos import Schema
from aidevos.contracts.errors import Failure
from aidevos.contracts.merge_patch import merge_patch

MAX_OPERATIONS = 1000
MAX_COPIED = 1 << 20
Kind = Literal["merge", "json"]


class _Operation(msgspec.Struct, tag_field="op"):
    path: str


class _Add(_Operation, tag="add"):
    value: Any


class _Replace(_Operation, tag="replace"):
    value: Any


class _Test(_Operation, tag="test"):
    value: Any


class _Remove(_Operation, tag="remove"):
    pass


class _Move(_Operation, tag="move"):
    source: str = msgspec.field(name="from")


class _Copy(_Operation, tag="copy"):
    source: str = msgspec.field(name="from")


def apply(data: Any, patch: Any, kind: Kind, field: str) -> Any:
    """Return the patched data.

    Raises `invalid` for a malformed patch or one beyond its bounds. Raises `conflict` if the data lacks a
    value that an operation needs, or fails a test operation. The failure's field is `field` with the
    operation's index.
    """
    return merge_patch(data, patch) if kind == "merge" else _apply_json_patch(data, patch, field)


def _apply_json_patch(data: Any, patch: Any, field: str) -> Any:
    operations = _operations(field).convert(patch)
    if len(operations) > MAX_OPERATIONS:
        raise Failure("invalid", f"a patch may have at most {MAX_OPERATIONS} operations", field=field)
    data = msgspec.json.decode(msgspec.json.encode(data))
    left = MAX_COPIED
    for index, operation in enumerate(operations):
        place = f"{field}[{index}]"
        _check_pointers(operation, place)
        try:
            if isinstance(operation, _Copy):
                left -= len(msgspec.json.encode(JsonPointer(operation.source).resolve(data)))
                if left < 0:
                    raise Failure("invalid", f"a patch may copy at most {MAX_COPIED} bytes in total", field=place)
            data = JsonPatch([patch[index]]).apply(data, in_place=True)
        except JsonPatchTestFailed:
            raise Failure("conflict", "the value differs from the tested one", field=place) from None
        except (JsonPatchException, JsonPointerException) as error:
            raise Failure("conflict", f"the data doesn't allow this operation: {error}", field=place) from None
        except RecursionError:
            raise Failure("invalid", "the patch produces values that nest too deeply", field=place) from None
    return data


@cache
def _operations(field: str) -> Schema[list[Any]]:
    return Schema(list[_Add | _Replace | _Test | _Remove | _Move | _Copy], field)


def _check_pointers(operation: Any, place: str) -> None:
    pointers = {"path": operation.path}
    if isinstance(operation, _Move | _Copy):
        pointers["from"] = operation.source
    for name, pointer in pointers.items():
        try:
            JsonPointer(pointer)
        except JsonPointerException as error:
            raise Failure("invalid", f"this is not a JSON pointer: {error}", field=f"{place}.{name}") from None
