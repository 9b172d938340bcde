"""The placement of types on hosts: each type is held by one host at a time.

Promise: a host takes a type only if no host holds it, its holder has released it, or the holder's lease key is gone.
Placement decides which host answers. It doesn't protect writes, which are fenced by claims.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Sequence

from nats.errors import Error as NatsError

from aidevos.durable.base.tasks import cancel_and_wait
from aidevos.durable.client.bucket import Bucket, RevisionConflict
from aidevos.durable.hosting.lease import Lease

log = logging.getLogger(__name__)
POLL_EVERY = 0.1


class Placement:
    """Takes the types that a host serves as soon as they are free, and calls `own` for each."""

    def __init__(
        self,
        holders: Bucket,
        hosts: Bucket,
        lease: Lease,
        types: Sequence[str],
        own: Callable[[str], Awaitable[None]],
    ) -> None:
        self._holders = holders
        self._hosts = hosts
        self._lease = lease
        self._wanted = dict.fromkeys(types)
        self._own = own
        self._held: dict[str, int] = {}
        self._running: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Try to take each type until all are held."""
        self._running = asyncio.current_task()
        waiting: set[str] = set()
        while self._wanted:
            for type in list(self._wanted):
                try:
                    if await self._take(type):
                        await self._own(type)
                        # `stop` may have been called meanwhile, and nats-py may have swallowed the cancellation.
                        self._wanted.pop(type, None)
                    elif type not in waiting:
                        waiting.add(type)
                        log.warning("another process serves the type %s: waiting until it ends", type)
                except (NatsError, OSError) as error:
                    log.warning("taking the type %s failed, trying again: %s", type, error)
            if self._wanted:
                await asyncio.sleep(POLL_EVERY)

    async def stop(self) -> None:
        """Take no further type."""
        self._wanted.clear()
        if self._running is not None:
            await cancel_and_wait([self._running])

    async def release(self) -> None:
        """Release the types of this host to other hosts."""
        for type, revision in self._held.items():
            try:
                await self._holders.delete(type, revision)
            except NatsError as error:
                log.warning("releasing the type %s failed: %s", type, error)

    async def _take(self, type: str) -> bool:
        value, revision = await self._holders.get(type)
        holder = value.decode("ascii", "replace") if value else ""
        if _is_incarnation(holder) and holder != self._lease.incarnation:
            living, _ = await self._hosts.get(holder)
            if living is not None:
                return False
        try:
            self._held[type] = await self._holders.set(type, self._lease.incarnation.encode(), revision)
        except RevisionConflict:
            return False
        log.info("%s holds the type %s", self._lease.incarnation, type)
        return True


_is_incarnation = re.compile(r"[A-Za-z0-9_-]+\.[0-9a-f]{16}").fullmatch
