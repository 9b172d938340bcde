"""The streams of the simulated JetStream: stored messages by sequence, with what a fleet relies on.

That is: expected last sequences, deduplication by message ID, a time to live per message with markers of expiry, a
limit per subject, and atomic batches (NATS ADR-8, ADR-43, ADR-48 and ADR-50).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from aidevos.durable.bus.delivering import matches
from aidevos.testing.simulation.loop import VirtualLoop

LAST_SEQUENCE, LAST_SEQUENCE_SUBJECT = (
    "Nats-Expected-Last-Subject-Sequence",
    "Nats-Expected-Last-Subject-Sequence-Subject",
)
ID, TTL, MARKER, STREAM = "Nats-Msg-Id", "Nats-TTL", "Nats-Marker-Reason", "Nats-Expected-Stream"
BATCH, BATCH_SEQUENCE, BATCH_COMMIT = "Nats-Batch-Id", "Nats-Batch-Sequence", "Nats-Batch-Commit"
DEDUPLICATED_FOR = 120.0


class Stored(NamedTuple):
    """A stored message. `at` is in seconds since the epoch."""

    sequence: int
    subject: str
    headers: bytes
    data: bytes
    at: float
    ttl: float | None


class Refused(Exception):
    """Raised if the server refuses a request, with the error that it answers."""

    def __init__(self, code: int, number: int, description: str) -> None:
        super().__init__(description)
        self.answer = {"error": {"code": code, "err_code": number, "description": description}}


class Stream:
    """A stream. `on_stored` are called with each message that it has stored."""

    def __init__(self, loop: VirtualLoop, config: dict[str, Any], now: Callable[[], float]) -> None:
        self.config = config
        self.name: str = config["name"]
        self.created = now()
        self.messages: dict[int, Stored] = {}
        self.last: dict[str, int] = {}
        self.last_sequence = 0
        self.on_stored: dict[object, Callable[[Stored], None]] = {}
        # The beginnings of all its subjects.
        self.prefixes = tuple(pattern.removesuffix(">") for pattern in config["subjects"])
        self._loop = loop
        self._now = now
        self._ids: dict[str, tuple[int, float]] = {}
        self._batches: dict[str, list[tuple[str, bytes, bytes]]] = {}
        # The last sequence of all subjects that begin with some tokens; messages of such scopes are never removed.
        self._last_of_scope: dict[str, int] = {}
        # Everything that was ever stored, for a rollback of a bucket.
        self._log: list[Stored] = []

    def takes(self, subject: str) -> bool:
        return subject.startswith(self.prefixes)

    def has(self, id: str) -> bool:
        """Return True if a message with this ID was stored."""
        return id in self._ids

    def publish(self, subject: str, headers: bytes, data: bytes) -> dict[str, Any] | None:
        """Store a message, and return the acknowledgement; None for one that waits for the end of its batch."""
        given = parse_headers(headers)
        if given.get(STREAM, self.name) != self.name:
            raise Refused(400, 10060, "expected stream does not match")
        if BATCH in given:
            return self._gather(given, (subject, headers, data))
        known = self._ids.get(given.get(ID, ""))
        if known is not None and known[1] + DEDUPLICATED_FOR > self._now():
            return {"stream": self.name, "seq": known[0], "duplicate": True}
        self._check(subject, given)
        return {"stream": self.name, "seq": self._store(subject, headers, data, given)}

    def remove(self, sequence: int) -> Stored | None:
        """Remove a message, and return it if it was there."""
        message = self.messages.pop(sequence, None)
        if message is not None and self.last.get(message.subject) == sequence:
            del self.last[message.subject]
        return message

    def roll_back(self, sequence: int) -> None:
        """Return to the state after this sequence, as after a power cut."""
        log = [message for message in self._log if message.sequence <= sequence]
        self.messages, self.last, self._log = {}, {}, []
        self._ids = {id: known for id, known in self._ids.items() if known[0] <= sequence}
        self.last_sequence = sequence
        for message in log:
            self._keep(message)

    def last_sequences(self, filters: Sequence[str]) -> list[int]:
        """Return the sequences of the last messages of all subjects that match one of the filters."""
        return sorted(
            last for subject, last in self.last.items() if any(matches(pattern, subject) for pattern in filters)
        )

    def find_next(self, pattern: str, sequence: int) -> Stored | None:
        """Return the first message at or after a sequence whose subject matches."""
        for number, message in self.messages.items():
            if number >= sequence and matches(pattern, message.subject):
                return message
        return None

    def describe(self, subjects_filter: str = "") -> dict[str, Any]:
        numbers = self.messages.keys()
        first, last = next(iter(numbers), self.last_sequence + 1), next(reversed(numbers), 0)
        deleted = [each for each in range(first, self.last_sequence + 1) if each not in numbers] if numbers else []
        state: dict[str, Any] = {
            "messages": len(numbers),
            "bytes": sum(len(message.data) for message in self.messages.values()),
            "first_seq": first,
            "first_ts": iso(self.messages[first].at if numbers else self.created),
            "last_seq": self.last_sequence,
            "last_ts": iso(self.messages[last].at if numbers else self.created),
            "consumer_count": len(self.on_stored),
            "num_deleted": len(deleted),
            "deleted": deleted,
        }
        if subjects_filter:
            found = [each.subject for each in self.messages.values() if matches(subjects_filter, each.subject)]
            state["subjects"] = {subject: found.count(subject) for subject in dict.fromkeys(found)}
        return {"config": self.config, "created": iso(self.created), "state": state}

    def _gather(self, given: dict[str, str], message: tuple[str, bytes, bytes]) -> dict[str, Any] | None:
        batch = self._batches.setdefault(given[BATCH], [])
        if int(given[BATCH_SEQUENCE]) != len(batch) + 1:
            del self._batches[given[BATCH]]
            raise Refused(400, 10176, "batch publish is incomplete and was abandoned")
        batch.append(message)
        if BATCH_COMMIT not in given:
            return None
        del self._batches[given[BATCH]]
        parsed = [parse_headers(headers) for _, headers, _ in batch]
        for (subject, _, _), each in zip(batch, parsed, strict=True):
            if each.get(ID, "") in self._ids:
                raise Refused(400, 10201, "batch publish contains duplicate message id")
            self._check(subject, each)
        for (subject, headers, data), each in zip(batch, parsed, strict=True):
            last = self._store(subject, headers, data, each)
        return {"stream": self.name, "seq": last, "batch": given[BATCH], "count": len(batch)}

    def _check(self, subject: str, given: dict[str, str]) -> None:
        if LAST_SEQUENCE not in given:
            return
        scope = given.get(LAST_SEQUENCE_SUBJECT, subject)
        last = self._last_of_scope.get(scope[:-1], 0) if scope.endswith(".>") else self.last.get(scope, 0)
        if last != int(given[LAST_SEQUENCE]):
            raise Refused(400, 10071, f"wrong last sequence: {last}")

    def _store(self, subject: str, headers: bytes, data: bytes, given: dict[str, str]) -> int:
        self.last_sequence += 1
        ttl = float(given[TTL].removesuffix("s")) if TTL in given else None
        message = Stored(self.last_sequence, subject, headers, data, self._now(), ttl)
        if ID in given:
            self._ids[given[ID]] = (self.last_sequence, message.at)
        self._keep(message)
        for notify in list(self.on_stored.values()):
            notify(message)
        return message.sequence

    def _keep(self, message: Stored) -> None:
        if self.config.get("max_msgs_per_subject") == 1:
            self.messages.pop(self.last.get(message.subject, 0), None)
            self._log.append(message)
        self.messages[message.sequence] = message
        self.last[message.subject] = message.sequence
        if self.config.get("max_msgs_per_subject") != 1 and self.config.get("retention") != "workqueue":
            scope = ""
            for token in message.subject.split("."):
                self._last_of_scope[scope] = message.sequence
                scope += token + "."
        if message.ttl is not None:
            self._loop.world.call(self._expire, message, delay=message.at + message.ttl - self._now())

    def _expire(self, message: Stored) -> None:
        if self.messages.get(message.sequence) is not message:
            return
        self.remove(message.sequence)
        marker_ttl = self.config.get("subject_delete_marker_ttl")
        if marker_ttl and MARKER not in parse_headers(message.headers):
            headers = {MARKER: "MaxAge", TTL: f"{marker_ttl / 1e9:.0f}s"}
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            self._store(message.subject, f"NATS/1.0\r\n{lines}\r\n".encode(), b"", headers)


def parse_headers(raw: bytes) -> dict[str, str]:
    """Return the headers of a message."""
    headers = {}
    for line in raw.decode().split("\r\n")[1:]:
        name, colon, value = line.partition(": ")
        if colon:
            headers[name] = value
    return headers


def iso(at: float) -> str:
    """Return a time as JetStream writes it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
