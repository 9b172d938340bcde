"""Alarms: calls that an object schedules to itself.

Promise: an alarm is set, moved or cancelled by the commit of the turn that did so. It rings at least once after its
time, in a turn of its own. That turn's commit holds both the handler's effects and the alarm's new state: gone, moved
to its next time, or with one more failed attempt. So the effects on the object, its events and its tells happen exactly
once, while effects elsewhere may be repeated after a crash.

A handler that raises undoes its turn, and after the last attempt the alarm becomes a dead letter. An attempt that may
follow one without an outcome is counted before it begins. So a handler that kills its process does so a limited number
of times. None of this depends on which host owns the object.
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
# The largest total size of one object's alarms.
BYTES_LIMIT = 1024 * 1024
OVERHEAD = 256
LONGEST_ALARM = 100 * 366 * 86400.0
SHORTEST_EVERY = 1.0
MAX_ATTEMPTS = 100
GRACE = 60.0
# An alarm that is due later than this many seconds after it was set begins a trace of its own.
SAME_TRACE_FOR = 300.0
# The framework's own alarm, which ends an object with `expires_after`.
EXPIRY = "_expire"
CatchUp = Literal["all", "latest", "skip"]
is_name = re.compile(NAME_PATTERN).fullmatch


class AlarmRetry(msgspec.Struct, frozen=True):
    """The retry policy of an alarm whose handler raises.

    The handler is tried at most `max_attempts` times in all (1 to 100). The first pause is `backoff` seconds, and each
    further pause is twice as long, up to `max_backoff`. Jitter shortens each pause by up to half. It is derived from
    the object and the alarm, so it is always the same for them.
    """

    max_attempts: int = 10
    backoff: float = 1.0
    max_backoff: float = 300.0


RETRY = AlarmRetry()


class Alarm(msgspec.Struct, frozen=True):
    """An alarm, as its object sees it.

    `due` is its regular time in seconds since the epoch, which a retry doesn't change. `attempt` counts from 1.
    `missed` is the number of earlier occurrences of a repeating alarm that this one replaces.
    """

    name: str
    payload: Any = None
    due: float = 0.0
    attempt: int = 1
    missed: int = 0


class Scheduled(msgspec.Struct, frozen=True, kw_only=True):
    """An alarm, as its object's document stores it.

    `at` is when it rings next, after `failed` attempts, of which `unknown` left no outcome. `key` is unique among all
    alarms ever set. `payload` is JSON. `trace` is the `traceparent` of the turn that set it. With `ends_trace`, its
    turn begins a trace of its own, which links to that one.
    """

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
    trace: str = ""
    ends_trace: bool = False

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Scheduled:
        return msgspec.convert(document, cls)

    def to_document(self) -> dict[str, Any]:
        document: dict[str, Any] = msgspec.to_builtins(self, builtin_types=(bytes,))
        if not self.trace:
            del document["trace"], document["ends_trace"]
        return document

    def caused_by(self, trace: str, now: float, *, by_alarm: bool) -> Scheduled:
        """Return the alarm as set in this trace. An alarm that would prolong it without end, or for long, ends it."""
        if not trace:
            return self
        ends = by_alarm or self.every is not None or self.due > now + SAME_TRACE_FOR
        return msgspec.structs.replace(self, trace=trace, ends_trace=ends)

    @property
    def size(self) -> int:
        """The approximate size in bytes, which counts towards `BYTES_LIMIT`."""
        return OVERHEAD + len(self.payload)

    def choose_occurrence(self, now: float) -> Scheduled | None:
        """Return the occurrence that rings now according to `catch_up`, or None if it is skipped.

        A retry always rings for the occurrence that has failed.
        """
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
        """Return the alarm that remains when all occurrences up to now are skipped, or None."""
        return self._advance_by(self._count_missed(now) + 1)

    @property
    def is_exhausted(self) -> bool:
        """True if no further attempt is allowed."""
        return self.failed >= self.retry.max_attempts

    @property
    def attempt_key(self) -> str:
        """The name of an attempt. A repeat after a crash has the same name."""
        return f"{self.key}.{self.due}.{self.failed - self.unknown}"

    def mark_begun(self, now: float, alarm: str) -> Scheduled:
        """Return the alarm as an attempt that never finishes leaves it. `alarm` is its unique name, for the jitter."""
        return msgspec.structs.replace(self.mark_failed(now, alarm), unknown=self.unknown + 1)

    def mark_failed(self, now: float, alarm: str) -> Scheduled:
        """Return the alarm as a failed attempt leaves it."""
        return self.postpone(now, self.failed + 1, alarm)

    def postpone(self, now: float, failed: int, alarm: str) -> Scheduled:
        """Return the alarm after this many failed attempts. The pause grows with their number."""
        backoff = Backoff(self.retry.backoff, self.retry.max_backoff)
        return msgspec.structs.replace(self, at=now + backoff.pause(failed, alarm), failed=failed)

    def to_alarm(self, name: str) -> Alarm:
        """Return the alarm as its object sees it."""
        return Alarm(name, msgspec.json.decode(self.payload), self.due, self.failed + 1, self.missed)

    def _count_missed(self, now: float) -> int:
        """Return how many occurrences after this one are already due. It is 0 for an alarm that doesn't repeat."""
        return 0 if self.every is None else max(0, int((now - self.due) // self.every))

    def _due_after(self, times: int) -> float:
        return self.due + times * (self.every or 0.0)

    def _advance_by(self, times: int) -> Scheduled | None:
        if self.every is None:
            return None
        due = self._due_after(times)
        return msgspec.structs.replace(self, at=due, due=due, failed=0, unknown=0, missed=0)


def schedule_expiry(now: float, after: float) -> Scheduled:
    """Return the alarm that ends an object after this many seconds."""
    return Scheduled(at=now + after, due=now + after, key=secrets.token_hex(8))


def check_alarm_bounds(alarms: list[Scheduled], limit: int) -> None:
    """Raise `too-large` if these are more alarms, or more bytes, than one object may have."""
    if len(alarms) > limit:
        raise Failure("too-large", f"an object may have at most {limit} alarms", field="alarms")
    if sum(alarm.size for alarm in alarms) > BYTES_LIMIT:
        raise Failure(
            "too-large", f"the alarms of an object may have at most {BYTES_LIMIT} bytes together", field="alarms"
        )
