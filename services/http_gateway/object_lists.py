"""Lists of objects of several types, one type after another; a cursor holds the type and the position in it."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from aidevos.contracts import objects, subjects
from aidevos.contracts.errors import Failure

from .forwarder import Forwarder

CURSOR_LIMIT = 4096
# Deadlines in seconds for each type when all types are listed, one after another, and counted, all at once.
LISTED_WITHIN, COUNTED_WITHIN = 1.0, 5.0
# Failures of a type that no process serves at the moment, or any more.
UNSERVED = frozenset({"unavailable", "unknown-type"})


class Position(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A type and the host's own cursor in it; None stands for the first page."""

    type: str
    cursor: str | None = None


class Page(msgspec.Struct):
    """A page of a list; the items pass through as the host encoded them."""

    items: list[msgspec.Raw]
    next_cursor: str | None = None
    count: int | msgspec.UnsetType | None = msgspec.UNSET
    left_out: list[str] | msgspec.UnsetType = msgspec.UNSET


_page = msgspec.json.Decoder(Page)
_position = msgspec.json.Decoder(Position)


def encode_cursor(position: Position) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).rstrip(b"=").decode()


def decode_cursor(cursor: str) -> Position:
    """Return the position in a cursor. Raises `invalid` for text that `encode_cursor` didn't make."""
    try:
        text = cursor.encode("ascii")[: CURSOR_LIMIT + 1]
        position = _position.decode(base64.b64decode(text + b"=" * (-len(text) % 4), b"-_", validate=True))
    except (UnicodeError, binascii.Error, msgspec.DecodeError, RecursionError):
        position = None
    if position is None or encode_cursor(position) != cursor:
        raise Failure("invalid", "this isn't a cursor of a list", field="cursor")
    return position


class ObjectLists:
    """Pages of objects, read on a caller's behalf."""

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder

    async def list_type(
        self, type: str, cursor: str | None, limit: int, project: str | None, options: dict[str, Any]
    ) -> Page:
        """Return a page of one type's objects. Raises `Failure`."""
        position = Position(type) if cursor is None else decode_cursor(cursor)
        if position.type != type:
            raise Failure("invalid", "the cursor belongs to a list of another type", field="cursor")
        page = await self._read(type, position.cursor, limit, project, options)
        return _make_page(page.items, Position(type, page.next_cursor) if page.next_cursor is not None else None)

    async def list_types(
        self, types: Iterable[str], cursor: str | None, limit: int, project: str | None, options: dict[str, Any]
    ) -> Page:
        """Return a page of the objects of several types, sorted by type and ID, but for types that nobody serves."""
        position = Position("") if cursor is None else decode_cursor(cursor)
        options = _within(LISTED_WITHIN, options)
        items: list[msgspec.Raw] = []
        left_out: list[str] = []
        for type in (type for type in types if type >= position.type):
            if len(items) == limit:
                return _make_page(items, Position(type), left_out)
            inner = position.cursor if type == position.type else None
            try:
                page = await self._read(type, inner, limit - len(items), project, options)
            except Failure as failure:
                if failure.code not in UNSERVED:
                    raise
                left_out.append(type)
                continue
            items += page.items
            if page.next_cursor is not None:
                return _make_page(items, Position(type, page.next_cursor), left_out)
        return _make_page(items, None, left_out)

    async def count_type(self, type: str, project: str | None, options: dict[str, Any]) -> int | None:
        """Return the number of a type's objects, or None if there are too many to count in time. Raises `Failure`."""
        page = await self._read(type, None, 1, project, options, count=True)
        return page.count if isinstance(page.count, int) else None

    async def count_types(
        self, types: Sequence[str], project: str | None, options: dict[str, Any]
    ) -> tuple[int | None, list[str]]:
        """Return the number of objects of several types as `count_type` does, and the types that nobody serves."""
        options = _within(COUNTED_WITHIN, options)
        counting = (self.count_type(type, project, options) for type in types)
        found = dict(zip(types, await asyncio.gather(*counting, return_exceptions=True), strict=True))
        left_out = [type for type, count in found.items() if isinstance(count, Failure) and count.code in UNSERVED]
        total: int | None = 0
        for type in (type for type in types if type not in left_out):
            count = found[type]
            if isinstance(count, BaseException):
                raise count
            total = None if total is None or count is None else total + count
        return total, left_out

    async def _read(
        self,
        type: str,
        cursor: str | None,
        limit: int,
        project: str | None,
        options: dict[str, Any],
        *,
        count: bool = False,
    ) -> Page:
        wanted = {"limit": limit, "cursor": cursor, "project": project} | ({"count": True} if count else {})
        arguments = msgspec.json.encode(wanted)
        return _page.decode(
            await self._forwarder.request_with_body(subjects.query(type, objects.LIST), arguments, options)
        )


def _within(seconds: float, options: dict[str, Any]) -> dict[str, Any]:
    return options | {"deadline": min(options["deadline"] or seconds, seconds)}


def _make_page(items: list[msgspec.Raw], position: Position | None, left_out: Sequence[str] = ()) -> Page:
    cursor = None if position is None else encode_cursor(position)
    return Page(items, cursor, left_out=list(left_out) or msgspec.UNSET)
