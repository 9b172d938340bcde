"""The measurement of turns: how long a request waited for its turn, and how long the turn took, by its outcome."""

from __future__ import annotations

from time import perf_counter

from aidevos.contracts.errors import Failure
from aidevos.durable.turns.turn import Turn
from aidevos.observability.metrics import TURN_SECONDS, measuring

# Codes of turns that were ended before their method was done.
STOPPED = ("turn-timeout", "deadline-exceeded", "moved")


def start_timer(turn: Turn) -> None:
    """Note that the method of a turn begins, and for how long its request has waited."""
    request = turn.request
    request.began_at = perf_counter()
    if measuring.on and request.queued_at:
        request.type.mailbox_wait.observe(request.began_at - request.queued_at)


def stop_timer(turn: Turn, error: BaseException | None) -> None:
    """Count a turn that has ended, with the error that its caller gets."""
    request = turn.request
    request.ended_at = perf_counter()
    if measuring.on and request.began_at:
        outcome = "ok" if error is None else _outcome(error)
        timers = request.method.turn_timers
        timer = timers.get(outcome)
        if timer is None:
            timer = timers[outcome] = TURN_SECONDS.labels(request.type.name, request.method.name, outcome)
        trace = request.trace
        trace_id = trace.trace_id if trace is not None and trace.sampled else None
        timer.observe(request.ended_at - request.began_at, trace_id)


def _outcome(error: BaseException) -> str:
    if not isinstance(error, Failure) or error.code == "internal":
        return "failed"
    return "stopped" if error.code in STOPPED else "refused"
