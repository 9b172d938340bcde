"""The methods that the framework adds to types with the option `history`."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from aidevos.contracts import objects
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import LIST_LIMIT, Comparison, DurableObject, VersionPage, VersionState
from aidevos.durable.objects.declaration import command, query
from aidevos.durable.objects.object import MANAGE, BaseDurableObject


class Versioned(BaseDurableObject[Any]):
    """The source of the methods, which run on objects of other classes. Only types that are `raw` show states."""

    @query(allow=MANAGE, name=objects.VERSIONS)
    async def list_versions(self, limit: int = 50, cursor: str | None = None) -> VersionPage:
        """Return the kept versions, the newest first. Raises `not-found` for an object that never existed."""
        if not 1 <= limit <= LIST_LIMIT:
            raise Failure("invalid", f"the limit must be from 1 to {LIST_LIMIT}", field="args.limit")
        if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
            raise Failure("invalid", "this is not a cursor of this list", field="args.cursor")
        found = await self.versions.list(None if cursor is None else int(cursor), limit + 1)
        if not found and not self._running().exists:
            raise _missing(self)
        more = str(found[limit - 1].version) if len(found) > limit else None
        return VersionPage(items=found[:limit], next_cursor=more)

    @query(allow=MANAGE, name=objects.READ_VERSION)
    async def read_version(self, version: int) -> VersionState:
        """Return one version with its state, which is null for a deletion."""
        self._allow_management("raw")
        found = await self.versions.describe(version)
        state = None if found.deleted else _plain(await self.versions.read(version))
        return VersionState(**msgspec.structs.asdict(found), state=state)

    @query(allow=MANAGE, name=objects.COMPARE)
    async def compare_versions(self, before: int, after: int | None = None) -> Comparison:
        """Return the JSON patch (RFC 6902) that makes the state of `after` of that of `before`.

        Without `after`, compare with the state of now.
        """
        self._allow_management("raw")
        first = _plain(await self.versions.read(before))
        if after is None and not self._running().exists:
            raise _missing(self)
        last = _plain(self.state if after is None else await self.versions.read(after))
        patch = await asyncio.to_thread(_make_patch, first, last)
        return Comparison(before=before, after=self.version if after is None else after, patch=patch)

    @command(allow=MANAGE, name=objects.RESTORE)
    async def restore_version(self, version: int) -> DurableObject:
        """Make the state of a version the object's state, as a new version. Raises `not-found`."""
        self._allow_management("raw", "lifecycle")
        await self.versions.restore(version)
        await self.on_restore(version)
        return self._running().view()


METHODS: tuple[Any, ...] = (
    Versioned.list_versions,
    Versioned.read_version,
    Versioned.compare_versions,
    Versioned.restore_version,
)


def _missing(absent: BaseDurableObject[Any]) -> Failure:
    return Failure("not-found", f"there is no object {absent.object_type}:{absent.id}")


def _plain(state: Any) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(state))
    return plain


def _make_patch(first: dict[str, Any], last: dict[str, Any]) -> list[dict[str, Any]]:
    from jsonpatch import make_patch

    patch: list[dict[str, Any]] = make_patch(first, last).patch
    return patch
