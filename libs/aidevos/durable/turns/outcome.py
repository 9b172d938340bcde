"""What a turn leaves behind: what it has changed and sent, its outcome, and its answer.

Promises: all of it goes into one pending commit, and the answer leaves when that is durable. An answer of what
was only seen waits for the commits of what it shows, and leaves while the host holds its lease. A turn whose
outcome would not fit its bounds leaves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from aidevos.contracts import envelope
from aidevos.contracts.errors import Failure
from aidevos.durable.base.clock import timestamp
from aidevos.durable.delivery.relay import Entry
from aidevos.durable.objects.alarms import EXPIRY, expiry
from aidevos.durable.store import codec
from aidevos.durable.turns.activation import Activation, Pending
from aidevos.durable.turns.completion import Record
from aidevos.durable.turns.request import Answer, Request
from aidevos.observability.metrics import ALARMS

if TYPE_CHECKING:
    from aidevos.durable.ownership.router import DurableObjectRouter
    from aidevos.durable.turns.turn import Turn

OUTBOX_BYTES = 2 * 1024 * 1024


def answer_when_committed(
    router: DurableObjectRouter, activation: Activation, request: Request, answer: Answer
) -> None:
    """Answer with what this activation's memory shows: after the commits that it shows, and only
    while the host holds its lease."""
    pending = activation.uncommitted()
    if pending is None and activation.founding:
        pending = activation.open_pending()
        pending.urgent = True
        router.commit(activation)
    if pending is not None:
        pending.readers.append((request, answer))
    else:
        request.respond(answer if router.lease_valid() else None)


def succeed(turn: Turn, result: Any) -> Answer:
    """The answer of a method that has returned; that of a command is on its way already. Raises for a state or
    a result that can't be kept or answered, and then nothing has been gathered."""
    activation, request = turn.activation, turn.request
    encoded = activation.type.encode_state(activation.object.state)
    if not request.method.is_command:
        if encoded != activation.snapshot:
            raise RuntimeError(f"the query {request.method.name} changed the state")
        return _answer(turn, result)
    if encoded != activation.snapshot:
        activation.type.check_state(encoded)
    check_bounds(turn, encoded, turn.entries)
    changed = encoded != activation.snapshot or not activation.exists or turn.deleted
    before = (activation.snapshot, activation.exists, activation.version, activation.made_at, activation.updated_at)
    project = activation.project
    if changed:
        advance(turn, encoded, request.method.keeps_version)
    try:
        answer = _answer(turn, result)
    except BaseException:
        activation.snapshot, activation.exists, activation.version, activation.made_at, activation.updated_at = before
        activation.project = project
        raise
    _commit(turn, answer, changed)
    return answer


def check_bounds(turn: Turn, state: bytes, entries: Sequence[Entry]) -> None:
    """Refuse a turn whose outcome would not fit; raises `too-large` or `overloaded`."""
    activation, limits = turn.activation, turn.router.limits
    limit = activation.type.cls.state_limit or limits.state
    if len(state) > limit:
        raise Failure("too-large", f"the state would have more than {limit} bytes", field="state")
    if not entries:
        return
    if any(len(entry.payload) > limits.answer for entry in entries):
        raise Failure("too-large", f"an event or tell has more than {limits.answer} bytes")
    size = sum(len(entry.payload) for entry in entries)
    if size > OUTBOX_BYTES or len(entries) > limits.outbox:
        raise Failure("too-large", "one turn can't emit and tell so much")
    crowded = len(activation.outbox) + len(entries) > limits.outbox
    if crowded or activation.outbox_size + size > OUTBOX_BYTES:
        raise Failure("overloaded", "too many events and tells of this object wait to be sent", retry_after=2.0)


def advance(turn: Turn, encoded: bytes, keeps_version: bool) -> None:
    """Make the state that the turn has built the object's own, and with it version, times and project."""
    activation = turn.activation
    moment: datetime = timestamp(turn.now)
    if turn.deleted or not (keeps_version and activation.exists):
        activation.version += 1
        activation.updated_at = moment
    if turn.deleted:
        activation.exists, activation.project = False, None
        activation.object.state = activation.type.default_state()
        activation.snapshot = codec.encode(activation.object.state)
        return
    if not activation.exists:
        activation.exists, activation.project = True, turn.joins
        activation.made_at = moment
    activation.snapshot = encoded


def gather(turn: Turn, changed: bool) -> Pending:
    """Put what the turn has changed and sent into the pending commit."""
    activation = turn.activation
    pending = activation.open_pending()
    pending.state_changed = pending.state_changed or changed
    for entry in turn.entries:
        document = entry.to_document()
        activation.outbox[entry.number] = document
        activation.outbox_size += len(entry.payload)
        activation.outbox_last = entry.number
        pending.changes.put(f"outbox.{entry.number}", document)
        pending.entries.append(entry.number)
    turn.entries = []
    _gather_alarms(turn, pending, changed)
    return pending


def record(turn: Turn, answer: Answer, *, durable: bool) -> None:
    """Put a command's outcome into the pending commit, where it has a request ID, and answer then."""
    activation, request = turn.activation, turn.request
    if request.key is not None and durable:
        outcome = Record(request.fingerprint, answer.payload, answer.failed, turn.now, request.key.tell)
        activation.records.add(request.key, outcome)
    elif answer.failed:
        answer_when_committed(turn.router, activation, request, answer)
        return
    pending = activation.open_pending()
    pending.urgent = True
    pending.waiters.append((request, answer))
    turn.router.commit(activation)


def undo(activation: Activation) -> None:
    """Put the state back to what it was before the turn."""
    activation.restore(activation.snapshot)


def _answer(turn: Turn, result: Any) -> Answer:
    payload = _encode(turn.activation.view() if turn.shows_object else result, turn.request)
    limit = turn.router.limits.answer
    if len(payload) > limit:
        raise RuntimeError(f"the result has more than {limit} bytes")
    return Answer(payload)


def _encode(result: Any, request: Request) -> bytes:
    if request.content_type == envelope.MSGPACK:
        return msgspec.msgpack.encode(result)
    return msgspec.json.encode(result)


def _commit(turn: Turn, answer: Answer, changed: bool) -> None:
    if turn.ringing is not None:
        ALARMS.labels("fired").inc()
        turn.alarms.setdefault(turn.request.alarm, turn.ringing.next())
    if not (changed or turn.entries or turn.alarms or turn.request.key):
        answer_when_committed(turn.router, turn.activation, turn.request, answer)
        return
    gather(turn, changed)
    record(turn, answer, durable=True)


def _gather_alarms(turn: Turn, pending: Pending, changed: bool) -> None:
    activation = turn.activation
    after = activation.type.cls.expires_after
    if turn.deleted:
        turn.alarms = dict.fromkeys(activation.alarms)
    elif changed and after is not None:
        turn.alarms[EXPIRY] = expiry(turn.now, after)
    if turn.request.alarm in turn.alarms:
        turn.ringing = None
    for name, alarm in turn.alarms.items():
        pending.alarms.add(name)
        if alarm is None:
            activation.alarms.pop(name, None)
            pending.changes.drop(f"alarms.{name}")
        else:
            activation.alarms[name] = alarm
            pending.changes.put(f"alarms.{name}", alarm.to_document())
    turn.alarms = {}
