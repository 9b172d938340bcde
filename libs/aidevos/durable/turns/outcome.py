"""The outcome of a turn: its changes and messages, its completion record, and its answer.

Promises: all of them enter one pending commit, and the answer leaves when that commit is durable. The answer of a
turn without a commit of its own waits for the commits whose state it shows, and leaves only while the host owns the
object; otherwise the caller gets `moved`. A turn whose outcome exceeds its bounds leaves no trace.
"""

from __future__ import annotations

from typing import Any

import msgspec

from aidevos.contracts import envelope
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.completion import Record
from aidevos.durable.turns.environment import Environment
from aidevos.durable.turns.failures import moved
from aidevos.durable.turns.headers import Reply
from aidevos.durable.turns.request import Request
from aidevos.durable.turns.turn import Turn
from aidevos.observability.metrics import ALARMS

_FIRED = ALARMS.labels("fired")


def answer_when_committed(environment: Environment, activation: Activation, request: Request, reply: Reply) -> None:
    """Answer from memory, once every commit that the answer shows is durable. Without ownership, answer `moved`."""
    pending = activation.uncommitted()
    if pending is None and activation.founding:
        pending = activation.open_pending()
        pending.urgent = True
        activation.request_commit()
    if pending is not None:
        pending.readers.append((request, reply))
    else:
        request.respond(reply if environment.owns(activation) else Reply.of(moved()))


def complete(turn: Turn, result: Any) -> Reply:
    """Return the reply of a method that has returned. A command's reply is already queued behind its commit.

    Raises if the state can't be stored or the result can't be sent; nothing has then entered a commit.
    """
    activation, request, effects = turn.activation, turn.request, turn.effects
    if not request.method.is_command:
        if not _is_unchanged(activation):
            raise RuntimeError(f"the query {request.method.name} changed the state")
        return _answer(turn, result)
    encoded = activation.type.encode_state(activation.state)
    if encoded != activation.snapshot:
        activation.type.check_state(activation.state)
    effects.check_bounds(encoded, effects.entries)
    changed = encoded != activation.snapshot or not activation.exists or effects.deleted or effects.rewrites
    before = (activation.snapshot, activation.exists, activation.version, activation.made_at, activation.updated_at)
    project = activation.project
    if changed:
        effects.advance(encoded, keeps_version=request.method.keeps_version)
    try:
        reply = _answer(turn, result)
        effects.check_document(encoded, reply.payload if request.key else b"")
    except BaseException:
        activation.snapshot, activation.exists, activation.version, activation.made_at, activation.updated_at = before
        activation.project = project
        raise
    _commit(turn, reply, changed)
    return reply


def record_outcome(turn: Turn, reply: Reply, *, durable: bool) -> None:
    """Record the outcome of a command with a request ID in the pending commit, and answer once that is durable."""
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


def roll_back(activation: Activation) -> None:
    """Restore the state from before the turn."""
    activation.restore(activation.snapshot)


def _is_unchanged(activation: Activation) -> bool:
    """Return True if a query has left the state as it was.

    MessagePack takes a tenth of the time of BSON. So the state is compared with the snapshot once, and their hashes are
    kept for the next queries.
    """
    seen = hash(activation.snapshot), hash(msgspec.msgpack.encode(activation.state))
    if seen != activation.seen:
        if activation.type.encode_state(activation.state) != activation.snapshot:
            return False
        activation.seen = seen
    return True


def _answer(turn: Turn, result: Any) -> Reply:
    request = turn.request
    payload = _encode(turn.activation.view() if turn.returns_view else result, request)
    is_encoded = isinstance(result, msgspec.Raw)
    if not (turn.returns_view or (is_encoded and turn.environment.on_defect is None)):
        request.method.check_result(payload, request.content_type)
    limit = turn.environment.limits.answer
    if len(payload) > limit:
        raise RuntimeError(f"the result has more than {limit} bytes")
    return Reply(payload)


def _encode(result: Any, request: Request) -> bytes:
    """Encode a result. One that is `msgspec.Raw` is JSON already; only the test kit checks it."""
    if request.content_type == envelope.MSGPACK:
        if isinstance(result, msgspec.Raw):
            result = msgspec.json.decode(result)
        return msgspec.msgpack.encode(result)
    return msgspec.json.encode(result)


def _commit(turn: Turn, reply: Reply, changed: bool) -> None:
    effects = turn.effects
    if effects.ringing is not None:
        _FIRED.inc()
        effects.alarms.setdefault(effects.alarm, effects.ringing.advance())
    if not (changed or effects.entries or effects.alarms or turn.request.key or effects.forgets):
        answer_when_committed(turn.environment, turn.activation, turn.request, reply)
        return
    effects.gather(changed=changed)
    record_outcome(turn, reply, durable=True)
