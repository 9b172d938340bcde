"""The parts of a turn that apply only when an alarm starts it.

Promises: an alarm starts a turn only if it is due and no uncommitted change affects it. Its outcome is in the same
commit as the changes of its handler: the alarm is removed, moved to its next time, given one more failed attempt, or
replaced by a dead letter in the outbox. It stays scheduled while the outbox has no room for its dead letter.

If an earlier attempt failed or may have left no outcome, the next attempt is committed as failed before it begins.
The attempts of an alarm that kills its process are therefore counted too.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from aidevos.contracts import subjects
from aidevos.contracts.dead_letters import Letter, letter_id
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import ALARM
from aidevos.durable.objects.alarm import Scheduled
from aidevos.durable.turns.entries import letter_entry
from aidevos.durable.turns.headers import Reply
from aidevos.durable.turns.turn import Turn
from aidevos.observability.metrics import ALARM_LATENESS, ALARMS

log = logging.getLogger(__name__)


def begin_alarm(turn: Turn) -> bool:
    """Return True if the alarm is still due and its policy lets it ring now. Otherwise the request is answered."""
    activation, request = turn.activation, turn.request
    scheduled = activation.due_alarm(request.alarm, turn.now)
    if scheduled is None:
        request.respond(Reply(b"null"))
        return False
    if scheduled.is_exhausted:
        turn.effects.alarms[request.alarm] = _bury(turn, scheduled, _no_outcome())
        _commit(turn, Reply(b"null"))
        return False
    planned = scheduled.choose_occurrence(turn.now)
    if planned is None:
        ALARMS.labels("skipped").inc()
        turn.effects.alarms[request.alarm] = scheduled.skip_missed(turn.now)
        _commit(turn, Reply(b"null"))
        return False
    ALARM_LATENESS.observe(max(0.0, turn.now - scheduled.at))
    turn.effects.ringing = planned
    turn.counts_attempt_first = scheduled.failed > 0 or scheduled.at < activation.loaded_at
    turn.alarm_key = planned.attempt_key
    request.args = {"alarm": planned.to_alarm(request.alarm)} if request.method.name == ALARM else {}
    request.deadline = asyncio.get_running_loop().time() + turn.environment.limits.alarm_deadline
    return True


async def count_attempt(turn: Turn) -> None:
    """Commit the attempt as failed before it begins. Its real outcome replaces this entry."""
    ringing, turn.counts_attempt_first = turn.effects.ringing, False
    assert ringing is not None  # noqa: S101
    turn.effects.alarms[turn.request.alarm] = ringing.mark_begun(turn.now, _alarm_seed(turn))
    turn.effects.gather(changed=False).urgent = True
    turn.effects.ringing = ringing
    turn.activation.request_commit()
    committed = turn.activation.wait_committed()
    if committed is not None:
        await committed


def fail_alarm(turn: Turn, answer: Reply) -> None:
    """Commit a failed attempt; after the last one, turn the alarm into a dead letter."""
    turn.effects.entries, turn.effects.alarms = [], {}
    failure, name = Failure.decode(answer.payload), turn.request.alarm
    if turn.effects.ringing is not None:
        ALARMS.labels("failed").inc()
        again = turn.effects.ringing.mark_failed(turn.now, _alarm_seed(turn))
        log.warning(
            "%s: the alarm %s failed: %s",
            turn.activation.object_id,
            name,
            failure.detail,
            extra=turn.activation.log_fields,
        )
        turn.effects.alarms[name] = _bury(turn, again, failure) if again.is_exhausted else again
    _commit(turn, answer)


def _bury(turn: Turn, spent: Scheduled, failure: Failure) -> Scheduled | None:
    """Add the dead letter of an alarm without attempts left; return the alarm's next occurrence.

    If the outbox has no room for the letter, return the alarm itself, delayed.
    """
    letter = letter_entry(turn.next_number(), _letter(turn, spent, failure))
    try:
        turn.effects.check_bounds(b"", [letter])
    except Failure:
        return spent.postpone(turn.now, spent.failed, _alarm_seed(turn))
    turn.effects.entries.append(letter)
    ALARMS.labels("buried").inc()
    return spent.advance()


def _letter(turn: Turn, spent: Scheduled, failure: Failure) -> Letter:
    activation, request = turn.activation, turn.request
    args = {"alarm": spent.to_alarm(request.alarm)} if request.method.name == ALARM else {}
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


def _alarm_seed(turn: Turn) -> str:
    """Return the name of the alarm, unique in the fleet. It seeds the jitter of the backoff."""
    return f"{turn.activation.object_id}.{turn.request.alarm}"


def _no_outcome() -> Failure:
    return Failure("internal", "the last attempt left no outcome; its process may have ended")


def _commit(turn: Turn, answer: Reply) -> None:
    """Commit the new schedule of an alarm whose turn didn't run or was undone."""
    pending = turn.effects.gather(changed=False)
    pending.urgent = True
    pending.waiters.append((turn.request, answer))
    turn.activation.request_commit()
