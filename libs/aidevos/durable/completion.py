"""Completion records: the outcome of each command, kept in the commit that made it true.

Promise: a repeat of a request gets the recorded outcome and changes nothing: after a crash, on
another owner, at any rate of traffic, and however late the copy arrives.

Numbered requests (RIFL) are kept until their client acknowledges them; what stays is the client's
mark, below which every copy is refused as `stale`. A number carries its time of issue, and numbers
older than `age` are refused; only then is the mark itself dropped. IDs that a caller chose are kept
for `age`, tells for `tell_age`: the newest in the document, older ones in an archive that is
written before they leave the document, and asked only for objects that have moved some. Nothing is
ever forgotten to make room: past its bounds an object answers `overloaded`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import takewhile
from typing import Any, NamedTuple

from aidevos.contracts.errors import Failure
from aidevos.durable.client import issued_at
from aidevos.durable.clock import timestamp
from aidevos.durable.request import Answer, RequestKey
from aidevos.durable.store import codec

CHOSEN_IN_DOCUMENT = 256
MOVED_AT_ONCE = 128
SWEEP_EVERY = 600.0
OVERHEAD = 96


class Bounds(NamedTuple):
    """`age` and `tell_age` in seconds, `bytes` of all records of one object."""

    age: float = 86_400.0
    tell_age: float = 7 * 86_400.0
    clients: int = 10_000
    records: int = 20_000
    bytes: int = 6 * 1024 * 1024


class Record(NamedTuple):
    fingerprint: bytes
    payload: bytes
    failed: bool
    at: float
    tell: bool

    @property
    def answer(self) -> Answer:
        return Answer(self.payload, self.failed)

    @property
    def size(self) -> int:
        return len(self.payload) + OVERHEAD

    def to_document(self) -> dict[str, Any]:
        return {"h": self.fingerprint, "p": self.payload, "f": self.failed, "t": self.at, "l": self.tell}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Record:
        return cls(bytes(document["h"]), bytes(document["p"]), document["f"], document["t"], document["l"])


class Mark(NamedTuple):
    lowest: int
    at: float


class Changes:
    """Dotted paths that the next commit sets and unsets; the last word on a path counts."""

    def __init__(self) -> None:
        self.set: dict[str, Any] = {}
        self.unset: dict[str, None] = {}
        self.size = 0

    def put(self, path: str, value: dict[str, Any]) -> int:
        encoded = codec.encode(value, path)
        self.unset.pop(path, None)
        self.set[path] = codec.raw(encoded)
        self.size += len(encoded) + len(path)
        return len(encoded)

    def drop(self, path: str) -> None:
        self.set.pop(path, None)
        self.unset[path] = None
        self.size += len(path) + 8


class CompletionRecords:
    """The records of one activation: a mirror of `replies` in its document."""

    def __init__(self, replies: dict[str, Any], archived: bool, bounds: Bounds) -> None:
        self._bounds = bounds
        self._marks = {client: Mark(mark["m"], mark["t"]) for client, mark in replies.get("marks", {}).items()}
        self._done: dict[str, dict[int, Record]] = {}
        self._chosen = {key: Record.from_document(item) for key, item in replies.get("chosen", {}).items()}
        self.archived = archived
        self.generation = 0
        self.size = len(self._marks) * OVERHEAD + sum(record.size for record in self._chosen.values())
        self.count = len(self._chosen)
        self._next_sweep = 0.0
        for key, item in replies.get("done", {}).items():
            client, _, number = key.rpartition("-")
            self._keep(client, int(number), Record.from_document(item))

    def find(self, key: RequestKey, fingerprint: bytes, now: float) -> Record | None:
        """The record of an earlier copy; raises `stale` or `request-id-reused`."""
        if key.client:
            mark = self._marks.get(key.client)
            if (mark and key.number < mark.lowest) or issued_at(key.number) < now - self._bounds.age:
                raise Failure("stale", "this request was settled, or is too old to be repeated", field="Request-Id")
            record = self._done.get(key.client, {}).get(key.number)
        else:
            record = self._chosen.get(key.key)
        return check_same(record, fingerprint)

    def admit(self, key: RequestKey) -> None:
        """Raise `overloaded` when there is no room for another record."""
        full = self.count >= self._bounds.records or self.size >= self._bounds.bytes
        if full or (key.client and key.client not in self._marks and len(self._marks) >= self._bounds.clients):
            raise Failure("overloaded", "the object has too many unsettled requests", retry_after=5.0)

    def add(self, key: RequestKey, record: Record, changes: Changes) -> None:
        """Record an outcome, and drop what the client has acknowledged with this request."""
        if key.client:
            changes.put(f"replies.done.{key.key}", record.to_document())
            self._keep(key.client, key.number, record)
            self._acknowledge(key, record.at, changes)
        else:
            changes.put(f"replies.chosen.{key.key}", record.to_document())
            self._chosen[key.key] = record
            self.size += record.size
            self.count += 1

    def sweep(self, now: float, changes: Changes) -> None:
        """Drop what is past its age; cheap to call in every turn."""
        if now < self._next_sweep:
            return
        self._next_sweep = now + SWEEP_EVERY
        for client, mark in list(self._marks.items()):
            if mark.at < now - self._bounds.age:
                changes.drop(f"replies.marks.{client}")
                del self._marks[client]
                self.size -= OVERHEAD
                for number in list(self._done.get(client, ())):
                    self._forget(client, number, changes)
        for key, record in list(self._chosen.items()):
            if self.end(record) < now:
                self.leave(key, changes)

    def end(self, record: Record) -> float:
        """When a chosen record's life ends, in seconds since the epoch."""
        return record.at + (self._bounds.tell_age if record.tell else self._bounds.age)

    def oldest(self) -> list[tuple[str, Record]]:
        """The chosen records that should move to the archive now."""
        if len(self._chosen) <= CHOSEN_IN_DOCUMENT:
            return []
        return [item for item, _ in zip(self._chosen.items(), range(MOVED_AT_ONCE), strict=False)]

    def for_archive(self, records: list[tuple[str, Record]]) -> Iterator[tuple[str, dict[str, Any], datetime]]:
        return ((key, record.to_document(), timestamp(self.end(record))) for key, record in records)

    def leave(self, key: str, changes: Changes) -> None:
        """Drop a chosen record from the document: it is archived, or past its age."""
        record = self._chosen.pop(key, None)
        if record is not None:
            changes.drop(f"replies.chosen.{key}")
            self.size -= record.size
            self.count -= 1

    def _acknowledge(self, key: RequestKey, now: float, changes: Changes) -> None:
        mark = self._marks.get(key.client)
        lowest = max(key.ack, mark.lowest if mark else 0)
        if mark is None:
            self.size += OVERHEAD
        elif mark.lowest == lowest and mark.at > now - SWEEP_EVERY:
            return
        self._marks[key.client] = Mark(lowest, now)
        changes.put(f"replies.marks.{key.client}", {"m": lowest, "t": now})
        acknowledged = takewhile(lambda number: number < lowest, self._done[key.client])
        for number in list(acknowledged):
            self._forget(key.client, number, changes)

    def _keep(self, client: str, number: int, record: Record) -> None:
        self._done.setdefault(client, {})[number] = record
        self.size += record.size
        self.count += 1

    def _forget(self, client: str, number: int, changes: Changes) -> None:
        record = self._done[client].pop(number)
        changes.drop(f"replies.done.{client}-{number}")
        self.size -= record.size
        self.count -= 1
        if not self._done[client]:
            del self._done[client]


def check_same(record: Record | None, fingerprint: bytes) -> Record | None:
    """The record, if it is of this request; raises `request-id-reused` if it is of another."""
    if record is not None and record.fingerprint != fingerprint:
        raise Failure("request-id-reused", "this ID was used for another request", field="Request-Id")
    return record
