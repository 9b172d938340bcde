"""Versions of objects outside their documents: one document for each, whose `_id` is the object's ID and the number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from bson import MinKey
from pymongo import DeleteMany, UpdateOne


def version_range(id: str, first: int, last: int) -> dict[str, Any]:
    """Return the filter for the versions of an object with these numbers, which the index of `_id` serves."""
    return {"_id": {"$gte": {"o": id, "v": first}, "$lte": {"o": id, "v": last}}}


async def keep_versions(
    collection: Any, id: str, versions: Sequence[tuple[int, dict[str, Any], datetime | None]], lowest: int
) -> None:
    """Store versions, and remove those below `lowest`. A version without an expiry time stays until then."""
    writes: list[Any] = [
        UpdateOne(
            {"_id": {"o": id, "v": number}},
            {"$set": {"version": version} | ({} if end is None else {"end": end})},
            upsert=True,
        )
        for number, version, end in versions
    ]
    below = {"_id": {"$gte": {"o": id, "v": MinKey()}, "$lt": {"o": id, "v": lowest}}}
    await collection.bulk_write([*writes, DeleteMany(below)], ordered=False)


async def purge_versions(collection: Any, objects: Iterable[tuple[str, int]]) -> None:
    """Remove the versions of objects up to these ones. Those of an object that exists again are newer."""
    ranges = [{"_id": {"$gte": {"o": id, "v": MinKey()}, "$lte": {"o": id, "v": last}}} for id, last in objects]
    await collection.bulk_write([DeleteMany(range) for range in ranges], ordered=False)
