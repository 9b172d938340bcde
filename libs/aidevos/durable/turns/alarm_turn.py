"""What is special about a turn that an alarm has begun.

Promises: an alarm begins a turn only if it is committed as it stands, and due. What has come of it is in one
commit with what its handler did: gone, moved to its next time, with one failed attempt more, or a dead letter in
the outbox. An attempt that follows one without an outcome, or may do so, is committed as failed before it begins.
An alarm whose letter finds no room stays until there is some.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec

from aidevos.contracts import subjects
from aidevos.contracts.dead_letters import Letter, letter_id
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import ALARM
from aidevos.durable.delivery.relay import letter_entry
from aidevos.durable.objects.alarms import Scheduled
from aidevos.durable.turns.outcome import check_bounds, gather
from aidevos.durable.turns.request import Answer
from aidevos.observability.metrics import ALARM_LATENESS, ALARMS

if TYPE_CHECKING:
    from aidevos.durable.turns.turn import Turn

log = logging.getLogger(__name__)


def begin_alarm(turn: Turn) -> bool:
    """Whether an alarm that was due is so still, and is to ring by its policy."""
    activation, request = turn.activation, turn.request
    scheduled = activation.due_alarm(request.alarm, turn.now)
    if scheduled is None:
        request.drop()
        return False
    if scheduled.spent:
        turn.alarms[request.alarm] = _bury(turn, scheduled, _no_outcome())
        _commit(turn, Answer(b"null"))
        return False
    planned = scheduled.planned(turn.now)
    if planned is None:
        ALARMS.labels("skipped").inc()
        turn.alarms[request.alarm] = scheduled.skipped(turn.now)
        _commit(turn, Answer(b"null"))
        return False
    ALARM_LATENESS.observe(max(0.0, turn.now - scheduled.at))
    turn.ringing = planned
    turn.counts_first = scheduled.failed > 0 or scheduled.at < activation.begun_at
    turn.alarm_key = planned.attempt_key
    request.args = {"alarm": planned.shown(request.alarm)} if request.method.name == ALARM else {}
    request.deadline = asyncio.get_running_loop().time() + turn.router.limits.alarm_deadline
    return True


async def count_attempt(turn: Turn) -> None:
    """Commit that an attempt has failed, before it begins; what comes of it takes the place of that."""
    ringing, turn.counts_first = turn.ringing, False
    assert ringing is not None  # noqa: S101
    turn.alarms[turn.request.alarm] = ringing.begun(turn.now, _name(turn))
    gather(turn, changed=False).urgent = True
    turn.ringing = ringing
    turn.router.commit(turn.activation)
    committed = turn.activation.wait_committed()
    if committed is not None:
        await committed


def fail_alarm(turn: Turn, answer: Answer) -> None:
    """Count an attempt that has failed; after the last one the alarm is a dead letter."""
    turn.entries, turn.alarms = [], {}
    failure, name = Failure.decode(answer.payload), turn.request.alarm
    if turn.ringing is not None:
        ALARMS.labels("failed").inc()
        again = turn.ringing.after_failure(turn.now, _name(turn))
        log.warning("%s: the alarm %s failed: %s", turn.activation.object_id, name, failure.detail)
        turn.alarms[name] = _bury(turn, again, failure) if again.spent else again
    _commit(turn, answer)


def _bury(turn: Turn, spent: Scheduled, failure: Failure) -> Scheduled | None:
    """What is left of an alarm that has no attempt any more; all of it while there is no room for its letter."""
    letter = letter_entry(turn.next_number(), _letter(turn, spent, failure))
    try:
        check_bounds(turn, b"", [letter])
    except Failure:
        return spent.later(turn.now, spent.failed, _name(turn))
    turn.entries.append(letter)
    return spent.next()


def _letter(turn: Turn, spent: Scheduled, failure: Failure) -> Letter:
    activation, request = turn.activation, turn.request
    args = {"alarm": spent.shown(request.alarm)} if request.method.name == ALARM else {}
    return Letter(
        id=letter_id(activation.object_id, spent.key, str(spent.due)),
        kind="alarm",
        source=activation.object_id,
        subject=subjects.call(activation.type.name, activation.id, request.method.name),
        payload=msgspec.json.encode(args),
        code=failure.code,
        detail=failure.detail,
        attempts=spent.failed,
        at=turn.now,
    )


def _name(turn: Turn) -> str:
    """The alarm's name in the fleet."""
    return f"{turn.activation.object_id}.{turn.request.alarm}"


def _no_outcome() -> Failure:
    return Failure("internal", "the last attempt has left no outcome: its process may have ended")


def _commit(turn: Turn, answer: Answer) -> None:
    """Commit what has become of an alarm that had no turn, or one that was undone."""
    pending = gather(turn, changed=False)
    pending.urgent = True
    pending.waiters.append((turn.request, answer))
    turn.router.commit(turn.activation)
