"""One attempt at a task, from its start to the report of its outcome.

Promises: the worker sends three heartbeats within each lease of the attempt. The handler is stopped when the task
says so, at its timeout, or when the task couldn't be reached for a whole lease, because another worker may have
started by then. A report names its attempt, so a late report changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import suppress
from time import perf_counter
from typing import Any

import msgspec

from aidevos.contracts import subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.tasks import RESULT_LIMIT, TIMEOUT, TYPE, Assignment, AttemptError
from aidevos.durable.client.client import DurableObjectClient
from aidevos.observability import tracing
from aidevos.observability.metrics import TASK_SECONDS
from aidevos.observability.tracing import Segment
from aidevos.work.handlers import TaskContext, TaskHandler, encode_result

log = logging.getLogger(__name__)
BEATS = 3
# Seconds between two progress reports.
PROGRESS_EVERY = 1.0
# Seconds that a cancelled handler has to end.
STOP_WITHIN = 5.0
REPORT_WITHIN = 30.0


class Attempt:
    """An attempt by this worker. `objects` calls objects on behalf of the worker's service."""

    def __init__(self, assignment: Assignment, handler: TaskHandler, objects: DurableObjectClient) -> None:
        self._assignment = assignment
        self._handler = handler
        self._objects = objects
        self._context = TaskContext(assignment, objects, self._progress)
        self._latest_progress: float | None = None
        self._reported_at = -PROGRESS_EVERY
        self._last_beat_at = asyncio.get_running_loop().time()
        self._stopped = asyncio.Event()
        self._given_back = False

    def give_back(self) -> None:
        """Stop the attempt, and return the task to the queue for another worker."""
        self._given_back = True
        self._stopped.set()

    async def run(self) -> None:
        """Make the attempt, and report its outcome."""
        beats, began = asyncio.create_task(self._keep_beating()), perf_counter()
        try:
            with tracing.joining(self._assignment.trace, "consumer", self._describe, self._assignment.kind) as trace:
                report = await self._run_handler()
                TASK_SECONDS.labels(self._assignment.kind, _outcome(report)).observe(perf_counter() - began)
                if isinstance(trace, Segment):
                    # A task may take long.
                    trace.slow_after = math.inf
                    trace.error = _error_of(report)
                if report is not None:
                    await self._report(*report)
        finally:
            beats.cancel()
            await asyncio.gather(beats, return_exceptions=True)

    def _describe(self, kind: str) -> tuple[str, dict[str, Any]]:
        """Return the name and the attributes of the attempt's span."""
        assignment = self._assignment
        return f"task {kind}", {"aidevos.task.id": assignment.id, "aidevos.task.attempt": assignment.attempt}

    async def _run_handler(self) -> tuple[str, dict[str, Any]] | None:
        """Run the handler, and return the report as a method and its arguments, or None if none is due."""
        work = asyncio.ensure_future(self._handle())
        stopped = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait((work, stopped), timeout=self._assignment.timeout, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return "finish", _finish_args(work)
            was_stopped = stopped.done()
            await self._cancel(work)
            if not was_stopped:
                detail = f"the attempt took longer than {self._assignment.timeout:g} seconds"
                return "finish", _error(AttemptError(code=TIMEOUT, detail=detail, known=False))
            return ("give_back", {}) if self._given_back else None
        finally:
            stopped.cancel()
            await self._cancel(work)

    async def _handle(self) -> bytes:
        payload = self._handler.payload.convert(self._assignment.payload)
        return encode_result(await self._handler.run(self._context, payload), RESULT_LIMIT)

    async def _cancel(self, work: asyncio.Future[bytes]) -> None:
        if work.done():
            return
        self._context.cancelled = True
        work.cancel()
        await asyncio.wait((work,), timeout=STOP_WITHIN)
        if not work.done():
            log.error("the handler of %s was cancelled but has not ended", self._assignment.kind)

    async def _keep_beating(self) -> None:
        """Send heartbeats until the task says stop or can't be reached for a lease."""
        loop = asyncio.get_running_loop()
        lease = self._assignment.lease
        while not self._stopped.is_set():
            await asyncio.sleep(lease / BEATS)
            try:
                await self._beat()
            except Failure as failure:
                if failure.code == "not-found" or loop.time() - self._last_beat_at > lease:
                    self._stopped.set()
                log.warning("the heartbeat of task %s failed: %s", self._assignment.id, failure)

    async def _progress(self, share: float) -> None:
        self._latest_progress = share
        now = asyncio.get_running_loop().time()
        if now >= self._reported_at + PROGRESS_EVERY:
            self._reported_at = now
            with suppress(Failure):
                await self._beat()

    async def _beat(self) -> None:
        began = asyncio.get_running_loop().time()
        task = self._objects.object(TYPE, self._assignment.id, deadline=self._assignment.lease / BEATS)
        continues = await task.beat(run=self._assignment.run, progress=self._latest_progress)
        self._last_beat_at = began
        if not continues:
            self._stopped.set()

    async def _report(self, method: str, args: dict[str, Any]) -> None:
        payload = msgspec.json.encode({"run": self._assignment.run, **args})
        subject = subjects.call(TYPE, self._assignment.id, method)
        try:
            await self._objects.request(subject, payload, deadline=REPORT_WITHIN)
        except Failure as failure:
            log.warning("reporting an attempt at task %s failed: %s", self._assignment.id, failure)


def _finish_args(work: asyncio.Future[bytes]) -> dict[str, Any]:
    """Return the arguments of `finish` for a handler that has ended by itself."""
    try:
        return {"result": msgspec.Raw(work.result())}
    except asyncio.CancelledError:
        return _error(AttemptError(code="error", detail="the handler cancelled itself"))
    except Failure as failure:
        passing = failure.is_transient
        retryable = passing or failure.code == "internal"
        return _error(AttemptError(code=failure.code, detail=failure.detail, retryable=retryable, known=not passing))
    except Exception as error:
        log.warning("a handler failed", exc_info=error)
        return _error(AttemptError(code="error", detail=f"{type(error).__name__}: {error}"))


def _outcome(report: tuple[str, dict[str, Any]] | None) -> str:
    """Return how an attempt ended, as its metric shows it."""
    if report is None or report[0] != "finish":
        return "stopped"
    error: AttemptError | None = report[1].get("error")
    if error is None:
        return "done"
    return "timeout" if error.code == TIMEOUT else "failed"


def _error_of(report: tuple[str, dict[str, Any]] | None) -> str:
    error = None if report is None else report[1].get("error")
    return error.code if isinstance(error, AttemptError) else ""


def _error(error: AttemptError) -> dict[str, Any]:
    return {"error": error}
