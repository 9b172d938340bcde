"""An object in memory: its committed state, the changes since then, and the requests that wait for a commit.

Invariants: an activation that runs commands has won a claim under an owner ID that is never reused, or it is
`founding`. The first commit of a founding activation creates the document and thereby claims it. Until that commit
is durable, the activation answers nothing. Its commits are numbered from the turn of its claim, without gaps.

A `broken` activation is out of the catalogue. It starts no turn, commits nothing, and answers only failures. No
answer from memory can therefore follow a commit that was fenced or whose outcome is unknown.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from aidevos.contracts import subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import DurableObject
from aidevos.contracts.times import rfc3339, timestamp
from aidevos.durable.objects.alarm import Scheduled
from aidevos.durable.objects.object import BaseDurableObject
from aidevos.durable.objects.registry import NewerSchema, ObjectType
from aidevos.durable.store import codec
from aidevos.durable.store.port import Commit, Document
from aidevos.durable.turns.completion import Bounds, Changes, CompletionRecords, Record
from aidevos.durable.turns.history import Author, History, Version
from aidevos.durable.turns.mailbox import Mailbox
from aidevos.durable.turns.pending import NOWHERE, START, Committed, PendingCommit
from aidevos.durable.turns.request import Request

log = logging.getLogger(__name__)
# The bytes that an object takes besides its state, records, outbox and alarms, as measured with 10,000 objects.
BASE_SIZE = 2752
MAX_EPHEMERAL = 64
# The most bytes of the encoded state of an object that rests. Its next turn begins by decoding it, on the event loop.
RESTING_SIZE = 16 * 1024
NEVER = datetime.fromtimestamp(0, UTC)


class Activation:
    """An object in memory.

    Its mailbox calls `start` to begin its turns. It calls `save` with itself to have its pending changes committed.
    """

    # With so many attributes, a dictionary of them would take another 2 KB.
    __slots__ = (
        *("_former_commit", "_save", "_stored_schema", "alarms", "archiving", "broken", "claimed", "committed"),
        *("counted", "counted_entries", "counted_weight", "ephemeral", "exists", "founding", "history", "id"),
        *("in_flight", "last_method", "last_used", "loaded", "loaded_at", "made_at", "mailbox", "object", "outbox"),
        *("outbox_last", "outbox_size", "owner", "partition", "pending", "project", "records", "relay_flag"),
        *("resting", "ringing", "seen", "snapshot", "stream", "turn", "type", "updated_at", "version"),
        *("woken_for_alarm", "__weakref__"),
    )

    def __init__(
        self,
        type: ObjectType,
        id: str,
        partition: int,
        mailbox_limit: int,
        start: Callable[[Activation, Request], asyncio.Task[None] | None],
        save: Callable[[Activation], None],
    ) -> None:
        self._save = save
        self.type = type
        self.id = id
        self.partition = partition
        self.mailbox = Mailbox(mailbox_limit, start, self)
        self.broken = False
        self.loaded = False
        self.claimed = False
        # True while it only assumes that the object doesn't exist; the first commit finds out.
        self.founding = False
        # True while records are on their way to the archive.
        self.archiving = False
        # True if the object is loaded because an alarm is due.
        self.woken_for_alarm = False
        # True while an alarm is in the mailbox or running.
        self.ringing = False
        # The method of the latest turn; empty before the first one.
        self.last_method = ""
        # Seconds on the event loop's clock.
        self.last_used = 0.0
        # Seconds since the epoch.
        self.loaded_at = 0.0
        # True while its process counts its weight and its outbox entries, and both as they were counted.
        self.counted = False
        self.counted_weight = self.counted_entries = 0
        self.stream = NOWHERE
        self.pending: PendingCommit | None = None
        self.in_flight: PendingCommit | None = None
        # Hashes of the snapshot and of the state that a query has found equal to it.
        self.seen = (0, 0)
        # True while only the snapshot is in memory.
        self.resting = False
        # The latest outcomes of confidential commands, which are never stored; None if there are none.
        self.ephemeral: dict[str, Record] | None = None

    def load(self, document: Document | None, bounds: Bounds, *, claimed: bool) -> None:
        """Initialize from the stored document, or as an absent object.

        Raises `NewerSchema`, and `internal` for an unreadable state.
        """
        self.owner = document.owner if document and document.owner else ""
        # The last commit by another owner. Empty once this one has committed, whose own commits need no room.
        self._former_commit = document.commit if document else None
        self.turn = document.turn if document else 0
        self.version = document.version if document else 0
        self.exists = bool(document and document.exists)
        self.project = document.project if document else None
        self.made_at = (document and document.made_at) or NEVER
        self.updated_at = (document and document.updated_at) or NEVER
        self._stored_schema = document.schema if document else 0
        self.records = CompletionRecords(
            document.replies if document else {}, bool(document and document.archived), bounds
        )
        self.outbox: dict[int, dict[str, Any]] = {}
        if document:
            self.outbox = {int(number): entry for number, entry in document.outbox.items()}
        self.outbox_last = max(document.outbox_last if document else 0, *self.outbox, 0)
        self.outbox_size = sum(len(entry["payload"]) for entry in self.outbox.values())
        # The document's `relay` flag, which marks a non-empty outbox; None while it is unknown.
        self.relay_flag: bool | None = bool(self.outbox)
        stored = document.alarms if document else {}
        self.alarms = {name: Scheduled.from_document(alarm) for name, alarm in stored.items()}
        state = self.type.default_state()
        if document and document.exists and document.state is not None:
            state = self._load_state(document.state, document.schema)
        self.object: BaseDurableObject[Any] = self.type.cls(self.id, state)
        self.object._guarded = True
        self.snapshot = codec.encode(state)
        kept = self.type.cls.kept_versions
        self.history = None if kept is None else self._load_history(History(kept, document.history if document else {}))
        self.committed = self._shown()
        self.loaded = True
        self.claimed = claimed

    def _load_history(self, history: History) -> History:
        if self.exists and history.latest != self.version:
            schema, made = self.type.cls.schema_version, self.updated_at.timestamp()
            history.adopt(Version.of(self.version, made, Author(), schema, self.snapshot))
        return history

    def load_new(self, owner: str, bounds: Bounds) -> None:
        """Initialize as the first owner of an object that is assumed to be absent."""
        self.load(None, bounds, claimed=True)
        self.owner = owner
        self.founding = True
        # A new object has no events; if there are some, the first publish fails and the position is read again.
        self.stream = START

    @property
    def commit(self) -> str | None:
        """The ID of the last commit, by this owner or a former one; None if there was none."""
        return f"{self.owner}.{self.turn}" if self._former_commit == "" else self._former_commit

    @property
    def log_fields(self) -> dict[str, str]:
        """The fields of log lines that are about this object."""
        return {"type": self.type.name, "object": self.object_id}

    @property
    def state(self) -> Any:
        """The object's state, which the object itself guards."""
        return self.object._state

    @state.setter
    def state(self, state: Any) -> None:
        self.object._state = state

    def load_committed(self, committed: Committed, bounds: Bounds) -> None:
        """Initialize as a copy of an object's committed state that runs only a query."""
        self.load(None, bounds, claimed=True)
        self.restore(committed.state)
        self.version, self.exists, self.project = committed.version, committed.exists, committed.project
        self.made_at, self.updated_at = committed.made_at, committed.updated_at

    def _shown(self) -> Committed:
        return Committed(self.snapshot, self.version, self.exists, self.project, self.made_at, self.updated_at)

    def remember(self, key: str, record: Record) -> None:
        """Keep the outcome of a confidential command in memory, for a caller that repeats the request."""
        kept = self.ephemeral = self.ephemeral or {}
        kept[key] = record
        if len(kept) > MAX_EPHEMERAL:
            del kept[next(iter(kept))]

    def restore(self, snapshot: bytes) -> None:
        """Set the state to a decoded snapshot.

        Encoding it again may give other bytes, because an integer in a float field becomes a float.
        """
        self.state = msgspec.convert(codec.decode(snapshot), self.type.cls.state_type, str_keys=True)
        encoded = codec.encode(self.state)
        self.snapshot = snapshot if encoded == snapshot else encoded

    def rest(self) -> None:
        """Keep only the encoded form of the state, until `rouse`. The object must be idle."""
        self.state, self.seen, self.resting = None, (0, 0), True

    def rouse(self) -> None:
        """Decode the state of a resting object again."""
        if self.resting:
            self.restore(self.snapshot)
            self.resting = False

    def _load_state(self, state: dict[str, Any], schema: int) -> msgspec.Struct:
        try:
            return self.type.load_state(state, schema)
        except msgspec.ValidationError as error:
            raise Failure("internal", f"the stored state of {self.object_id} can't be read: {error}") from error

    @property
    def object_id(self) -> str:
        return subjects.join_object_id(self.type.name, self.id)

    def weigh(self) -> int:
        """Return the approximate memory use of the loaded object in bytes."""
        size = len(self.snapshot)
        weighed = BASE_SIZE + size + self.records.size + self.outbox_size
        if not self.resting:
            weight = self.type.weight
            weight.sample(self.object._state)
            weighed += int(weight.factor * size)
        if self.alarms:
            weighed += sum(alarm.size for alarm in self.alarms.values())
        return weighed if self.history is None else weighed + self.history.size

    @property
    def idle(self) -> bool:
        """True if the object could leave memory now without losing or delaying anything."""
        return self.loaded and self.mailbox.idle and not (self.pending or self.in_flight or self.outbox)

    @property
    def may_rest(self) -> bool:
        """True if the object is idle and its state is small enough to be decoded at the start of a turn."""
        return self.idle and len(self.snapshot) <= RESTING_SIZE

    @property
    def settled(self) -> bool:
        """True if no request waits and everything is committed. The outbox may be left to the next owner."""
        return self.mailbox.idle and not (self.pending or self.in_flight)

    @property
    def only_clears_outbox(self) -> bool:
        """True if the pending commit would do nothing but empty the outbox."""
        return self.pending is not None and not (self.outbox or self.in_flight) and self.pending.only_clears_outbox

    def request_commit(self) -> None:
        """Commit the pending changes soon, in a batch with other objects."""
        self._save(self)

    def open_pending(self) -> PendingCommit:
        """Return the commit that gathers changes now, creating it if necessary."""
        if self.pending is None:
            self.pending = PendingCommit()
        return self.pending

    def uncommitted(self) -> PendingCommit | None:
        """Return the latest commit that is not durable yet and whose changes an answer could show."""
        for pending in (self.pending, self.in_flight):
            if pending is not None and pending.urgent:
                return pending
        return None

    def next_alarm(self) -> tuple[float, str] | None:
        """Return the time and name of the next alarm, without those that an open commit changes."""
        return min(
            ((alarm.at, name) for name, alarm in self.alarms.items() if not self._changes_alarm(name)), default=None
        )

    def due_alarm(self, name: str, now: float) -> Scheduled | None:
        """Return the named alarm if it is due and no open commit changes it."""
        alarm = self.alarms.get(name)
        return None if alarm is None or alarm.at > now or self._changes_alarm(name) else alarm

    def _changes_alarm(self, name: str) -> bool:
        return any(pending is not None and name in pending.alarms for pending in (self.pending, self.in_flight))

    def seal(self, pending: PendingCommit, now: float) -> Commit:
        """Return the commit of everything done since the last one, and mark it as in flight."""
        self.pending, self.in_flight = None, pending
        self.turn += 1
        changes = pending.changes
        self.records.seal(changes)
        if self.history is not None:
            self.history.seal(changes)
        size = changes.size + 1024
        values: dict[str, Any] = changes.set
        if pending.state_changed:
            size += len(self.snapshot)
            pending.shows = self._shown()
            self._seal_state(values, changes)
        if not self.exists:
            # A tombstone is purged by age. Renewing its time keeps it for as long as its newest records.
            values["deleted"] = timestamp(now)
        if bool(self.outbox) != self.relay_flag:
            self.relay_flag = bool(self.outbox)
            if self.relay_flag:
                values["relay"] = True
            else:
                changes.drop("relay")
        if pending.entries:
            values["outbox_last"] = self.outbox_last
        if self.alarms and pending.alarms:
            values["alarm_at"] = min(alarm.at for alarm in self.alarms.values())
        elif pending.alarms:
            changes.drop("alarm_at")
        self._former_commit = ""
        founding = self.partition if self.founding else None
        commit = f"{self.owner}.{self.turn}"
        return Commit(self.id, self.owner, self.turn, commit, values, list(changes.unset), size, founding)

    def _seal_state(self, values: dict[str, Any], changes: Changes) -> None:
        values["version"] = self.version
        values["updated_at"] = self.updated_at
        stored = self.committed
        if not self.exists:
            changes.drop("state")
        else:
            values["state"] = codec.Encoded(self.snapshot)
            schema = self.type.cls.schema_version
            if not stored.exists or (schema, self.made_at) != (self._stored_schema, stored.made_at):
                self._stored_schema = values["schema"] = schema
                values["made_at"] = self.made_at
                changes.drop("deleted")
        if self.project != stored.project:
            if self.project is None:
                changes.drop("project")
            else:
                values["project"] = self.project

    def wait_committed(self) -> asyncio.Future[None] | None:
        """Return a future that completes when everything done so far is durable, or None if it already is.

        The future raises the commit's `Failure` if the commit fails.
        """
        pending = self.uncommitted()
        if pending is None:
            return None
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def committed(failure: Failure | None) -> None:
            if future.done():
                return
            if failure is None:
                future.set_result(None)
            else:
                future.set_exception(failure)

        pending.callbacks.append(committed)
        return future

    def view(self) -> DurableObject:
        """Return the management view of the object, which must exist."""
        state = msgspec.to_builtins(self.state, str_keys=True)
        return _describe(
            self.type,
            self.id,
            self.version,
            state,
            self.made_at,
            self.updated_at,
            project=self.project,
            active=self.claimed,
        )


def describe(type: ObjectType, document: Document, *, active: bool) -> DurableObject:
    """Return the management view of a stored object. A state that its type can't read is shown as stored.

    A state of a newer schema needs no upcast, and is shown as stored too.
    """
    state = document.state or {}
    try:
        state = msgspec.to_builtins(type.load_state(state, document.schema), str_keys=True)
    except NewerSchema:
        pass
    except Exception:
        log.warning("the stored state of %s:%s can't be read", type.name, document.id, exc_info=True)
    made, updated = document.made_at or NEVER, document.updated_at or NEVER
    return _describe(type, document.id, document.version, state, made, updated, project=document.project, active=active)


def _describe(
    type: ObjectType,
    id: str,
    version: int,
    state: dict[str, Any],
    made_at: datetime,
    updated_at: datetime,
    *,
    project: str | None,
    active: bool,
) -> DurableObject:
    return DurableObject(
        object_id=subjects.join_object_id(type.name, id),
        type=type.name,
        id=id,
        version=version,
        state=state if type.cls.management == "raw" else None,
        status="active" if active else "hibernated",
        created_at=rfc3339(made_at),
        updated_at=rfc3339(updated_at),
        project=project,
    )
