"""Claims and commits of documents of the type `thing`, for tests of stores."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aidevos.durable.store import codec
from aidevos.durable.store.port import Claim, Commit, Document

# MongoDB keeps whole milliseconds.
NOW = datetime.now(UTC).replace(microsecond=0)


async def claimed(store: Any, *ids: str, owner: str = "one", partition: int = 7) -> dict[str, Document]:
    return dict(await store.claim("thing", [Claim(id, owner, partition) for id in ids]))


async def stored(store: Any, id: str) -> Document | None:
    found: dict[str, Document] = await store.read("thing", [id])
    return found.get(id)


def change(id: str, number: int = 1, *, owner: str = "one", **values: Any) -> Commit:
    """Return commit `number` after a document's first claim, which creates the object with these values."""
    made = {"state": codec.Encoded(codec.encode(values.pop("state", {}))), "made_at": NOW} | values
    return Commit(id, owner, number + 1, f"{owner}.{number}", made, ["deleted"], 200)


def tombstone(id: str, number: int = 1, **values: Any) -> Commit:
    """Return commit `number` after a document's first claim, which deletes the object."""
    values = {"deleted": NOW, "updated_at": NOW} | values
    return Commit(id, "one", number + 1, f"one.{number}", values, ["state"], 200)


def founding(id: str, owner: str = "one", **values: Any) -> Commit:
    """Return a commit that creates the document and the object."""
    return change(id, owner=owner, **values)._replace(founding=7, expected=1)
