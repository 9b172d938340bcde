"""Alarms: what an object does later, by itself.

Promises: an alarm is set, moved or cancelled by the commit of the turn that did so. It rings at least once
after its time, in a turn of its own, and what came of it (it is gone, moved to its next time, or has one failed
attempt more) is in the same commit as what the handler did: so the handler's effect on the object, its events
and its tells happen once, while what it did outside may be done again after a crash. A raise undoes the turn;
after the last attempt the alarm becomes a dead letter. An attempt that follows one without an outcome, or may do
so, is counted before it begins: so a handler that ends its process does that a limited number of times. Nothing
here depends on who owns the object.
"""

from __future__ import annotations

import re
import secrets
from typing import Any, Literal

import msgspec

from aidevos.contracts.errors import Failure
from aidevos.durable.base.backoff import Backoff

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
PAYLOAD_LIMIT = 64 * 1024
# Of all alarms of one object.
BYTES_LIMIT = 1024 * 1024
OVERHEAD = 256
LONGEST_ALARM = 100 * 366 * 86400.0
SHORTEST_EVERY = 1.0
MAX_ATTEMPTS = 100
GRACE = 60.0
# The alarm of the framework's own, by which an object that `expires_after` some time ends.
EXPIRY = "_expire"
CatchUp = Literal["all", "latest", "skip"]
is_name = re.compile(NAME_PATTERN).fullmatch


class AlarmRetry(msgspec.Struct, frozen=True):
    """How often a handler that raises is tried, from 1 to 100 times in all, and how long after: `backoff` seconds
    after the first time, and then twice as long each time, up to `max_backoff`. Jitter shortens each pause by up to
    half; for one alarm of one object it is always the same."""

    max_attempts: int = 10
    backoff: float = 1.0
    max_backoff: float = 300.0


RETRY = AlarmRetry()


class Alarm(msgspec.Struct, frozen=True):
    """An alarm that rings, or will. `due` is its regular time in seconds since the epoch, whatever the attempt,
    which is counted from 1; `missed` are the earlier times of a repeating one that this one stands for."""

    name: str
    payload: Any = None
    due: float = 0.0
    attempt: int = 1
    missed: int = 0


class Scheduled(msgspec.Struct, frozen=True, kw_only=True):
    """An alarm as the document of its object holds it. `at` is when it rings next, after `failed` attempts,
    of which `unknown` have left no outcome; `key` tells it from every other that was ever set; `payload` is JSON."""

    at: float
    due: float
    key: str
    payload: bytes = b"null"
    every: float | None = None
    grace: float = GRACE
    catch_up: CatchUp = "latest"
    retry: AlarmRetry = RETRY
    failed: int = 0
    unknown: int = 0
    missed: int = 0

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Scheduled:
        return msgspec.convert(document, cls)

    def to_document(self) -> dict[str, Any]:
        document: dict[str, Any] = msgspec.to_builtins(self, builtin_types=(bytes,))
        return document

    @property
    def size(self) -> int:
        return OVERHEAD + len(self.payload)

    def choose_occurrence(self, now: float) -> Scheduled | None:
        """The occurrence that is to ring now, by the policy; None for none."""
        if self.failed or self.catch_up == "all":
            return self
        passed = self._count_missed(now)
        last = msgspec.structs.replace(self, due=self._due_after(passed), missed=passed)
        grace = self.grace if self.every is None else min(self.grace, self.every / 2)
        return None if self.catch_up == "skip" and now - last.due > grace else last

    def advance(self) -> Scheduled | None:
        """Return the alarm that remains once this occurrence has rung, or None."""
        return self._advance_by(1)

    def skip_missed(self, now: float) -> Scheduled | None:
        """Return the alarm that remains when all occurrences up to now are left out, or None."""
        return self._advance_by(self._count_missed(now) + 1)

    @property
    def is_exhausted(self) -> bool:
        """True if no further attempt is allowed."""
        return self.failed >= self.retry.max_attempts

    @property
    def attempt_key(self) -> str:
        """The name of an attempt, and of its repeat after a crash."""
        return f"{self.key}.{self.due}.{self.failed - self.unknown}"

    def mark_begun(self, now: float, alarm: str) -> Scheduled:
        """What an attempt leaves behind that has no outcome; `alarm` names it in the fleet."""
        return msgspec.structs.replace(self.mark_failed(now, alarm), unknown=self.unknown + 1)

    def mark_failed(self, now: float, alarm: str) -> Scheduled:
        """What an attempt that fails leaves behind."""
        return self.postpone(now, self.failed + 1, alarm)

    def postpone(self, now: float, failed: int, alarm: str) -> Scheduled:
        """The same after a pause, with so many attempts that failed."""
        backoff = Backoff(self.retry.backoff, self.retry.max_backoff)
        return msgspec.structs.replace(self, at=now + backoff.pause(failed, alarm), failed=failed)

    def to_alarm(self, name: str) -> Alarm:
        """As its object sees it."""
        return Alarm(name, msgspec.json.decode(self.payload), self.due, self.failed + 1, self.missed)

    def _count_missed(self, now: float) -> int:
        """How many later occurrences of a repeating one have come."""
        return 0 if self.every is None else max(0, int((now - self.due) // self.every))

    def _due_after(self, times: int) -> float:
        return self.due + times * (self.every or 0.0)

    def _advance_by(self, times: int) -> Scheduled | None:
        if self.every is None:
            return None
        due = self._due_after(times)
        return msgspec.structs.replace(self, at=due, due=due, failed=0, unknown=0, missed=0)


def schedule_expiry(now: float, after: float) -> Scheduled:
    """The alarm that ends an object."""
    return Scheduled(at=now + after, due=now + after, key=secrets.token_hex(8))


def check_alarm_bounds(alarms: list[Scheduled], limit: int) -> None:
    """Raises `too-large` where an object can't have all of these."""
    if len(alarms) > limit:
        raise Failure("too-large", f"an object has at most {limit} alarms", field="alarms")
    if sum(alarm.size for alarm in alarms) > BYTES_LIMIT:
        raise Failure("too-large", f"all alarms of an object have at most {BYTES_LIMIT} bytes", field="alarms")
