"""Completion records: the outcome of each command, stored in the same commit as its changes.

Promise: a repeated request gets the recorded outcome and changes nothing. This holds after a crash, on another
owner, at any rate of traffic, and however late the copy arrives.

Records of numbered requests (RIFL; Lee et al., SOSP 2015) are kept until their client acknowledges them. The
client's mark stays: every copy with a lower number is refused as `stale`. A number carries its time of issue, and
numbers older than `age` are refused. Only then is the mark itself dropped.

An object's tells to another one are numbered too. A later one says that the sender has settled those before it, so only
the record of the last is kept, and late copies of the others count as settled. The mark is kept for `tell_age`.

IDs that a caller chose are kept for `age`, and those of clients' tells for `tell_age`. The newest records are in the
document. Older ones and large results are in an archive, which is written before they leave the document and
consulted only for objects that have moved some. Of a large result of a numbered request, a stub stays in the document.

Nothing is dropped to make room: past its bounds, an object answers `overloaded`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Literal, NamedTuple

import msgspec

from aidevos.contracts.errors import Failure
from aidevos.durable.client.client import issued_at
from aidevos.durable.store import codec
from aidevos.durable.turns.headers import Reply, RequestKey

CHOSEN_IN_DOCUMENT = 256
CHOSEN_BYTES = 512 * 1024
CLIENT_BYTES = 1024 * 1024
# A result of more bytes moves to the archive at once.
LARGE = 64 * 1024
MOVED_AT_LEAST = 16
MOVED_AT_MOST = 1000
# While the archive can't be written, the document may hold this many times the usual number of clients.
CROWD = 8
SWEEP_EVERY = 600.0
# Seconds that a caller's clock may be ahead of ours.
CLOCK_SKEW = 60.0
OVERHEAD = 96
Kind = Literal["clients", "chosen"]
# The field of each kind's documents that takes the most.
CONTENTS: dict[Kind, str] = {"clients": "r", "chosen": "p"}
_ERASED = Reply.of(Failure("stale", "the outcome of this request was erased"))


class Bounds(NamedTuple):
    """The bounds of one object's completion records.

    `age` and `tell_age` are in seconds. `clients` is the number of clients that stay in the document, and
    `records` the number of unsettled requests of one client. `bytes` limits the numbered records, and separately
    the chosen ones, while the archive can't be written.
    """

    age: float = 86_400.0
    tell_age: float = 7 * 86_400.0
    clients: int = 1000
    records: int = 20_000
    bytes: int = 3 * 1024 * 1024


class Changes:
    """The dotted paths that the next commit sets and unsets. The last change of a path counts."""

    def __init__(self) -> None:
        self.set: dict[str, Any] = {}
        self.unset: dict[str, None] = {}
        self.size = 0

    def put(self, path: str, value: dict[str, Any]) -> None:
        encoded = codec.encode_document(value)
        self.unset.pop(path, None)
        self.set[path] = codec.Encoded(encoded)
        self.size += len(encoded) + len(path)

    def put_plain(self, path: str, value: dict[str, Any], size: int) -> None:
        """Set a path to a document of about this size that the driver can encode for sure."""
        self.unset.pop(path, None)
        self.set[path] = value
        self.size += size + len(path)

    def drop(self, path: str) -> None:
        self.set.pop(path, None)
        self.unset[path] = None
        self.size += len(path) + 8


class Record(NamedTuple):
    """The outcome of one command. `at` is in seconds since the epoch. The stub of an archived result has no payload."""

    fingerprint: bytes
    payload: bytes
    failed: bool
    at: float
    tell: bool

    @property
    def reply(self) -> Reply:
        return Reply(self.payload, self.failed)

    @property
    def is_stub(self) -> bool:
        """True if the archive has the payload. No outcome is encoded as nothing."""
        return not self.payload

    @property
    def is_large(self) -> bool:
        return len(self.payload) > LARGE

    @property
    def size(self) -> int:
        return len(self.payload) + OVERHEAD

    def to_document(self) -> dict[str, Any]:
        return {"h": self.fingerprint, "p": self.payload, "f": self.failed, "t": self.at, "l": self.tell}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Record:
        return cls(bytes(document["h"]), bytes(document["p"]), document["f"], document["t"], document["l"])


class Client:
    """The mark of one incarnation of a caller, and its records from that number on.

    It is one field of the document, which a commit rewrites as a whole, because on a hot object hundreds of records
    come and go with each commit. `tells` marks an object that tells this one.
    """

    __slots__ = ("at", "mark", "records", "tells")

    def __init__(self, mark: int, at: float, records: dict[int, Record], *, tells: bool = False) -> None:
        self.mark = mark
        self.at = at
        self.records = records
        self.tells = tells

    @property
    def size(self) -> int:
        return OVERHEAD + sum(record.size for record in self.records.values())

    def large_results(self) -> list[int]:
        return [number for number, record in self.records.items() if record.is_large]

    def to_document(self) -> dict[str, Any]:
        document = {"m": self.mark, "t": self.at, "r": _encoder.encode(self.records)}
        return document | {"l": True} if self.tells else document

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Client:
        return cls(document["m"], document["t"], _decoder.decode(document["r"]), tells=document.get("l", False))


class ArchiveCandidate(NamedTuple):
    """A client, a chosen record, or a numbered one (in `results`) that should move to the archive.

    It is kept there until `end`, which is in seconds since the epoch.
    """

    name: str
    key: str
    document: dict[str, Any]
    end: float


class CompletionRecords:
    """The records of one activation: a mirror of `replies` in its document that tracks unwritten changes."""

    __slots__ = (
        *("_bounds", "_changed", "_chosen", "_chosen_size", "_clients", "_large", "_next_sweep", "_size"),
        *("archived", "generation"),
    )

    def __init__(self, replies: dict[str, Any], archived: bool, bounds: Bounds) -> None:
        self._bounds = bounds
        self._clients = {key: Client.from_document(item) for key, item in replies.get("clients", {}).items()}
        self._chosen = {key: Record.from_document(item) for key, item in replies.get("chosen", {}).items()}
        # The kinds and keys of what has changed since the last commit; None if nothing has.
        self._changed: dict[tuple[Kind, str], None] | None = None
        # Numbered records with large results in the document. Some may have been dropped since.
        self._large: tuple[tuple[str, int], ...] = ()
        for key, client in self._clients.items():
            self._note_large(key, client)
        self._next_sweep = 0.0
        self.archived = archived
        self.generation = 0
        self._chosen_size = sum(record.size for record in self._chosen.values())
        self._size = sum(client.size for client in self._clients.values())

    @property
    def size(self) -> int:
        """The approximate size in bytes."""
        return self._size + self._chosen_size

    def find(self, key: RequestKey, fingerprint: bytes, now: float) -> Record | None:
        """Return the record of an earlier copy. Raises `stale`, `unavailable` or `request-id-reused`."""
        if not key.client:
            return check_fingerprint(self._chosen.get(key.key), fingerprint)
        client = self._clients.get(key.client)
        record = client.records.get(key.number) if client else None
        if key.tell:
            if client and key.number < client.mark:
                return _settled(fingerprint)
            return check_fingerprint(record or self._chosen.get(key.former), fingerprint)
        issued = issued_at(key.number)
        # A host's clock may have gone back since the number was used.
        if record is None and issued > now + CLOCK_SKEW:
            # An earlier copy may be under way, so the refusal isn't final.
            detail = "this number seems to be of the future: the clock of the client or of the host is wrong"
            raise Failure("unavailable", detail, field="Request-Id")
        if (client and key.number < client.mark) or issued < now - self._bounds.age:
            raise Failure("stale", "this request is settled or too old to be repeated", field="Request-Id")
        return check_fingerprint(record, fingerprint)

    def admit(self, key: RequestKey, now: float) -> None:
        """Make room for another record by dropping acknowledged and expired ones. Raises `overloaded`."""
        client = self._clients.get(key.client) if key.client else None
        if client is not None and key.ack > client.mark:
            client.mark = key.ack
            self._drop_acknowledged(client)
            self._note_change("clients", key.client)
        # It is further ahead only where the system clock has gone back.
        self._next_sweep = min(self._next_sweep, now + SWEEP_EVERY)
        has_room = self._has_room(key, client)
        if now >= self._next_sweep or (not has_room and now >= self._next_sweep - SWEEP_EVERY + 1):
            self._sweep(now)
            has_room = self._has_room(key, client)
        if not has_room:
            raise Failure("overloaded", "the object has too many unsettled requests", retry_after=5.0)

    def add(self, key: RequestKey, record: Record) -> None:
        """Record an outcome."""
        if not key.client:
            self._chosen[key.key] = record
            self._chosen_size += record.size
            self._note_change("chosen", key.key)
            return
        client = self._clients.get(key.client)
        if client is None:
            client = self._clients[key.client] = Client(key.ack, 0.0, {}, tells=key.tell)
            self._size += OVERHEAD
        else:
            # The most recently used clients come last.
            self._clients[key.client] = self._clients.pop(key.client)
        client.at = max(record.at, issued_at(key.number))
        client.records[key.number] = record
        self._size += record.size
        if record.is_large:
            self._large += ((key.client, key.number),)
        self._note_change("clients", key.client)

    def seal(self, changes: Changes) -> None:
        """Add the unwritten changes to a commit."""
        changed, self._changed = self._changed or (), None
        for kind, key in changed:
            item: Any = self._clients.get(key) if kind == "clients" else self._chosen.get(key)
            path = f"replies.{kind}.{key}"
            if item is None:
                changes.drop(path)
            else:
                document = item.to_document()
                changes.put_plain(path, document, OVERHEAD + len(document[CONTENTS[kind]]))

    def _note_change(self, kind: Kind, key: str) -> None:
        if self._changed is None:
            self._changed = {}
        self._changed[kind, key] = None

    def expires_at(self, record: Record) -> float:
        """Return when a chosen record expires, in seconds since the epoch."""
        return record.at + self._age(record.tell)

    def _age(self, tell: bool) -> float:
        return self._bounds.tell_age if tell else self._bounds.age

    def needs_archiving(self) -> bool:
        """Return True if records should move to the archive."""
        return bool(self._large) or self._too_many_chosen() or self._too_many_clients()

    def archive_candidates(self) -> list[ArchiveCandidate]:
        """Return the records that should move to the archive now."""
        candidates = list(self._large_candidates())
        if self._too_many_chosen():
            surplus = _surplus(self._chosen, CHOSEN_IN_DOCUMENT)
            for key, record in [
                *islice(self._chosen.items(), surplus),
                *(item for item in islice(self._chosen.items(), surplus, None) if item[1].is_large),
            ]:
                candidates.append(ArchiveCandidate("chosen", key, record.to_document(), self.expires_at(record)))
        if self._too_many_clients():
            # The most recently used client stays.
            surplus = min(_surplus(self._clients, self._bounds.clients), len(self._clients) - 1)
            for key, client in islice(self._clients.items(), surplus):
                end = client.at + self._age(client.tells)
                candidates.append(ArchiveCandidate("clients", key, client.to_document(), end))
        return candidates

    def drop_archived(self, candidate: ArchiveCandidate) -> None:
        """Drop an archived record from the document, unless it has changed since."""
        if candidate.name == "chosen":
            self._drop_chosen(candidate.key)
            return
        if candidate.name == "results":
            self._drop_result(candidate)
            return
        client = self._clients.get(candidate.key)
        if client is not None and client.to_document() == candidate.document:
            self._drop_client(candidate.key)

    def erase_outcomes(self) -> None:
        """Erase the content of every outcome. A repeat of such a request is refused as `stale`."""
        self._chosen = {key: _erased(record) for key, record in self._chosen.items()}
        for key in self._chosen:
            self._note_change("chosen", key)
        for key, client in self._clients.items():
            client.records = {number: _erased(record) for number, record in client.records.items()}
            self._note_change("clients", key)
        self._chosen_size = sum(record.size for record in self._chosen.values())
        self._size = sum(client.size for client in self._clients.values())

    def knows(self, key: RequestKey) -> bool:
        """Return True if the archive can't hold anything newer about a request."""
        if not key.client:
            return key.key in self._chosen
        return key.client in self._clients and not self.has_stub(key)

    def has_client(self, key: RequestKey) -> bool:
        return key.client in self._clients

    def has_stub(self, key: RequestKey) -> bool:
        """Return True if only the archive has the payload of this numbered request's outcome."""
        record = self._numbered(key.client, key.number)
        return record is not None and record.is_stub

    def restore(self, key: str, document: dict[str, Any]) -> None:
        """Add a client that was read from the archive. Raises `overloaded` if there is no room for it."""
        if key in self._clients:
            return
        client = Client.from_document(document)
        if self._size + client.size > 2 * self._bounds.bytes:
            raise Failure("overloaded", "the object has too many unsettled requests", retry_after=5.0)
        self._clients[key] = client
        self._size += client.size
        self._note_change("clients", key)
        self._note_large(key, client)

    def _note_large(self, key: str, client: Client) -> None:
        self._large += tuple((key, number) for number in client.large_results())

    def _large_candidates(self) -> Iterator[ArchiveCandidate]:
        found = {at: record for at in self._large if (record := self._numbered(*at)) is not None and record.is_large}
        self._large = tuple(sorted(found))
        for key, number in self._large:
            record = found[key, number]
            end = max(record.at, issued_at(number)) + self._age(record.tell)
            yield ArchiveCandidate("results", f"{key}-{number}", record.to_document(), end)

    def _numbered(self, key: str, number: int) -> Record | None:
        client = self._clients.get(key)
        return client.records.get(number) if client else None

    def _drop_result(self, candidate: ArchiveCandidate) -> None:
        key, _, number = candidate.key.rpartition("-")
        client = self._clients.get(key)
        record = client.records.get(int(number)) if client else None
        if client is not None and record is not None and record.to_document() == candidate.document:
            client.records[int(number)] = record._replace(payload=b"")
            self._size -= len(record.payload)
            self._note_change("clients", key)

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
            if client.at < now - self._age(client.tells):
                self._drop_client(key)
        for key, record in list(self._chosen.items()):
            if self.expires_at(record) < now:
                self._drop_chosen(key)

    def _too_many_chosen(self) -> bool:
        return len(self._chosen) > CHOSEN_IN_DOCUMENT or self._chosen_size > CHOSEN_BYTES

    def _too_many_clients(self) -> bool:
        return len(self._clients) > self._bounds.clients or self._size > CLIENT_BYTES

    def _drop_client(self, key: str) -> None:
        self._size -= self._clients.pop(key).size
        self._note_change("clients", key)

    def _drop_chosen(self, key: str) -> None:
        record = self._chosen.pop(key, None)
        if record is not None:
            self._chosen_size -= record.size
            self._note_change("chosen", key)

    def _drop_acknowledged(self, client: Client) -> None:
        while client.records:
            number = next(iter(client.records))
            if number >= client.mark:
                return
            self._size -= client.records.pop(number).size


def _erased(record: Record) -> Record:
    """Return the record without its content. A repeated tell still counts as settled; any other repeat is refused."""
    if record.tell:
        return _settled(record.fingerprint)._replace(at=record.at)
    payload, failed = _ERASED
    return record._replace(payload=payload, failed=failed)


def _settled(fingerprint: bytes) -> Record:
    """Return the outcome of a tell whose sender needs no other."""
    return Record(fingerprint, b"null", False, 0.0, True)


def _surplus(kept: dict[str, Any], in_document: int) -> int:
    return min(max(len(kept) - in_document // 2, MOVED_AT_LEAST), MOVED_AT_MOST)


def find_record(replies: dict[str, Any], key: RequestKey, fingerprint: bytes) -> Record | None:
    """Return the record of exactly this request from a stored document's `replies`, if it is there with its payload."""
    if key.client:
        client = replies.get("clients", {}).get(key.client)
        record = Client.from_document(client).records.get(key.number) if client else None
    else:
        chosen = replies.get("chosen", {}).get(key.key)
        record = Record.from_document(chosen) if chosen else None
    return record if record and record.fingerprint == fingerprint and not record.is_stub else None


def check_fingerprint(record: Record | None, fingerprint: bytes) -> Record | None:
    """Return the record. Raises `request-id-reused` if it belongs to another request."""
    if record is not None and record.fingerprint != fingerprint:
        raise Failure("request-id-reused", "this ID was already used for another request", field="Request-Id")
    return record


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(dict[int, Record])
