"""The effects of one turn: its changes and outgoing messages, which enter a commit all together or not at all."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from aidevos.contracts.errors import Failure
from aidevos.contracts.times import timestamp
from aidevos.durable.objects.alarm import BYTES_LIMIT, EXPIRY, Scheduled, schedule_expiry
from aidevos.durable.store import codec
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.entries import Entry
from aidevos.durable.turns.environment import Limits
from aidevos.durable.turns.history import Author, Version
from aidevos.durable.turns.pending import PendingCommit
from aidevos.durable.turns.request import Request

log = logging.getLogger(__name__)
OUTBOX_BYTES = 2 * 1024 * 1024
# MongoDB refuses documents of more than 16 MiB. The rest is for names, times and the short outcomes of failed turns.
DOCUMENT_BYTES = 15 * 1024 * 1024
# An upper bound of what an outbox entry takes in addition to its payload.
ENTRY_OVERHEAD = 512


class Effects:
    """The effects of one turn.

    `now` is the turn's time in seconds since the epoch. `alarm` is the name of the alarm that started the turn, or
    empty.
    """

    __slots__ = (
        "_activation",
        "_limits",
        "_request",
        "alarm",
        "alarms",
        "continues",
        "deleted",
        "ends_history",
        "entries",
        "forgets",
        "made_at",
        "now",
        "project",
        "rewrites",
        "ringing",
    )

    def __init__(self, activation: Activation, limits: Limits, now: float, request: Request) -> None:
        self._activation = activation
        self._limits = limits
        self._request = request
        self.now = now
        self.alarm = request.alarm
        self.entries: list[Entry] = []
        # The new schedule of each changed alarm; None removes it.
        self.alarms: dict[str, Scheduled | None] = {}
        # The alarm that started the turn, until its outcome is known.
        self.ringing: Scheduled | None = None
        self.deleted = False
        # True if the state is written although it is unchanged.
        self.rewrites = False
        # True if the object that this turn creates goes on with the history of the deleted one.
        self.continues = False
        # True if the turn ends the history: versions before it, or all with the object itself, are erased.
        self.forgets = self.ends_history = False
        # The project of an object that this turn creates.
        self.project: str | None = None
        # The time of its creation, if that isn't now.
        self.made_at: datetime | None = None

    def check_document(self, state: bytes, reply: bytes) -> None:
        """Raise `too-large` or `overloaded` if the document would get too large with this state and recorded reply."""
        activation, kept = self._activation, 0
        added = len(state) + len(reply) + BYTES_LIMIT
        if activation.history is not None:
            added, kept = added + len(state), activation.history.size
        if self.entries:
            added += sum(len(entry.payload) + ENTRY_OVERHEAD for entry in self.entries)
        if added > DOCUMENT_BYTES:
            raise Failure("too-large", f"the state, events and result would exceed {DOCUMENT_BYTES} bytes")
        outbox = activation.outbox_size + ENTRY_OVERHEAD * len(activation.outbox)
        if added + outbox + activation.records.size + kept > DOCUMENT_BYTES:
            detail = "too many results, versions and unsent events of this object are kept"
            raise Failure("overloaded", detail, retry_after=1.0)

    def check_bounds(self, state: bytes, entries: Sequence[Entry]) -> None:
        """Raise `too-large` or `overloaded` if the encoded state or the entries exceed their bounds."""
        activation, limits = self._activation, self._limits
        limit = activation.type.cls.state_limit or limits.state
        if len(state) > limit:
            log.warning(
                "%s: a turn's state has %d bytes, more than %d",
                activation.object_id,
                len(state),
                limit,
                extra=activation.log_fields,
            )
            raise Failure("too-large", f"the state would exceed {limit} bytes", field="state")
        if not entries:
            return
        if any(len(entry.payload) > limits.answer for entry in entries):
            raise Failure("too-large", f"an event or tell exceeds {limits.answer} bytes")
        size = sum(len(entry.payload) for entry in entries)
        if size > OUTBOX_BYTES or len(entries) > limits.outbox:
            raise Failure("too-large", "the events and tells of one turn don't fit the outbox")
        crowded = len(activation.outbox) + len(entries) > limits.outbox
        if crowded or activation.outbox_size + size > OUTBOX_BYTES:
            raise Failure("overloaded", "too many events and tells of this object are unsent", retry_after=2.0)

    def advance(self, encoded: bytes, *, keeps_version: bool) -> None:
        """Adopt the encoded state of the turn, and update version, times and project."""
        activation = self._activation
        moment: datetime = timestamp(self.now)
        if self.deleted or not (keeps_version and activation.exists):
            activation.version += 1
            activation.updated_at = moment
        if self.deleted:
            # The members of its project couldn't be told from others any more.
            self.ends_history = activation.project is not None
            activation.exists, activation.project = False, None
            activation.state = activation.type.default_state()
            activation.snapshot = codec.encode(activation.state)
            return
        if not activation.exists:
            activation.exists, activation.project = True, self.project
            activation.made_at = self.made_at or moment
            self.forgets = self.forgets or not self.continues
        activation.snapshot = encoded

    def gather(self, *, changed: bool) -> PendingCommit:
        """Move all effects into the pending commit and return it. `changed` is True if the state has changed."""
        activation = self._activation
        pending = activation.open_pending()
        pending.state_changed = pending.state_changed or changed
        for entry in self.entries:
            document = entry.to_document()
            activation.outbox[entry.number] = document
            activation.outbox_size += len(entry.payload)
            activation.outbox_last = entry.number
            pending.changes.put(f"outbox.{entry.number}", document)
            pending.entries.append(entry.number)
        self.entries = []
        self._gather_alarms(pending, changed)
        if activation.history is not None:
            self._gather_version(pending, changed)
        return pending

    def _gather_version(self, pending: PendingCommit, changed: bool) -> None:
        activation, history, request = self._activation, self._activation.history, self._request
        if history is None:
            return
        number = activation.version
        if self.ends_history or self.forgets:
            history.begin(number + 1 if self.ends_history else number, pending.changes)
            self.forgets = False
        if changed and not self.ends_history and history.latest != number:
            author = Author(request.principal.subject, request.method.name, request.request_id)
            state = None if self.deleted else activation.snapshot
            version = Version.of(number, self.now, author, activation.type.cls.schema_version, state)
            history.add(version, pending.changes)

    def _gather_alarms(self, pending: PendingCommit, changed: bool) -> None:
        activation = self._activation
        after = activation.type.cls.expires_after
        if self.deleted:
            self.alarms = dict.fromkeys(activation.alarms)
        elif changed and after is not None and not self.rewrites:
            self.alarms[EXPIRY] = schedule_expiry(self.now, after)
        if self.alarm in self.alarms:
            self.ringing = None
        for name, alarm in self.alarms.items():
            pending.alarms.add(name)
            if alarm is None:
                activation.alarms.pop(name, None)
                pending.changes.drop(f"alarms.{name}")
            else:
                activation.alarms[name] = alarm
                pending.changes.put(f"alarms.{name}", alarm.to_document())
        self.alarms = {}
