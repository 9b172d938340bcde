"""The health of a process: what is wrong with each of its parts, and since when.

Promise: a problem keeps the time at which it began for as long as it is seen at each look. There is at most one problem
for each part, so the report is bounded. It contains no address, no credential and no text of an exception, because
nobody needs a credential to read it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from aidevos.contracts.health import HealthReport, PartProblem, ProcessHealth, Severity
from aidevos.contracts.times import rfc3339_of

log = logging.getLogger(__name__)
LOOK_EVERY = 1.0
# Seconds by which a look is late if the event loop is too busy, and for which that is reported.
LATE, REMEMBER_LATE = 1.0, 10.0
LOOP = "event loop"


class _Check(NamedTuple):
    find: Callable[[], str]
    status: Severity
    after: float


class Health:
    """The problems of a process. `now` returns seconds since the epoch."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._checks: dict[str, _Check] = {}
        # When each part's problem began.
        self._since: dict[str, float] = {}
        self._reported: dict[str, str] = {}
        self._late_until, self._late_by = 0.0, 0.0
        self.watch(LOOP, self._find_lateness, status="warn")

    def watch(self, part: str, find: Callable[[], str], *, status: Severity = "fail", after: float = 0.0) -> None:
        """Watch a part in place of what watched it before.

        `find` returns what is wrong with it, or an empty string. A problem is reported once it is `after` seconds old.
        """
        self._checks[part] = _Check(find, status, after)

    def problems(self) -> list[PartProblem]:
        """Return the problems of now."""
        now = self._now()
        found = [(part, check, check.find()) for part, check in self._checks.items()]
        since = {part: self._since.get(part, now) for part, _, detail in found if detail}
        self._since = since
        problems = [
            PartProblem(part=part, detail=detail, since=rfc3339_of(since[part]), status=check.status)
            for part, check, detail in found
            if detail and now - since[part] >= check.after
        ]
        self._log_changes({problem.part: problem.detail for problem in problems})
        return problems

    def find_failure(self) -> str:
        """Return the first reason why the process isn't ready, or an empty string."""
        return _first_failure(self.problems())

    def report(self, name: str, replica: int) -> HealthReport:
        problems = self.problems()
        failure = _first_failure(problems)
        return HealthReport(name=name, replica=replica, ok=not failure, detail=failure, problems=problems)

    def describe(self) -> ProcessHealth:
        problems = self.problems()
        return ProcessHealth(not _first_failure(problems), problems)

    async def keep_looking(self) -> None:
        """Look again and again until cancelled, so that problems are known from their beginning."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LOOK_EVERY
            await asyncio.sleep(LOOK_EVERY)
            self._note_lateness(loop.time() - due)
            self.problems()

    def _note_lateness(self, seconds: float) -> None:
        if seconds >= LATE:
            self._late_until, self._late_by = self._now() + REMEMBER_LATE, seconds

    def _find_lateness(self) -> str:
        return f"it didn't turn for {self._late_by:.1f} s" if self._now() < self._late_until else ""

    def _log_changes(self, problems: dict[str, str]) -> None:
        for part in problems.keys() - self._reported.keys():
            log.warning("not well: %s: %s", part, problems[part])
        for part in self._reported.keys() - problems.keys():
            log.info("well again: %s", part)
        self._reported = problems


def _first_failure(problems: list[PartProblem]) -> str:
    return next((problem.detail for problem in problems if problem.status == "fail"), "")
