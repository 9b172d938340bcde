"""Execution of one turn: a method runs on the state, and either everything that it did counts or nothing.

Promises: a command that raises leaves no trace in the state and sends nothing, and its error is the recorded
outcome. A query that changes the state is a bug: the change is undone, and the caller gets `internal`. A repeated
request gets the recorded outcome, and no method runs. The changes and messages of a turn become visible with its
commit, never before.

A method that runs past its time limit, or past its caller's deadline, is cancelled and undone. One that goes on all the
same is left behind with its activation, so that the object serves others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import ALARM, EXPIRE
from aidevos.durable.objects.defect import Defect
from aidevos.durable.objects.if_match import check_if_match
from aidevos.durable.objects.running import current_turn
from aidevos.durable.store.port import StoreError
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.alarm_turn import begin_alarm, count_attempt, fail_alarm
from aidevos.durable.turns.archive import ReplyArchive
from aidevos.durable.turns.completion import Record, check_fingerprint
from aidevos.durable.turns.environment import Environment
from aidevos.durable.turns.failures import ServiceRefused, log_unexpected, moved, moved_during_turn
from aidevos.durable.turns.gate import Gate
from aidevos.durable.turns.headers import Reply
from aidevos.durable.turns.hooks import call_on_activate, has_on_activate
from aidevos.durable.turns.outcome import answer_when_committed, complete, record_outcome, roll_back
from aidevos.durable.turns.request import Request
from aidevos.durable.turns.turn import Turn
from aidevos.durable.turns.turn_timer import start_timer, stop_timer
from aidevos.observability.slow_log import collect_waits
from aidevos.observability.tracing import running

log = logging.getLogger(__name__)
# Seconds in which a cancelled method must end.
STOPS_WITHIN = 5.0
# The task of a turn, or None if the turn has already ended.
Running = asyncio.Task[None] | None


class TurnRunner:
    """Runs the turns of one process.

    `requeue` returns a request to the mailbox of its object, `discard` drops an activation, and `rouse` ends its rest.
    """

    def __init__(
        self,
        environment: Environment,
        gate: Gate,
        archive: ReplyArchive,
        *,
        requeue: Callable[[Request], None],
        discard: Callable[[Activation], None],
        rouse: Callable[[Activation], None],
    ) -> None:
        self._environment = environment
        self._gate = gate
        self._archive = archive
        self._requeue = requeue
        self._discard = discard
        self._rouse = rouse

    def start(self, activation: Activation, request: Request) -> Running:
        """Run the turn of a request. Return its task, or None if no turn is running when this returns.

        If this process doesn't own the object, the request gets `moved`. If the gate refuses the caller, the request
        gets the refusal. If a role or an archived outcome must be looked up first, the request is queued again.
        """
        if not self._environment.owns(activation):
            request.fail(moved())
            return None
        if self._gate.applies_to(activation, request) and not self._admits(activation, request):
            return None
        if self._archive.must_look_up(activation, request):
            activation.mailbox.put_back(request)
            activation.mailbox.hold()
            self._environment.spawn(self._archive.look_up(activation))
            return None
        try:
            return self._run(activation, request)
        except Exception as error:
            request.fail(log_unexpected(error, f"{activation.object_id}.{request.method.name}"))
            return None

    def reenter(self, activation: Activation | None, request: Request) -> Running:
        """Run a re-entrant query beside a command of the object, on the last committed state.

        The command may wait for the answer. Raises `moved`, and `deadlock` for a call that isn't re-entrant.
        """
        if not request.method.reentrant:
            raise _deadlock(request)
        partition = self._environment.partitions.of(request.type.name, request.id)
        copy = Activation(request.type, request.id, partition, 0, self.start, _save_nothing)
        copy.mailbox.close()
        if not self._environment.owns(copy):
            raise moved()
        if activation is None or not activation.loaded or activation.founding:
            return asyncio.get_running_loop().create_task(self._prepare_copy(copy, request))
        copy.load_committed(activation.committed, self._environment.limits.records)
        copy.history = activation.history
        if has_on_activate(copy):
            return asyncio.get_running_loop().create_task(self._prepare_copy(copy, request))
        return self._query_copy(copy, request)

    async def _prepare_copy(self, copy: Activation, request: Request) -> None:
        """Run a re-entrant query on a copy that runs its hook first, and is read if memory can't show it."""
        try:
            if not copy.loaded:
                documents = await self._environment.store.read(request.type.name, [request.id])
                copy.load(documents.get(request.id), self._environment.limits.records, claimed=False)
            await call_on_activate(copy)
            running = self._query_copy(copy, request)
        except StoreError as error:
            request.fail(Failure("unavailable", f"the store failed: {error}"))
        except Failure as refused:
            request.fail(refused)
        except Exception as error:
            request.fail(log_unexpected(error, f"{copy.object_id}.{request.method.name}"))
        else:
            if running is not None:
                await running

    def _query_copy(self, copy: Activation, request: Request) -> Running:
        if not self._gate.applies_to(copy, request):
            return self._run(copy, request)
        if copy.object_id in request.chain:
            raise _deadlock(request)
        self._requeue(request)
        return None

    def _admits(self, activation: Activation, request: Request) -> bool:
        try:
            lookup = self._gate.admit(activation, request)
        except Failure as refused:
            self._answer(activation, request, Reply.of(refused))
            return False
        if lookup is not None:
            self._environment.spawn(self._requeue_after(lookup, request))
        return lookup is None

    async def _requeue_after(self, lookup: Awaitable[None], request: Request) -> None:
        try:
            await lookup
        except Failure as failure:
            request.fail(failure)
        else:
            self._requeue(request)

    def _run(self, activation: Activation, request: Request) -> Running:
        """Run the turn of a request inline if its method never awaits, otherwise in the returned task."""
        loop = asyncio.get_running_loop()
        activation.last_used = now = loop.time()
        if request.deadline <= now:
            request.fail(Failure("deadline-exceeded", "the deadline passed while the request was waiting"))
            return None
        try:
            if request.method.is_command and self._is_answered(activation, request):
                return None
        except Failure as refused:
            self._answer(activation, request, Reply.of(refused))
            return None
        if activation.resting:
            self._rouse(activation)
        if self._environment.on_defect is not None:
            _check_untouched(activation, self._environment.on_defect)
        activation.last_method = request.method.name
        turn = Turn(self._environment, self._gate.join, activation, request)
        if request.alarm and not begin_alarm(turn):
            return None
        try:
            if request.method.checks_if_match:
                check_if_match(request.if_match, activation.exists, activation.version)
            if request.method.name in (ALARM, EXPIRE) and not activation.exists:
                raise Failure("not-found", f"there is no object {activation.object_id}")
        except Failure as failure:
            _end(turn, None, failure)
            return None
        start_timer(turn)
        if request.method.never_suspends and not turn.counts_attempt_first:
            _run_inline(turn)
            return None
        return loop.create_task(_run_in_task(turn, self._abandon))

    def _abandon(self, turn: Turn, failure: Failure) -> None:
        """Leave a turn behind that doesn't end although it was cancelled, and serve the object anew."""
        method = f"{turn.activation.object_id}.{turn.request.method.name}"
        log.error("%s goes on although it was cancelled: the object is loaded anew", method)
        turn.close()
        stop_timer(turn, failure)
        turn.request.fail(failure)
        self._discard(turn.activation)

    def _is_answered(self, activation: Activation, request: Request) -> bool:
        """Answer with the outcome of an earlier copy; return True if there is one."""
        if request.ephemeral:
            found = check_fingerprint((activation.ephemeral or {}).get(request.ephemeral), request.fingerprint)
            if found is not None:
                self._answer(activation, request, found.reply)
            return found is not None
        if request.key is None:
            return False
        now = self._environment.clock.now()
        found = activation.records.find(request.key, request.fingerprint, now)
        archived = check_fingerprint(request.archived_record, request.fingerprint)
        if found is None and archived is None:
            activation.records.admit(request.key, now)
            return False
        if found is None or found.is_stub:
            found = archived
        if found is None:
            raise Failure("stale", "the outcome of this request is no longer kept", field="Request-Id")
        self._answer(activation, request, found.reply)
        return True

    def _answer(self, activation: Activation, request: Request, reply: Reply) -> None:
        answer_when_committed(self._environment, activation, request, reply)


def _run_inline(turn: Turn) -> None:
    token, trace = current_turn.set(turn), running.set(turn.request.trace)
    try:
        turn.request.method.function(turn.activation.object, **turn.request.args).send(None)
    except StopIteration as stop:
        _end(turn, stop.value, None)
    except BaseException as error:
        _end(turn, None, error)
    finally:
        current_turn.reset(token)
        running.reset(trace)


async def _run_in_task(turn: Turn, abandon: Callable[[Turn, Failure], None]) -> None:
    current_turn.set(turn)
    request, loop = turn.request, asyncio.get_running_loop()
    running.set(request.trace)
    request.waits = collect_waits()
    end, too_late = _time_limit(turn, loop.time())
    result: Any = None
    error: BaseException | None = None
    lost = loop.call_at(end + STOPS_WITHIN, abandon, turn, too_late)
    try:
        async with asyncio.timeout_at(end) as limit:
            if turn.counts_attempt_first:
                await count_attempt(turn)
            result = await request.method.function(turn.activation.object, **request.args)
    except BaseException as raised:
        error = raised
    lost.cancel()
    if not turn.open:
        return
    if _is_cancelled(error):
        turn.close()
        roll_back(turn.activation)
        moved = moved_during_turn()
        stop_timer(turn, moved)
        request.fail(moved)
        raise asyncio.CancelledError
    if limit.expired():
        # Also if the method has swallowed its cancellation.
        error = too_late
        _log_timeout(turn, too_late)
    _end(turn, result, error)


def _time_limit(turn: Turn, now: float) -> tuple[float, Failure]:
    """Return when a turn must have ended, on the event loop's clock, and its failure if it hasn't."""
    request = turn.request
    limit = request.method.turn_deadline or turn.environment.limits.turn_deadline
    # An alarm's handler has a deadline of its own.
    if request.alarm or request.deadline <= now + limit:
        return request.deadline, Failure("deadline-exceeded", "the deadline passed while the method was running")
    detail = f"the method took longer than {limit:g} seconds, so it was stopped and undone"
    return now + limit, Failure("turn-timeout", detail)


def _log_timeout(turn: Turn, failure: Failure) -> None:
    if failure.code == "turn-timeout":
        log.error("%s.%s: %s", turn.activation.object_id, turn.request.method.name, failure.detail)


def _is_cancelled(error: BaseException | None) -> bool:
    """Return True if the turn itself was cancelled, not something that it awaited."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def _end(turn: Turn, result: Any, error: BaseException | None) -> None:
    """Commit or undo the effects of a method that has returned or raised, and answer its request."""
    activation, request = turn.activation, turn.request
    turn.close()
    if activation.broken:
        moved = moved_during_turn()
        stop_timer(turn, moved)
        request.fail(moved)
        return
    try:
        if error is None:
            reply = complete(turn, result)
        else:
            roll_back(activation)
            reply = Reply.of(_failure(error, turn))
    except Exception as raised:
        roll_back(activation)
        error = raised
        reply = Reply.of(_failure(raised, turn))
    stop_timer(turn, error)
    if request.ephemeral and not (error and _is_transient(error)):
        outcome = Record(request.fingerprint, reply.payload, reply.failed, turn.now, tell=False)
        activation.remember(request.ephemeral, outcome)
    if error is not None and request.alarm:
        fail_alarm(turn, reply)
    elif error is not None and request.method.is_command:
        record_outcome(turn, reply, durable=not _is_transient(error))
    elif not request.method.is_command:
        answer_when_committed(turn.environment, activation, request, reply)


def _is_transient(error: BaseException) -> bool:
    """Return True if a repeat may succeed, so that the outcome must not be recorded.

    A type that is unknown now may be served soon.
    """
    passing = isinstance(error, Failure) and (error.retryable or error.code in ("deadline-exceeded", "unknown-type"))
    return passing or isinstance(error, ServiceRefused)


def _failure(error: BaseException, turn: Turn) -> Failure:
    if isinstance(error, Failure):
        return error
    if isinstance(error, Defect):
        turn.report(error)
    return log_unexpected(error, f"{turn.activation.object_id}.{turn.request.method.name}")


def _check_untouched(activation: Activation, on_defect: Callable[[Defect], None]) -> None:
    """Report and undo a change of the state since the last turn. It would be committed by the turn that begins."""
    if activation.type.encode_state(activation.state) != activation.snapshot:
        last = f"{activation.type.name}.{activation.last_method}"
        on_defect(Defect(f"the state of {activation.object_id} was changed outside its turn, after {last} had ended"))
        roll_back(activation)


def _deadlock(request: Request) -> Failure:
    return Failure("deadlock", f"{request.type.name}:{request.id} waits for this call")


def _save_nothing(activation: Activation) -> None:
    """Do nothing: a copy of the committed state is never committed itself."""
