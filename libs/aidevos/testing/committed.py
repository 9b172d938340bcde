"""The events and tells that a kit's objects have committed."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from aidevos.durable.hosting.runtime import Runtime
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.entries import Entry
from aidevos.durable.turns.pending import PendingCommit


class Tell(NamedTuple):
    """A tell, with its arguments as JSON has them."""

    type: str
    id: str
    method: str
    args: dict[str, Any]

    @classmethod
    def of(cls, entry: Entry) -> Tell:
        _, type, id, method = entry.subject.split(".")
        return cls(type, id, method, msgspec.json.decode(entry.payload))


class RecordingRuntime(Runtime):
    """A runtime that keeps every outbox entry of its commits, also after it was sent."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._entries: list[Entry] = []
        super().__init__(*args, **options)

    def entries(self, kind: str) -> list[Entry]:
        """Return the committed entries of a kind, in the order of the commits."""
        return [entry for entry in self._entries if entry.kind == kind]

    def _on_committed(self, activation: Activation, pending: PendingCommit) -> None:
        for number in pending.entries:
            if number in activation.outbox:
                self._entries.append(Entry.from_document(number, activation.outbox[number]))
        super()._on_committed(activation, pending)
