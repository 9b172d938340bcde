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
from aidevos.durable.turns.pending import PendingCommit

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

    __slots__ = ("_activation", "_limits", "alarm", "alarms", "deleted", "entries", "now", "project", "ringing")

    def __init__(self, activation: Activation, limits: Limits, now: float, alarm: str) -> None:
        self._activation = activation
        self._limits = limits
        self.now = now
        self.alarm = alarm
        self.entries: list[Entry] = []
        # The new schedule of each changed alarm; None removes it.
        self.alarms: dict[str, Scheduled | None] = {}
        # The alarm that started the turn, until its outcome is known.
        self.ringing: Scheduled | None = None
        self.deleted = False
        # The project of an object that this turn creates.
        self.project: str | None = None

    def check_document(self, state: bytes, reply: bytes) -> None:
        """Raise `too-large` or `overloaded` if the document would get too large with this state and recorded reply."""
        added = len(state) + len(reply) + BYTES_LIMIT
        if self.entries:
            added += sum(len(entry.payload) + ENTRY_OVERHEAD for entry in self.entries)
        if added > DOCUMENT_BYTES:
            raise Failure("too-large", f"the state, events and result would exceed {DOCUMENT_BYTES} bytes")
        activation = self._activation
        outbox = activation.outbox_size + ENTRY_OVERHEAD * len(activation.outbox)
        if added + outbox + activation.records.size > DOCUMENT_BYTES:
            raise Failure("overloaded", "too many results and unsent events of this object are kept", retry_after=1.0)

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
            activation.exists, activation.project = False, None
            activation.state = activation.type.default_state()
            activation.snapshot = codec.encode(activation.state)
            return
        if not activation.exists:
            activation.exists, activation.project = True, self.project
            activation.made_at = moment
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
        return pending

    def _gather_alarms(self, pending: PendingCommit, changed: bool) -> None:
        activation = self._activation
        after = activation.type.cls.expires_after
        if self.deleted:
            self.alarms = dict.fromkeys(activation.alarms)
        elif changed and after is not None:
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
