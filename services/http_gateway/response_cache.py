"""A cache of query responses for declared routes, in the memory of this process.

Promise: a cached response is served only to callers with the same identity and permissions, for the
same arguments, and no longer than its route allows. Entries and bytes are bounded; the least recently
used entry is evicted first.
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
# A larger response would evict too many others.
MAX_RESPONSE = MAX_BYTES // 16
# Bytes of an entry in addition to its arguments and its body.
OVERHEAD = 512


class _Entry(NamedTuple):
    response: HttpResponse
    expires_at: float
    size: int


class ResponseCache:
    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable) -> HttpResponse | None:
        entry = self._entries.get(key)
        if entry is None or entry.expires_at <= self._now():
            return None
        self._entries.move_to_end(key)
        return entry.response

    def put(self, key: Hashable, response: HttpResponse, seconds: float, weight: int = 0) -> None:
        """Cache a response for `seconds`; `weight` is the size of its key in bytes. Large responses are not cached."""
        self._drop(key)
        size = len(response.body) + weight + OVERHEAD
        if size > MAX_RESPONSE:
            return
        self._entries[key] = _Entry(response, self._now() + seconds, size)
        self._bytes += size
        while self._bytes > MAX_BYTES or len(self._entries) > MAX_ENTRIES:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.size


def identity(caller: Principal) -> Hashable:
    """Return the part of a cache key that tells callers apart: subject, API key, roles and permissions."""
    return caller.subject, caller.key, caller.roles, caller.permissions, caller.narrowed
