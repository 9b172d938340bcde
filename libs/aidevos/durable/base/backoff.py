"""Pauses between attempts: exponential, bounded and jittered.

Promise: what failed at one moment, as in an outage, does not come back at one moment. Each pause is shortened by up to
half, by chance or by a key.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
from typing import NamedTuple

# The share of a pause that jitter may take away: with half of it ("equal jitter") attempts spread well, and none comes
# at once. https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
JITTER = 0.5
# 2.0 ** 1024 would overflow.
_MOST_DOUBLINGS = 1000


class Backoff(NamedTuple):
    """A pause of at most `first` seconds after the first failure, then up to twice as long after each further one, and
    never more than `longest` seconds."""

    first: float
    longest: float

    def pause(self, failed: int, key: str | None = None) -> float:
        """Return the seconds to wait after so many failures in a row (at least 1).

        The jitter is random. With a `key`, it is derived from the key and the number of failures, so that the pause is
        the same whenever it is computed.
        """
        share = random.random() if key is None else _fraction(f"{key}.{failed}")  # noqa: S311
        unjittered = min(self.first * 2.0 ** min(failed - 1, _MOST_DOUBLINGS), self.longest)
        return unjittered * (1.0 - JITTER * share)

    def pauses(self) -> Pauses:
        """Return the pauses of one loop."""
        return Pauses(self)


# For loops that follow a stream or a bucket, which is to be read again soon after an outage.
FOLLOWING = Backoff(0.2, 1.0)


class Pauses:
    """The pauses of one loop that tries something until it succeeds, or for as long as it runs.

    An attempt that lasted longer than the longest pause counts as a success: the next pause is a first one again.
    """

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._failed = 0
        self._resumed = -math.inf

    async def wait(self) -> None:
        """Wait after an attempt has failed."""
        loop = asyncio.get_running_loop()
        lasted = loop.time() - self._resumed
        self._failed = 1 if lasted > self._backoff.longest else self._failed + 1
        await asyncio.sleep(self._backoff.pause(self._failed))
        self._resumed = loop.time()


def _fraction(text: str) -> float:
    """Return a number of at least 0 and less than 1, always the same for a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48
