"""Pauses between attempts: exponential, bounded and jittered.

Promise: callers that fail together, as in an outage, do not retry together. Jitter shortens each pause by up to half,
either at random or derived from a key.
"""

from __future__ import annotations

import hashlib
import math
import random
from typing import NamedTuple

# The share of a pause that jitter may remove. With half ("equal jitter"), attempts spread well and none is immediate.
# https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
JITTER = 0.5
# 2.0 ** 1024 would overflow.
_MAX_DOUBLINGS = 1000


class Backoff(NamedTuple):
    """An exponential pause: at most `first` seconds after the first failure, doubling with each further failure, never
    more than `longest` seconds."""

    first: float
    longest: float

    def pause(self, failures: int, key: str | None = None) -> float:
        """Return the seconds to wait after this many failures in a row (at least 1).

        The jitter is random. With a `key`, it is derived from the key and the number of failures, so the same arguments
        always give the same pause.
        """
        share = random.random() if key is None else _hash_fraction(f"{key}.{failures}")  # noqa: S311
        unjittered = min(self.first * 2.0 ** min(failures - 1, _MAX_DOUBLINGS), self.longest)
        return unjittered * (1.0 - JITTER * share)

    def pauses(self) -> Pauses:
        """Return the state for one retry loop."""
        return Pauses(self)


# For loops that follow a stream or a bucket and should resume soon after an outage.
FOLLOWING = Backoff(0.2, 1.0)


class Pauses:
    """The pauses of one retry loop.

    An attempt that lasted longer than the longest pause counts as a success, so the next pause is short again.
    """

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._failures = 0
        self._attempt_began = -math.inf

    async def wait(self) -> None:
        """Wait after a failed attempt."""
        # Imported here, because the fleet's supervisor, which has no event loop, uses this module.
        import asyncio

        loop = asyncio.get_running_loop()
        lasted = loop.time() - self._attempt_began
        self._failures = 1 if lasted > self._backoff.longest else self._failures + 1
        await asyncio.sleep(self._backoff.pause(self._failures))
        self._attempt_began = loop.time()


def _hash_fraction(text: str) -> float:
    """Return a number in [0, 1) that is always the same for the same text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48
