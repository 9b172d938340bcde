"""The lease of a host: the right of one incarnation of a process to answer.

Promises: a lease starts *before* its last applied renewal was sent, and lasts for the key's TTL less a margin. Its
clock counts suspension, so a host that was paused finds at its first check that it may not answer. A lapsed key is
never created again: the host returns as a new incarnation.

A late or lost acknowledgement doesn't end a lease. Each renewal writes its number as the key's value, so the next one
finds out whether it was applied. Renewals run in a thread of their own, over a connection of their own, so neither
traffic nor a long turn delays them. Only a process whose event loop doesn't turn at all stops renewing.

The lease decides which host answers. It doesn't protect writes, which are fenced by claims.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from nats.errors import Error as NatsError

from aidevos.contracts import subjects
from aidevos.durable.base.clock import Clock
from aidevos.durable.client.bucket import Bucket, RevisionConflict, RolledBack

log = logging.getLogger(__name__)
MARGIN = 0.5
# Renewals in the life of a key. Each one is given up when the next one is due.
TRIES = 6
LONGEST_PAUSE = 1.0
# Seconds for which the bucket remembers that a host has left.
FORGET_AFTER = 60


class Lease:
    """The lease of one incarnation. `lost` is set when the lease has ended for good.

    `ttl` is in seconds. `run` runs a coroutine in the thread to whose loop `hosts` belongs. `is_stalled` is called in
    that thread, at least once a second.
    """

    def __init__(
        self,
        hosts: Bucket,
        service: str,
        host: str,
        clock: Clock,
        ttl: int,
        *,
        run: Callable[[Coroutine[Any, Any, None]], Coroutine[Any, Any, None]],
        is_stalled: Callable[[], bool],
    ) -> None:
        self.incarnation = f"{host}.{secrets.token_hex(8)}"
        self._key = subjects.lease_key(service, self.incarnation)
        self.lost = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._hosts = hosts
        self._clock = clock
        self._ttl = ttl
        self._pause = min(ttl / TRIES, LONGEST_PAUSE)
        self._run = run
        self._is_stalled = is_stalled
        self._revision = 0
        self._tries = 0
        # When the renewals were sent of which nobody knows yet whether they were applied.
        self._sent: dict[int, float] = {}
        # The last renewal that is known to be applied.
        self._applied = 0
        # True if the bucket has lost a renewal that it had acknowledged.
        self.rolled_back = False
        # Times on the clock. They are replaced as a whole, so every thread may read and write them.
        self._renewed = self._suspended = -math.inf

    def valid(self) -> bool:
        """Return True if this process may answer from memory now."""
        return self._suspended < self._renewed and self._clock.elapsed() < self._renewed + self._ttl - MARGIN

    @property
    def age(self) -> float:
        """Seconds since the last renewal that was applied was sent."""
        return self._clock.elapsed() - self._renewed

    def suspend(self) -> None:
        """Invalidate the lease until a renewal that is sent from now on, because a connection was lost."""
        self._suspended = max(self._suspended, self._clock.elapsed())

    def end(self, *, rolled_back: bool = False) -> None:
        """Give up the lease for good. `rolled_back` says that a bucket has lost what it had acknowledged."""
        self.rolled_back |= rolled_back
        self._suspended = math.inf
        self.lost.set()

    async def acquire(self) -> None:
        """Create the key of this incarnation, and delete the keys of dead predecessors with the same name."""
        await self._run(self._create())

    async def keep(self) -> None:
        """Renew until cancelled."""
        await self._run(self._keep())

    async def renew(self) -> None:
        """Renew at once, because a connection was restored."""
        if self._applied and not self.lost.is_set():
            await self._run(self._try())

    async def release(self) -> None:
        self.end()
        await self._run(self._delete())

    async def _create(self) -> None:
        with suppress(RolledBack):
            # What happened before this incarnation is no concern of it.
            await self._hosts.compare_with_past()
        for key in await self._hosts.keys(self._key.rpartition(".")[0] + "."):
            await self._hosts.delete(key, forget_after=FORGET_AFTER)
        await self._set()

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + self._pause, loop.time())
            await asyncio.sleep(due - loop.time())
            await self._try()

    async def _try(self) -> None:
        if self._is_stalled():
            log.error("the event loop doesn't turn: the lease is not renewed")
            return
        try:
            async with asyncio.timeout(self._pause):
                while self._suspended < math.inf:
                    try:
                        await self._set()
                        break
                    except RevisionConflict:
                        await self._find_revision()
        except (NatsError, OSError, TimeoutError) as error:
            log.warning("renewing the lease failed, trying again: %r", error)

    async def _set(self) -> None:
        self._tries += 1
        number = self._tries
        self._sent[number] = self._clock.elapsed()
        self._revision = await self._hosts.set(self._key, b"%d" % number, self._revision, self._ttl)
        self._note_applied(number)

    async def _find_revision(self) -> None:
        """Read the key after a conflict: an earlier renewal was applied, or the lease has ended.

        It has ended if the key is gone, or if the bucket is in an earlier state than it was.
        """
        # Acknowledgements of other renewals may overtake the answer.
        applied = self._applied
        value, revision = await self._hosts.get(self._key)
        try:
            await self._hosts.compare_with_past()
        except RolledBack:
            self.rolled_back = True
        self.rolled_back |= value is not None and int(value) < applied
        if value is None or self.rolled_back:
            log.error("the lease of %s has lapsed", self.incarnation)
            self._suspended = math.inf
            self._loop.call_soon_threadsafe(self.lost.set)
        else:
            self._revision = max(self._revision, revision)
            self._note_applied(int(value))

    def _note_applied(self, number: int) -> None:
        self._applied = max(self._applied, number)
        self._renewed = max(self._renewed, self._sent.get(number, -math.inf))
        self._sent = {later: sent for later, sent in self._sent.items() if later > number}

    async def _delete(self) -> None:
        try:
            await self._hosts.delete(self._key, forget_after=FORGET_AFTER)
        except NatsError as error:
            log.warning("releasing the lease failed, it will expire: %s", error)
