"""Answers of queries that declared routes may repeat for a while, in the memory of this process.

Promise: an answer is repeated only to a caller of the same identity and rights, for the same arguments,
and no longer than its route says. Entries and bytes are bounded; what was used least recently goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from time import monotonic
from typing import NamedTuple

from aidevos.security.permissions import Principal

from .http.responses import HttpResponse

MAX_ENTRIES = 10_000
MAX_BYTES = 16 * 1024 * 1024
# An answer larger than this would drive too many others out.
MAX_ANSWER = MAX_BYTES // 16
# What an entry takes beside its arguments and its answer.
OVERHEAD = 512


class _Entry(NamedTuple):
    answer: HttpResponse
    until: float
    size: int


class AnswerCache:
    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable) -> HttpResponse | None:
        entry = self._entries.get(key)
        if entry is None or entry.until <= self._now():
            return None
        self._entries.move_to_end(key)
        return entry.answer

    def put(self, key: Hashable, answer: HttpResponse, seconds: float, weight: int = 0) -> None:
        """Keep an answer for so many seconds; `weight` are the bytes that its key takes."""
        self._drop(key)
        size = len(answer.body) + weight + OVERHEAD
        if size > MAX_ANSWER:
            return
        self._entries[key] = _Entry(answer, self._now() + seconds, size)
        self._bytes += size
        while self._bytes > MAX_BYTES or len(self._entries) > MAX_ENTRIES:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.size


def identity(caller: Principal) -> Hashable:
    """Whose answer it is: who asks, by which key, and what they may do."""
    return caller.subject, caller.key, caller.roles, caller.permissions, caller.narrowed
