"""Completion records: the outcome of each command, kept in the commit that made it true.

Promise: a repeat of a request gets the recorded outcome and changes nothing: after a crash, on
another owner, at any rate of traffic, and however late the copy arrives.

Numbered requests (RIFL) are kept until their client acknowledges them; what stays is the client's
mark, below which every copy is refused as `stale`. A number carries its time of issue, and numbers
older than `age` are refused; only then is the mark itself dropped. IDs that a caller chose are kept
for `age`, tells for `tell_age`. Of both the newest are in the document and older ones in an archive
that is written before they leave the document, and asked only for objects that have moved some.
Nothing is ever forgotten to make room: past its bounds an object answers `overloaded`.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, NamedTuple

import msgspec

from aidevos.contracts.errors import Failure
from aidevos.durable.client.client import issued_at
from aidevos.durable.store import codec
from aidevos.durable.turns.headers import Reply, RequestKey

CHOSEN_IN_DOCUMENT = 256
CHOSEN_BYTES = 512 * 1024
CLIENT_BYTES = 1024 * 1024
MOVED_AT_LEAST = 16
MOVED_AT_MOST = 1000
# How many times the clients that stay in the document may be there until the archive has taken some.
CROWD = 8
SWEEP_EVERY = 600.0
# Seconds by which a caller's clock may be ahead of ours.
CLOCK_SKEW = 60.0
OVERHEAD = 96
_FORGOTTEN = Reply.of(Failure("stale", "the outcome of this request was erased"))


class Bounds(NamedTuple):
    """`age` and `tell_age` in seconds; `clients` are those that stay in the document, `records` the
    unsettled ones of one client; `bytes` for the numbered records, and as much again for the chosen
    ones, while their archive can't be written."""

    age: float = 86_400.0
    tell_age: float = 7 * 86_400.0
    clients: int = 1000
    records: int = 20_000
    bytes: int = 3 * 1024 * 1024


class Changes:
    """Dotted paths that the next commit sets and unsets; the last word on a path counts."""

    def __init__(self) -> None:
        self.set: dict[str, Any] = {}
        self.unset: dict[str, None] = {}
        self.size = 0

    def put(self, path: str, value: dict[str, Any]) -> None:
        encoded = codec.encode_document(value)
        self.unset.pop(path, None)
        self.set[path] = codec.as_raw(encoded)
        self.size += len(encoded) + len(path)

    def drop(self, path: str) -> None:
        self.set.pop(path, None)
        self.unset[path] = None
        self.size += len(path) + 8


class Record(NamedTuple):
    """The outcome of one command; `at` in seconds since the epoch."""

    fingerprint: bytes
    payload: bytes
    failed: bool
    at: float
    tell: bool

    @property
    def reply(self) -> Reply:
        return Reply(self.payload, self.failed)

    @property
    def size(self) -> int:
        return len(self.payload) + OVERHEAD

    def to_document(self) -> dict[str, Any]:
        return {"h": self.fingerprint, "p": self.payload, "f": self.failed, "t": self.at, "l": self.tell}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Record:
        return cls(bytes(document["h"]), bytes(document["p"]), document["f"], document["t"], document["l"])


class Client:
    """What is kept of one incarnation of one caller: its mark, and the records from there on.

    In the document it is one field, so that a commit rewrites it whole: on a hot object hundreds of
    records come and go with each commit.
    """

    __slots__ = ("at", "mark", "records")

    def __init__(self, mark: int, at: float, records: dict[int, Record]) -> None:
        self.mark = mark
        self.at = at
        self.records = records

    @property
    def size(self) -> int:
        return OVERHEAD + sum(record.size for record in self.records.values())

    def to_document(self) -> dict[str, Any]:
        return {"m": self.mark, "t": self.at, "r": _encoder.encode(self.records)}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Client:
        return cls(document["m"], document["t"], _decoder.decode(document["r"]))


class Old(NamedTuple):
    """What should move to the archive: a client or a chosen record, and until when (in seconds
    since the epoch) it must be kept there."""

    name: str
    key: str
    document: dict[str, Any]
    end: float


class CompletionRecords:
    """The records of one activation: a mirror of `replies` in its document, and what of it the next
    commit has to write."""

    def __init__(self, replies: dict[str, Any], archived: bool, bounds: Bounds) -> None:
        self._bounds = bounds
        self._clients = {key: Client.from_document(item) for key, item in replies.get("clients", {}).items()}
        self._chosen = {key: Record.from_document(item) for key, item in replies.get("chosen", {}).items()}
        self._changed_clients: set[str] = set()
        self._changed_chosen: set[str] = set()
        self._next_sweep = 0.0
        self.archived = archived
        self.generation = 0
        self._chosen_size = sum(record.size for record in self._chosen.values())
        self._size = sum(client.size for client in self._clients.values())

    @property
    def size(self) -> int:
        """Bytes, roughly."""
        return self._size + self._chosen_size

    def find(self, key: RequestKey, fingerprint: bytes, now: float) -> Record | None:
        """The record of an earlier copy; raises `stale` or `request-id-reused`."""
        if not key.client:
            return check_same(self._chosen.get(key.key), fingerprint)
        client = self._clients.get(key.client)
        issued = issued_at(key.number)
        if issued > now + CLOCK_SKEW:
            raise Failure("bad-request", "this number was issued in the future", field="Request-Id")
        if (client and key.number < client.mark) or issued < now - self._bounds.age:
            raise Failure("stale", "this request was settled, or is too old to be repeated", field="Request-Id")
        return check_same(client.records.get(key.number), fingerprint) if client else None

    def admit(self, key: RequestKey, now: float) -> None:
        """Drop what the client has acknowledged and what is past its age; raises `overloaded` when
        there is no room for another record then."""
        client = self._clients.get(key.client) if key.client else None
        if client is not None and key.ack > client.mark:
            client.mark = key.ack
            self._drop_acknowledged(client)
            self._changed_clients.add(key.client)
        if now >= self._next_sweep or (now >= self._next_sweep - SWEEP_EVERY + 1 and not self._has_room(key, client)):
            self._sweep(now)
        if not self._has_room(key, client):
            raise Failure("overloaded", "the object has too many unsettled requests", retry_after=5.0)

    def add(self, key: RequestKey, record: Record) -> None:
        """Record an outcome."""
        if not key.client:
            self._chosen[key.key] = record
            self._chosen_size += record.size
            self._changed_chosen.add(key.key)
            return
        client = self._clients.get(key.client)
        if client is None:
            client = self._clients[key.client] = Client(key.ack, 0.0, {})
            self._size += OVERHEAD
        else:
            # Those that were used last stand last.
            self._clients[key.client] = self._clients.pop(key.client)
        client.at = max(record.at, issued_at(key.number))
        client.records[key.number] = record
        self._size += record.size
        self._changed_clients.add(key.client)

    def seal(self, changes: Changes) -> None:
        """Put what has changed into the commit."""
        for name, changed, kept in (
            ("clients", self._changed_clients, self._clients),
            ("chosen", self._changed_chosen, self._chosen),
        ):
            for key in changed:
                item: Any = kept.get(key)
                if item is None:
                    changes.drop(f"replies.{name}.{key}")
                else:
                    changes.put(f"replies.{name}.{key}", item.to_document())
            changed.clear()

    def end(self, record: Record) -> float:
        """When a chosen record's life ends, in seconds since the epoch."""
        return record.at + (self._bounds.tell_age if record.tell else self._bounds.age)

    def crowded(self) -> bool:
        """Whether something should move to the archive."""
        return self._crowded_with_chosen() or self._crowded_with_clients()

    def oldest(self) -> list[Old]:
        """What should move to the archive now."""
        old = []
        if self._crowded_with_chosen():
            for key, record in islice(self._chosen.items(), _surplus(self._chosen, CHOSEN_IN_DOCUMENT)):
                old.append(Old("chosen", key, record.to_document(), self.end(record)))
        if self._crowded_with_clients():
            # The one that was used last stays.
            surplus = min(_surplus(self._clients, self._bounds.clients), len(self._clients) - 1)
            for key, client in islice(self._clients.items(), surplus):
                old.append(Old("clients", key, client.to_document(), client.at + self._bounds.age))
        return old

    def leave(self, old: Old) -> None:
        """Drop from the document what the archive holds; a client that has changed since then stays."""
        if old.name == "chosen":
            self._drop_chosen(old.key)
            return
        client = self._clients.get(old.key)
        if client is not None and client.to_document() == old.document:
            self._drop_client(old.key)

    def forget(self) -> None:
        """Keep of each outcome only that there was one: a repeat is refused as `stale`."""
        self._chosen = {key: _forgotten(record) for key, record in self._chosen.items()}
        self._changed_chosen.update(self._chosen)
        for key, client in self._clients.items():
            client.records = {number: _forgotten(record) for number, record in client.records.items()}
            self._changed_clients.add(key)
        self._chosen_size = sum(record.size for record in self._chosen.values())
        self._size = sum(client.size for client in self._clients.values())

    def knows(self, key: RequestKey) -> bool:
        """Whether the archive can have nothing newer about a request."""
        return key.client in self._clients if key.client else key.key in self._chosen

    def restore(self, key: str, document: dict[str, Any]) -> None:
        """Take a client back from the archive."""
        if key not in self._clients:
            client = self._clients[key] = Client.from_document(document)
            self._size += client.size
            self._changed_clients.add(key)

    def _has_room(self, key: RequestKey, client: Client | None) -> bool:
        if not key.client:
            return self._chosen_size < self._bounds.bytes
        if self._size >= self._bounds.bytes:
            return False
        if client is None:
            return len(self._clients) < CROWD * self._bounds.clients
        return len(client.records) < self._bounds.records

    def _sweep(self, now: float) -> None:
        self._next_sweep = now + SWEEP_EVERY
        for key, client in list(self._clients.items()):
            if client.at < now - self._bounds.age:
                self._drop_client(key)
        for key, record in list(self._chosen.items()):
            if self.end(record) < now:
                self._drop_chosen(key)

    def _crowded_with_chosen(self) -> bool:
        return len(self._chosen) > CHOSEN_IN_DOCUMENT or self._chosen_size > CHOSEN_BYTES

    def _crowded_with_clients(self) -> bool:
        return len(self._clients) > self._bounds.clients or self._size > CLIENT_BYTES

    def _drop_client(self, key: str) -> None:
        self._size -= self._clients.pop(key).size
        self._changed_clients.add(key)

    def _drop_chosen(self, key: str) -> None:
        record = self._chosen.pop(key, None)
        if record is not None:
            self._chosen_size -= record.size
            self._changed_chosen.add(key)

    def _drop_acknowledged(self, client: Client) -> None:
        while client.records:
            number = next(iter(client.records))
            if number >= client.mark:
                return
            self._size -= client.records.pop(number).size


def _forgotten(record: Record) -> Record:
    # A tell is settled whatever it has led to; anybody else is told.
    payload, failed = (b"null", False) if record.tell else _FORGOTTEN
    return record._replace(payload=payload, failed=failed)


def _surplus(kept: dict[str, Any], in_document: int) -> int:
    return min(max(len(kept) - in_document // 2, MOVED_AT_LEAST), MOVED_AT_MOST)


def recorded(replies: dict[str, Any], key: RequestKey, fingerprint: bytes) -> Record | None:
    """The record of this very request in a stored document, if it is there."""
    if key.client:
        client = replies.get("clients", {}).get(key.client)
        record = Client.from_document(client).records.get(key.number) if client else None
    else:
        chosen = replies.get("chosen", {}).get(key.key)
        record = Record.from_document(chosen) if chosen else None
    return record if record and record.fingerprint == fingerprint else None


def check_same(record: Record | None, fingerprint: bytes) -> Record | None:
    """The record, if it is of this request; raises `request-id-reused` if it is of another."""
    if record is not None and record.fingerprint != fingerprint:
        raise Failure("request-id-reused", "this ID was used for another request", field="Request-Id")
    return record


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(dict[int, Record])
