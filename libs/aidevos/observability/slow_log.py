"""The slow log: turns, commits and searches that took longer than a limit, each with the reason.

Promise: it costs nothing until something was slow, and then at most `LINES` lines in `PERIOD` seconds. A line says how
many were left out before it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter
from typing import Any

log = logging.getLogger("aidevos.slow")
LINES, PERIOD = 20, 10.0
# Reasons that take a smaller share of the time are not named.
LEAST_SHARE = 0.05
# Delays of the event loop from this many seconds on are remembered: as many as fit.
LEAST_LAG = 0.05
LAGS = 64
# Waits that one turn or search tells apart.
MOST_WAITS = 16
OTHERS = "others"


class SlowLog:
    """Writes the slow log. The limits are in seconds."""

    def __init__(self, now: Callable[[], float] = perf_counter) -> None:
        self.turn = self.commit = self.search = 1.0
        self._now = now
        self._began = now()
        self._written = self._omitted = 0
        self._lags: deque[tuple[float, float]] = deque(maxlen=LAGS)

    def configure(self, turn: float, commit: float, search: float) -> None:
        self.turn, self.commit, self.search = turn, commit, search

    def write(self, what: str, began: float, ended: float, reasons: Mapping[str, float], **fields: Any) -> None:
        """Write a line about something that took this long. `reasons` are what it has waited for, in seconds."""
        if not self._admit():
            return
        seconds = ended - began
        lag = self.lag_between(began, ended)
        parts = {**reasons, "a blocked event loop": lag} if lag else dict(reasons)
        shown = [(name, part) for name, part in parts.items() if part >= seconds * LEAST_SHARE]
        why = ", ".join(f"{part:.3f} s {name}" for name, part in sorted(shown, key=lambda each: -each[1]))
        fields |= {"omitted": self._omitted} if self._omitted else {}
        fields |= {"seconds": round(seconds, 6), "reasons": {name: round(part, 6) for name, part in parts.items()}}
        self._omitted = 0
        log.warning("%s took %.3f s: %s", what, seconds, why or "no single reason", extra=fields)

    def note_lag(self, seconds: float) -> None:
        """Note that the event loop has just been late by this time."""
        if seconds >= LEAST_LAG:
            self._lags.append((self._now(), seconds))

    def lag_between(self, began: float, ended: float) -> float:
        """Return for how long the event loop is known to have been blocked in this time."""
        return sum(max(0.0, min(at, ended) - max(at - lag, began)) for at, lag in self._lags)

    def _admit(self) -> bool:
        now = self._now()
        if now - self._began >= PERIOD:
            self._began, self._written = now, 0
        if self._written >= LINES:
            self._omitted += 1
            return False
        self._written += 1
        return True


slow_log = SlowLog()
_waits: ContextVar[dict[str, float] | None] = ContextVar("waits", default=None)


def collect_waits() -> dict[str, float]:
    """Return what the running task will have waited for, by the names that `waiting` is called with."""
    waits: dict[str, float] = {}
    _waits.set(waits)
    return waits


def note_wait(what: str, seconds: float) -> None:
    """Note that the running turn or search has waited for something."""
    waits = _waits.get()
    if waits is not None:
        name = what if what in waits or len(waits) < MOST_WAITS else OTHERS
        waits[name] = waits.get(name, 0.0) + seconds


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Note how long the block takes, as a wait of the running turn or search."""
    began = perf_counter()
    try:
        yield
    finally:
        note_wait(what, perf_counter() - began)
