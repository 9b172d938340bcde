"""One turn: a method runs on the state, and either everything it did counts or nothing.

Promise: a command that raises leaves no trace in the state, sends nothing, and its error is the
recorded outcome. A query that changed the state is a bug: the change is undone and the caller gets
`internal`. A repeat of a request that has an outcome gets that one, and nothing runs. What a turn
has sent and changed becomes visible with its commit, never before.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import ALARM, EXPIRE
from aidevos.durable.objects.running import running
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.alarm_turn import begin_alarm, count_attempt, fail_alarm
from aidevos.durable.turns.completion import Record, check_same
from aidevos.durable.turns.outcome import answer_when_committed, record, succeed, undo
from aidevos.durable.turns.request import Answer, Request, check_if_match
from aidevos.durable.turns.turn import Turn, moved_on, unexpected

if TYPE_CHECKING:
    from aidevos.durable.ownership.router import DurableObjectRouter


def start_turn(router: DurableObjectRouter, activation: Activation, request: Request) -> asyncio.Task[None] | None:
    """Run a request's turn, if it may begin: the lease is held, and its caller is let in. Where that or an earlier
    outcome has to be looked up first, the request comes again."""
    if not router.lease_valid():
        request.drop()
        return None
    belongs = activation.project is not None or request.principal.project
    if belongs and not _admits(router, activation, request):
        return None
    if router.archive.must_be_asked(activation, request):
        activation.mailbox.put_back(request)
        activation.mailbox.hold()
        router.spawn(router.archive.ask(activation))
        return None
    try:
        return run_turn(router, activation, request)
    except Exception as error:
        request.fail(unexpected(error, f"{activation.object_id}.{request.method.name}"))
        return None


def _admits(router: DurableObjectRouter, activation: Activation, request: Request) -> bool:
    try:
        return router.gate.admits(activation, request)
    except Failure as refused:
        answer_when_committed(router, activation, request, Answer.of(refused))
        return False


def run_turn(router: DurableObjectRouter, activation: Activation, request: Request) -> asyncio.Task[None] | None:
    """Run a request's turn, at once if its method can't wait, else in the task that is returned."""
    loop = asyncio.get_running_loop()
    activation.last_used = loop.time()
    if request.deadline <= loop.time():
        request.fail(Failure("deadline-exceeded", "the deadline passed while the request was waiting"))
        return None
    try:
        if request.method.is_command and _answered(router, activation, request):
            return None
    except Failure as refused:
        answer_when_committed(router, activation, request, Answer.of(refused))
        return None
    turn = Turn(router, activation, request)
    if request.alarm and not begin_alarm(turn):
        return None
    try:
        if request.method.matches:
            check_if_match(request.if_match, activation.exists, activation.version)
        if request.method.name in (ALARM, EXPIRE) and not activation.exists:
            raise Failure("not-found", f"there is no object {activation.object_id}")
    except Failure as failure:
        _end(turn, None, failure)
        return None
    if request.method.inline and not turn.counts_first:
        _run_inline(turn)
        return None
    return loop.create_task(_run(turn))


def _answered(router: DurableObjectRouter, activation: Activation, request: Request) -> bool:
    """Whether an earlier copy's outcome was found, and is the answer."""
    if request.fleeting:
        found = check_same(activation.fleeting.get(request.fleeting), request.fingerprint)
        if found is not None:
            answer_when_committed(router, activation, request, found.answer)
        return found is not None
    if request.key is None:
        return False
    now = router.clock.now()
    found = activation.records.find(request.key, request.fingerprint, now)
    found = found or check_same(request.archived, request.fingerprint)
    if found is None:
        activation.records.admit(request.key, now)
        return False
    answer_when_committed(router, activation, request, found.answer)
    return True


def _run_inline(turn: Turn) -> None:
    token = running.set(turn)
    try:
        turn.request.method.function(turn.activation.object, **turn.request.args).send(None)
    except StopIteration as stop:
        _end(turn, stop.value, None)
    except BaseException as error:
        _end(turn, None, error)
    finally:
        running.reset(token)


async def _run(turn: Turn) -> None:
    running.set(turn)
    request = turn.request
    result: Any = None
    error: BaseException | None = None
    try:
        async with asyncio.timeout_at(request.deadline) as limit:
            if turn.counts_first:
                await count_attempt(turn)
            result = await request.method.function(turn.activation.object, **request.args)
    except TimeoutError as raised:
        passed = Failure("deadline-exceeded", "the deadline passed while the method was running")
        error = passed if limit.expired() else raised
    except BaseException as raised:
        error = raised
    if _is_cancelled(error):
        undo(turn.activation)
        request.fail(moved_on())
        raise asyncio.CancelledError
    _end(turn, result, error)


def _is_cancelled(error: BaseException | None) -> bool:
    """Whether the turn itself was cancelled, and not something that it had waited for."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def _end(turn: Turn, result: Any, error: BaseException | None) -> None:
    """Account for what the method did, and see to its answer."""
    activation, request = turn.activation, turn.request
    turn.open = False
    if activation.broken:
        request.fail(moved_on())
        return
    try:
        if error is None:
            answer = succeed(turn, result)
        else:
            undo(activation)
            answer = Answer.of(_failure(error, turn))
    except Exception as raised:
        undo(activation)
        error = raised
        answer = Answer.of(_failure(raised, turn))
    if request.fleeting and not (error and _passing(error)):
        fleeting = Record(request.fingerprint, answer.payload, answer.failed, turn.now, tell=False)
        activation.remember(request.fleeting, fleeting)
    if error is not None and request.alarm:
        fail_alarm(turn, answer)
    elif error is not None and request.method.is_command:
        record(turn, answer, durable=not _passing(error))
    elif not request.method.is_command:
        answer_when_committed(turn.router, activation, request, answer)


def _passing(error: BaseException) -> bool:
    """Whether a repeat may end otherwise, so that the outcome must not be recorded."""
    return isinstance(error, Failure) and (error.retryable or error.code == "deadline-exceeded")


def _failure(error: BaseException, turn: Turn) -> Failure:
    if isinstance(error, Failure):
        return error
    return unexpected(error, f"{turn.activation.object_id}.{turn.request.method.name}")
