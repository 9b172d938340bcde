"""What a turn leaves behind: what it has changed and sent, its outcome, and its answer.

Promises: all of it goes into one pending commit, and the answer leaves when that is durable. An answer of what
was only seen waits for the commits of what it shows, and leaves while the host holds its lease. A turn whose
outcome would not fit its bounds leaves nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec

from aidevos.contracts import envelope
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.completion import Record
from aidevos.durable.turns.environment import Environment
from aidevos.durable.turns.headers import Reply
from aidevos.durable.turns.request import Request
from aidevos.durable.turns.turn import Turn
from aidevos.observability.metrics import ALARMS


def answer_when_committed(environment: Environment, activation: Activation, request: Request, reply: Reply) -> None:
    """Reply with what this activation's memory shows: after the commits that it shows, and only
    while the host holds its lease."""
    pending = activation.uncommitted()
    if pending is None and activation.founding:
        pending = activation.open_pending()
        pending.urgent = True
        activation.request_commit()
    if pending is not None:
        pending.readers.append((request, reply))
    else:
        request.respond(reply if environment.may_answer() else None)


def succeed(turn: Turn, result: Any) -> Reply:
    """The answer of a method that has returned; that of a command is on its way already. Raises for a state or
    a result that can't be kept or answered, and then nothing has been gathered."""
    activation, request, effects = turn.activation, turn.request, turn.effects
    encoded = activation.type.encode_state(activation.object.state)
    if not request.method.is_command:
        if encoded != activation.snapshot:
            raise RuntimeError(f"the query {request.method.name} changed the state")
        return _answer(turn, result)
    if encoded != activation.snapshot:
        activation.type.check_state(encoded)
    effects.check_bounds(encoded, effects.entries)
    changed = encoded != activation.snapshot or not activation.exists or effects.deleted
    before = (activation.snapshot, activation.exists, activation.version, activation.made_at, activation.updated_at)
    project = activation.project
    if changed:
        effects.advance(encoded, keeps_version=request.method.keeps_version)
    try:
        reply = _answer(turn, result)
    except BaseException:
        activation.snapshot, activation.exists, activation.version, activation.made_at, activation.updated_at = before
        activation.project = project
        raise
    _commit(turn, reply, changed)
    return reply


def record(turn: Turn, reply: Reply, *, durable: bool) -> None:
    """Put a command's outcome into the pending commit, where it has a request ID, and answer then."""
    activation, request = turn.activation, turn.request
    if request.key is not None and durable:
        outcome = Record(request.fingerprint, reply.payload, reply.failed, turn.now, request.key.tell)
        activation.records.add(request.key, outcome)
    elif reply.failed:
        answer_when_committed(turn.environment, activation, request, reply)
        return
    pending = activation.open_pending()
    pending.urgent = True
    pending.waiters.append((request, reply))
    activation.request_commit()


def undo(activation: Activation) -> None:
    """Put the state back to what it was before the turn."""
    activation.restore(activation.snapshot)


def _answer(turn: Turn, result: Any) -> Reply:
    payload = _encode(turn.activation.view() if turn.shows_object else result, turn.request)
    limit = turn.environment.limits.answer
    if len(payload) > limit:
        raise RuntimeError(f"the result has more than {limit} bytes")
    return Reply(payload)


def _encode(result: Any, request: Request) -> bytes:
    if request.content_type == envelope.MSGPACK:
        return msgspec.msgpack.encode(result)
    return msgspec.json.encode(result)


def _commit(turn: Turn, reply: Reply, changed: bool) -> None:
    effects = turn.effects
    if effects.ringing is not None:
        ALARMS.labels("fired").inc()
        effects.alarms.setdefault(effects.alarm, effects.ringing.advance())
    if not (changed or effects.entries or effects.alarms or turn.request.key):
        answer_when_committed(turn.environment, turn.activation, turn.request, reply)
        return
    effects.gather(changed=changed)
    record(turn, reply, durable=True)
