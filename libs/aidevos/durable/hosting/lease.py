"""The lease of a host: the right of one incarnation of a process to answer.

Promises: a lease starts *before* its last acknowledged renewal was sent, and lasts for the key's TTL less a margin.
Its clock counts suspension, so a host that was paused finds at its first check that it may not answer. A lapsed key
is never created again: the host returns as a new incarnation.

The lease decides which host answers. It doesn't protect writes, which are fenced by claims.
"""

from __future__ import annotations

import asyncio
import logging
import secrets

from nats.errors import Error as NatsError

from aidevos.durable.base.clock import Clock
from aidevos.durable.client.bucket import Bucket, RevisionConflict

log = logging.getLogger(__name__)
MARGIN = 0.5
ALIVE = b"alive"


class Lease:
    """The lease of one incarnation. `ttl` is in seconds. `lost` is set when the lease has ended for good."""

    def __init__(self, hosts: Bucket, host: str, clock: Clock, ttl: float) -> None:
        self.incarnation = f"{host}.{secrets.token_hex(8)}"
        self.lost = asyncio.Event()
        self._hosts = hosts
        self._host = host
        self._clock = clock
        self._ttl = ttl
        self._revision = 0
        self._ends = 0.0

    def valid(self) -> bool:
        """Return True if this process may answer from memory now."""
        return self._clock.elapsed() < self._ends

    def suspend(self) -> None:
        """Invalidate the lease until the next successful renewal, because the connection was lost."""
        self._ends = 0.0

    async def acquire(self) -> None:
        """Create the key of this incarnation, and delete the keys of dead predecessors with the same name."""
        for key in await self._hosts.keys(f"{self._host}."):
            await self._hosts.delete(key)
        sent = self._clock.elapsed()
        self._revision = await self._hosts.set(self.incarnation, ALIVE, 0, self._ttl)
        self._ends = sent + self._ttl - MARGIN

    async def keep(self) -> None:
        """Renew until the lease is lost."""
        pause = self._ttl / 3
        while not self.lost.is_set():
            await asyncio.sleep(pause)
            pause = self._ttl / 3
            sent = self._clock.elapsed()
            try:
                self._revision = await self._hosts.set(self.incarnation, ALIVE, self._revision, self._ttl)
                self._ends = sent + self._ttl - MARGIN
            except RevisionConflict:
                await self._find_revision()
                pause = 0.0
            except (NatsError, OSError) as error:
                log.warning("renewing the lease failed, trying again: %s", error)

    async def release(self) -> None:
        self._ends = 0.0
        self.lost.set()
        try:
            await self._hosts.delete(self.incarnation)
        except NatsError as error:
            log.warning("releasing the lease failed, it will expire: %s", error)

    async def _find_revision(self) -> None:
        """Read the key's revision after a conflict, or end the lease if the key is gone.

        A renewal whose acknowledgement was lost has changed the revision.
        """
        try:
            value, revision = await self._hosts.get(self.incarnation)
        except (NatsError, OSError):
            return
        if value is None:
            log.error("the lease of %s has lapsed", self.incarnation)
            self._ends = 0.0
            self.lost.set()
        else:
            self._revision = revision
