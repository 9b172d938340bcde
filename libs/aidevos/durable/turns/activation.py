"""An object in memory: what was committed, what was done since, and who waits for it.

Invariants: an activation has won a claim under an owner ID that is never used again, or it is
`founding`: its first commit makes the document and so claims it, and until then nothing that it has
seen is answered. Its commits form a chain, each naming the one before. Once `broken`, it is out of
the catalogue, starts no turn, commits nothing and answers nothing but failures: a commit that was
fenced, or whose outcome is not known, is never followed by an answer from its memory.
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
from aidevos.durable.objects.registry import ObjectType
from aidevos.durable.store import codec
from aidevos.durable.store.port import Commit, Document
from aidevos.durable.turns.completion import Bounds, Changes, CompletionRecords, Record
from aidevos.durable.turns.mailbox import Mailbox
from aidevos.durable.turns.pending import Pending, StreamPosition

log = logging.getLogger(__name__)
BASE_SIZE = 4096
MAX_EPHEMERAL = 64
NEVER = datetime.fromtimestamp(0, UTC)


class Activation:
    """An object in memory. `save` asks for a commit of what is pending."""

    def __init__(self, type: ObjectType, id: str, mailbox: Mailbox, save: Callable[[Activation], None]) -> None:
        self._save = save
        self.type = type
        self.id = id
        self.partition = subjects.partition(type.name, id)
        self.mailbox = mailbox
        self.broken = False
        self.loaded = False
        self.claimed = False
        # Whether it only assumes that the object isn't there: its first commit will tell.
        self.founding = False
        self.moving = False
        # Whether it comes into memory for an alarm, and whether one rings.
        self.woken = False
        self.ringing = False
        self.last_used = 0.0
        # When it had come into memory, in seconds since the epoch.
        self.begun_at = 0.0
        self.stream = StreamPosition()
        self.pending: Pending | None = None
        self.in_flight: Pending | None = None
        # Outcomes of confidential commands, the latest ones.
        self.ephemeral: dict[str, Record] = {}

    def load(self, document: Document | None, bounds: Bounds, *, claimed: bool) -> None:
        """Take over what the store holds; raises `Failure` for a state that can't be read."""
        self.owner = document.owner if document and document.owner else ""
        self.commit = document.commit if document else None
        self.commits = 0
        self.version = document.version if document else 0
        self.exists = bool(document and document.exists)
        self.project = self.stored_project = document.project if document else None
        self.made_at = (document and document.made_at) or NEVER
        self.updated_at = (document and document.updated_at) or NEVER
        self.records = CompletionRecords(
            document.replies if document else {}, bool(document and document.archived), bounds
        )
        self.outbox: dict[int, dict[str, Any]] = {}
        if document:
            self.outbox = {int(number): entry for number, entry in document.outbox.items()}
        self.outbox_last = max(document.outbox_last if document else 0, *self.outbox, 0)
        self.outbox_size = sum(len(entry["payload"]) for entry in self.outbox.values())
        # Whether the document says that its outbox holds something; None while that isn't known.
        self.relay_flag: bool | None = bool(self.outbox)
        stored = document.alarms if document else {}
        self.alarms = {name: Scheduled.from_document(alarm) for name, alarm in stored.items()}
        state = self.type.default_state()
        if document and document.exists and document.state is not None:
            state = self._load_state(document.state, document.schema)
        self.object: BaseDurableObject[Any] = self.type.cls(self.id, state)
        self.snapshot = codec.encode(state)
        self.committed = self.snapshot
        self.loaded = True
        self.claimed = claimed

    def found(self, owner: str, bounds: Bounds) -> None:
        """Begin as the object's first owner, unless the first commit finds a document."""
        self.load(None, bounds, claimed=True)
        self.owner = owner
        self.founding = True
        # There was no event before; if there was one after all, the stream says so.
        self.stream.known = True

    def remember(self, key: str, record: Record) -> None:
        """Keep the outcome of a confidential command for the repeats of a caller that still waits."""
        self.ephemeral[key] = record
        if len(self.ephemeral) > MAX_EPHEMERAL:
            del self.ephemeral[next(iter(self.ephemeral))]

    def restore(self, snapshot: bytes) -> None:
        """Make the state what it was when it was encoded. Encoded again it may look different: a
        whole number in a field for floats has become a float."""
        self.object.state = msgspec.convert(codec.decode(snapshot), self.type.cls.state_type, str_keys=True)
        self.snapshot = codec.encode(self.object.state)

    def _load_state(self, state: dict[str, Any], schema: int) -> msgspec.Struct:
        try:
            return self.type.load_state(state, schema)
        except msgspec.ValidationError as error:
            raise Failure("internal", f"the stored state of {self.object_id} can't be read: {error}") from error

    @property
    def object_id(self) -> str:
        return subjects.join_object_id(self.type.name, self.id)

    @property
    def size(self) -> int:
        """Bytes of memory, roughly."""
        if not self.loaded:
            return BASE_SIZE
        alarms = sum(alarm.size for alarm in self.alarms.values())
        return BASE_SIZE + 2 * len(self.snapshot) + self.records.size + self.outbox_size + alarms

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost or late if the object left memory now."""
        return self.loaded and self.mailbox.idle and not (self.pending or self.in_flight or self.outbox)

    @property
    def settled(self) -> bool:
        """Whether nobody waits and everything is committed; the outbox is the next owner's business."""
        return self.mailbox.idle and not (self.pending or self.in_flight)

    @property
    def only_sent(self) -> bool:
        """Whether all that waits for a commit is that everything in the outbox was sent."""
        return self.pending is not None and not (self.outbox or self.in_flight) and self.pending.only_sent

    def request_commit(self) -> None:
        """Commit what is pending, soon and together with other objects."""
        self._save(self)

    def open_pending(self) -> Pending:
        """The commit that gathers changes now."""
        if self.pending is None:
            self.pending = Pending()
        return self.pending

    def uncommitted(self) -> Pending | None:
        """The last commit that is not durable yet and that somebody could see something of."""
        for pending in (self.pending, self.in_flight):
            if pending is not None and pending.urgent:
                return pending
        return None

    def next_alarm(self) -> tuple[float, str] | None:
        """When which alarm rings next, of those that are committed as they are."""
        return min(
            ((alarm.at, name) for name, alarm in self.alarms.items() if not self._changes_alarm(name)), default=None
        )

    def due_alarm(self, name: str, now: float) -> Scheduled | None:
        """The alarm of this name, if it is committed as it is, and due."""
        alarm = self.alarms.get(name)
        return None if alarm is None or alarm.at > now or self._changes_alarm(name) else alarm

    def _changes_alarm(self, name: str) -> bool:
        return any(pending is not None and name in pending.alarms for pending in (self.pending, self.in_flight))

    def seal(self, pending: Pending, now: float) -> Commit:
        """The commit of everything done since the last one; it is in flight from here on."""
        self.pending, self.in_flight = None, pending
        self.commits += 1
        changes = pending.changes
        self.records.seal(changes)
        size = changes.size + 1024
        values: dict[str, Any] = changes.set
        if pending.state_changed:
            size += len(self.snapshot)
            self._seal_state(values, changes)
        if not self.exists:
            # A tombstone is purged by age: not before the records that it has got since are too old.
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
        previous, self.commit = self.commit, f"{self.owner}.{self.commits}"
        founding = self.partition if self.founding else None
        return Commit(self.id, self.owner, previous, self.commit, values, list(changes.unset), size, founding)

    def _seal_state(self, values: dict[str, Any], changes: Changes) -> None:
        values["version"] = self.version
        values["updated_at"] = self.updated_at
        if self.exists:
            values["state"] = codec.as_raw(self.snapshot)
            values["schema"] = self.type.cls.schema_version
            values["made_at"] = self.made_at
            changes.drop("deleted")
        else:
            changes.drop("state")
        if self.project != self.stored_project:
            self.stored_project = self.project
            if self.project is None:
                changes.drop("project")
            else:
                values["project"] = self.project

    def wait_committed(self) -> asyncio.Future[None] | None:
        """A future that is done when all that was done so far is durable; it fails if that fails."""
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
        """The object as management shows it, as of now; it exists."""
        state = msgspec.to_builtins(self.object.state, str_keys=True)
        return _shown(
            self.type,
            self.id,
            self.version,
            state,
            self.made_at,
            self.updated_at,
            project=self.project,
            active=self.claimed,
        )


def show(type: ObjectType, document: Document, *, active: bool) -> DurableObject:
    """A stored object as management shows it; a state that its type can't read is shown as it is stored."""
    state = document.state or {}
    try:
        state = msgspec.to_builtins(type.load_state(state, document.schema), str_keys=True)
    except Exception:
        log.warning("the stored state of %s:%s can't be read", type.name, document.id, exc_info=True)
    made, updated = document.made_at or NEVER, document.updated_at or NEVER
    return _shown(type, document.id, document.version, state, made, updated, project=document.project, active=active)


def _shown(
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
