"""`self.alarms`: how a command sets, reads and cancels the alarms of its object."""

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
    """The alarms of the object whose command runs: `self.alarms`."""

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
        """Let `on_alarm` be called at a time, or in so many seconds; one of the same name is replaced.

        `name` has 1 to 64 letters, digits, `_` and `-`. `at` is in seconds since the epoch, or a `datetime` with
        its zone; a time that is past means now. With `every` it rings again and again, so many seconds (at least
        1) after the last regular time, however late that was. `payload` is any JSON value, up to 64 KiB.

        `catch_up` says what happens to what nobody could ring in time, after an outage:

        - `"latest"`: an alarm that is late rings late; of several times that a repeating one has missed, the last
          rings, and `alarm.missed` counts the others.
        - `"all"`: each of them rings, in a turn of its own.
        - `"skip"`: what is late by more than `grace` seconds (of a repeating one: by more than half of `every`, if
          that is less) doesn't ring; a repeating one goes on at its next regular time, any other is gone.

        An attempt that has failed is repeated whatever the policy, and meanwhile holds up the next regular time.
        Raises `invalid` for values that are not allowed, and `too-large` past the bounds of an object.
        """
        turn = self._turn
        _require(is_name(name) is not None, "name", f"the name of an alarm matches {NAME_PATTERN}")
        _require((at is None) != (in_ is None), "at", "an alarm has either `at` or `in_`")
        _require(every is None or SHORTEST_EVERY <= every <= LONGEST_ALARM, "every", "`every` is at least 1 second")
        _require(catch_up in ("all", "latest", "skip"), "catch_up", "`catch_up` is all, latest or skip")
        _require(0 <= grace <= LONGEST_ALARM, "grace", "`grace` is a number of seconds")
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
        """Take an alarm back; whether there was one."""
        return self._turn.cancel_alarm(name)

    def get(self, name: str) -> Alarm | None:
        """The alarm of this name as it will ring next, this turn's changes included."""
        scheduled = self._turn.alarm(name)
        return scheduled.to_alarm(name) if scheduled else None

    @property
    def names(self) -> list[str]:
        """The names of all alarms that are set, in their order."""
        return sorted(name for name in self._turn.alarm_names() if name != EXPIRY)


def _due_time(now: float, at: float | datetime | None, in_: float | None) -> float:
    if isinstance(at, datetime):
        _require(at.tzinfo is not None, "at", "a datetime needs a zone: datetime(…, tzinfo=UTC)")
        at = at.timestamp()
    due = float(now + in_ if at is None and in_ is not None else at or 0.0)
    _require(in_ is None or in_ >= 0, "in_", "`in_` is a number of seconds from now on")
    _require(math.isfinite(due) and due <= now + LONGEST_ALARM, "at", "an alarm rings within 100 years")
    return max(due, now)


def _encode_payload(payload: Any) -> bytes:
    try:
        encoded = msgspec.json.encode(payload)
        msgspec.json.decode(encoded)
    except (TypeError, ValueError, RecursionError) as error:
        raise Failure("invalid", f"the payload is no JSON: {error}", field="payload") from None
    if len(encoded) > PAYLOAD_LIMIT:
        raise Failure("too-large", f"an alarm's payload has at most {PAYLOAD_LIMIT} bytes", field="payload")
    return encoded


def _check_retry(retry: AlarmRetry) -> None:
    _require(1 <= retry.max_attempts <= MAX_ATTEMPTS, "retry.max_attempts", f"from 1 to {MAX_ATTEMPTS} attempts")
    _require(0 < retry.backoff <= retry.max_backoff, "retry.backoff", "`backoff` is more than 0, up to `max_backoff`")
    _require(retry.max_backoff <= LONGEST_ALARM, "retry.max_backoff", "`max_backoff` is a number of seconds")


def _require(allowed: bool, field: str, detail: str) -> None:
    if not allowed:
        raise Failure("invalid", detail, field=f"alarm.{field}")
