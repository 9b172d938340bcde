"""The versions of one object that are in its document.

Promise: each turn that makes a version adds it to the commit of that turn, also if one commit merges several turns. A
version that a caller has seen is therefore kept, and one that was never committed is not. No commit is made for the
history alone.

The newest versions are in the document. Older ones are in a collection of the type, and were written there before they
left the document. They leave it with the object's next commit, whatever that is for. An object that comes back into
memory before has them in both places, where they are the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import zstandard

from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import ObjectVersion
from aidevos.contracts.times import rfc3339_of
from aidevos.durable.objects.history import Kept
from aidevos.durable.store import codec
from aidevos.durable.turns.completion import Changes

IN_DOCUMENT = 32
BYTES_IN_DOCUMENT = 64 * 1024
# Smaller states hardly shrink.
COMPRESSED_FROM = 256
OVERHEAD = 160


class Author(NamedTuple):
    """The caller, method and request that made a version. One of before the history has no known author."""

    caller: str = ""
    method: str = ""
    request_id: str = ""


class Version(NamedTuple):
    """One version of an object. `state` is encoded and perhaps `packed`; None is a deletion. `at` is in seconds."""

    number: int
    at: float
    author: Author
    schema: int
    state: bytes | None
    packed: bool = False

    @classmethod
    def of(cls, number: int, at: float, author: Author, schema: int, state: bytes | None) -> Self:
        """Return a version whose encoded state is packed where that makes it smaller."""
        if state is not None and len(state) >= COMPRESSED_FROM:
            packed = zstandard.compress(state, 1)
            if len(packed) < len(state):
                return cls(number, at, author, schema, packed, True)
        return cls(number, at, author, schema, state)

    @classmethod
    def from_document(cls, number: int, document: dict[str, Any]) -> Self:
        state = document.get("d")
        author = Author(document["c"], document["m"], document["r"])
        return cls(number, document["t"], author, document["s"], None if state is None else bytes(state), document["z"])

    def to_document(self) -> dict[str, Any]:
        caller, method, request_id = self.author
        document = {"t": self.at, "c": caller, "m": method, "r": request_id, "s": self.schema, "z": self.packed}
        # What "d" would tell, where the states are left out.
        return document | ({"x": True} if self.state is None else {"d": self.state})

    @property
    def size(self) -> int:
        return OVERHEAD + len(self.state or b"") + sum(map(len, self.author))

    def decode(self) -> dict[str, Any]:
        """Return the state as it was stored. Raises `conflict` for a deletion."""
        if self.state is None:
            raise Failure("conflict", f"version {self.number} is the deletion of the object")
        return codec.decode(zstandard.decompress(self.state) if self.packed else self.state)


def describe(number: int, document: dict[str, Any]) -> ObjectVersion:
    """Return a stored version as callers see it."""
    return ObjectVersion(
        version=number,
        at=rfc3339_of(document["t"]),
        caller=document["c"],
        method=document["m"],
        request_id=document["r"],
        schema_version=document["s"],
        deleted="x" in document,
    )


class History:
    """The history of one activation: a mirror of `history` in its document that tracks unwritten changes."""

    def __init__(self, kept: Kept, document: dict[str, Any]) -> None:
        self.kept = kept
        # The version with which this history began; nothing before it belongs to it.
        self.first: int = document.get("first", 0)
        # True if the collection may hold versions of the object.
        self.moved: bool = document.get("moved", False)
        entries = sorted((int(number), entry) for number, entry in document.get("entries", {}).items())
        self.entries = {number: Version.from_document(number, entry) for number, entry in entries}
        self.size = sum(version.size for version in self.entries.values())
        # True while versions are on their way to the collection.
        self.moving = False
        # The version that the document shows without an entry, because its type kept no history when it was made.
        self._unwritten: Version | None = None
        self._left: list[int] = []
        self._must_trim = False

    @property
    def latest(self) -> int:
        """The number of the newest version; 0 without one."""
        return next(reversed(self.entries), 0)

    def adopt(self, version: Version) -> None:
        """Add the version that the document shows; its entry is written with the next one."""
        self._unwritten = self.entries[version.number] = version
        self.size += version.size

    def add(self, version: Version, changes: Changes) -> None:
        """Add the version that a turn has made to its commit."""
        unwritten, self._unwritten = self._unwritten, None
        if unwritten is not None and unwritten.number in self.entries:
            changes.put(f"history.entries.{unwritten.number}", unwritten.to_document())
        self.entries[version.number] = version
        self.size += version.size
        changes.put(f"history.entries.{version.number}", version.to_document())

    def begin(self, first: int, changes: Changes) -> None:
        """Begin anew with the version `first`: what was before no longer belongs to this object."""
        for number in [number for number in self.entries if number < first]:
            self.size -= self.entries.pop(number).size
            changes.drop(f"history.entries.{number}")
        self._unwritten = None
        self.first = changes.set["history.first"] = first
        self._must_trim = self.moved or self.moving

    def seal(self, changes: Changes) -> None:
        """Let the versions that were moved leave the document with this commit."""
        if self._left:
            for number in self._left:
                changes.drop(f"history.entries.{number}")
            self._left = []
            changes.set["history.moved"] = True

    def lowest(self, latest: int) -> int:
        """Return the lowest number that is kept if `latest` is the newest."""
        return max(self.first, latest - self.kept.most + 1)

    def is_current(self, at: float, now: float) -> bool:
        """Return True if a version of this time is young enough to be kept."""
        return self.kept.age is None or at > now - self.kept.age

    @property
    def needs_moving(self) -> bool:
        """True if versions should move to the collection, or some there are no longer kept."""
        crowded = len(self.entries) > 1 and (len(self.entries) > IN_DOCUMENT or self.size > BYTES_IN_DOCUMENT)
        return (crowded or self._must_trim) and not self.moving

    def movable(self, committed: int) -> list[Version]:
        """Return all committed versions in the document but the newest one, which stays."""
        latest = self.latest
        return [version for number, version in self.entries.items() if number <= committed and number != latest]

    def leave(self, versions: list[Version], trimmed: int) -> None:
        """Note that these versions are in the collection now, and that it was trimmed below a number."""
        for version in versions:
            if self.entries.get(version.number) is version:
                self.size -= self.entries.pop(version.number).size
                self._left.append(version.number)
        self.moved = self.moved or bool(versions)
        self._must_trim = self._must_trim and trimmed < self.first
