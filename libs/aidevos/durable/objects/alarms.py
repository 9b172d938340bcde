"""`self.alarms`, by which a command sets, reads and cancels its object's alarms."""

from __future__ import annotations

import math
import secrets
from datetime import datetime
from typing import Any

import msgspec

from aidevos.contracts.errors import Failure
from aidevos.durable.objects.alarm import (
    EXPIRY,
    GRACE,
    LONGEST_ALARM,
    MAX_ATTEMPTS,
    NAME_PATTERN,
    PAYLOAD_LIMIT,
    RETRY,
    SHORTEST_EVERY,
    Alarm,
    AlarmRetry,
    CatchUp,
    Scheduled,
    is_name,
)
from aidevos.durable.objects.running import RunningTurn


class Alarms:
    """The alarms of the object whose command is running: `self.alarms`. Changes are part of the turn's commit."""

    def __init__(self, turn: RunningTurn) -> None:
        self._turn = turn

    def set(
        self,
        name: str,
        *,
        at: float | datetime | None = None,
        in_: float | None = None,
        payload: Any = None,
        every: float | None = None,
        retry: AlarmRetry = RETRY,
        catch_up: CatchUp = "latest",
        grace: float = GRACE,
    ) -> None:
        """Schedule a call of `on_alarm`, replacing any alarm of the same name.

        `name` has 1 to 64 letters, digits, `_` and `-`. Pass either `at`, in seconds since the epoch or as a `datetime`
        with a time zone, or `in_`, in seconds from now. A time in the past means now. With `every`, the alarm repeats
        that many seconds (at least 1) after its last regular time, however late it rang. `payload` is any JSON value of
        up to 64 KiB.

        `catch_up` says what happens to an alarm that could not ring in time, as after an outage:

        - `"latest"`: it rings late. If a repeating alarm has missed several times, only the last one rings, and
          `alarm.missed` counts the others.
        - `"all"`: each missed time rings, in a turn of its own.
        - `"skip"`: an alarm that is more than `grace` seconds late doesn't ring. For a repeating alarm the limit is at
          most half of `every`. A repeating alarm continues at its next regular time; any other is gone.

        A failed attempt is retried whatever the policy, and delays the next regular time meanwhile. Raises `invalid`
        for a value that isn't allowed, and `too-large` if the object has too many alarms or too large ones.
        """
        turn = self._turn
        _require(is_name(name) is not None, "name", f"the name of an alarm must match {NAME_PATTERN}")
        _require((at is None) != (in_ is None), "at", "an alarm needs either `at` or `in_`")
        _require(
            every is None or SHORTEST_EVERY <= every <= LONGEST_ALARM, "every", "`every` must be at least 1 second"
        )
        _require(catch_up in ("all", "latest", "skip"), "catch_up", "`catch_up` must be all, latest or skip")
        _require(0 <= grace <= LONGEST_ALARM, "grace", "`grace` must be a number of seconds, at least 0")
        _check_retry(retry)
        due = _due_time(turn.now, at, in_)
        turn.set_alarm(
            name,
            Scheduled(
                at=due,
                due=due,
                key=secrets.token_hex(8),
                payload=_encode_payload(payload),
                every=None if every is None else float(every),
                grace=float(grace),
                catch_up=catch_up,
                retry=retry,
            ),
        )

    def cancel(self, name: str) -> bool:
        """Cancel an alarm. Return True if there was one."""
        return self._turn.cancel_alarm(name)

    def get(self, name: str) -> Alarm | None:
        """Return the alarm of this name as it will ring next, including this turn's changes, or None."""
        scheduled = self._turn.alarm(name)
        return scheduled.to_alarm(name) if scheduled else None

    @property
    def names(self) -> list[str]:
        """The names of all alarms that are set, sorted."""
        return sorted(name for name in self._turn.alarm_names() if name != EXPIRY)


def _due_time(now: float, at: float | datetime | None, in_: float | None) -> float:
    if isinstance(at, datetime):
        _require(at.tzinfo is not None, "at", "a datetime needs a time zone: datetime(…, tzinfo=UTC)")
        at = at.timestamp()
    due = float(now + in_ if at is None and in_ is not None else at or 0.0)
    _require(in_ is None or in_ >= 0, "in_", "`in_` must be a number of seconds from now, at least 0")
    _require(math.isfinite(due) and due <= now + LONGEST_ALARM, "at", "an alarm must ring within 100 years")
    return max(due, now)


def _encode_payload(payload: Any) -> bytes:
    try:
        encoded = msgspec.json.encode(payload)
        msgspec.json.decode(encoded)
    except (TypeError, ValueError, RecursionError) as error:
        raise Failure("invalid", f"the payload can't be encoded as JSON: {error}", field="payload") from None
    if len(encoded) > PAYLOAD_LIMIT:
        raise Failure("too-large", f"an alarm's payload may have at most {PAYLOAD_LIMIT} bytes", field="payload")
    return encoded


def _check_retry(retry: AlarmRetry) -> None:
    _require(
        1 <= retry.max_attempts <= MAX_ATTEMPTS,
        "retry.max_attempts",
        f"`max_attempts` must be from 1 to {MAX_ATTEMPTS}",
    )
    _require(
        0 < retry.backoff <= retry.max_backoff,
        "retry.backoff",
        "`backoff` must be more than 0 and at most `max_backoff`",
    )
    _require(
        retry.max_backoff <= LONGEST_ALARM,
        "retry.max_backoff",
        "`max_backoff` must be a number of seconds, at most 100 years",
    )


def _require(allowed: bool, field: str, detail: str) -> None:
    if not allowed:
        raise Failure("invalid", detail, field=f"alarm.{field}")
