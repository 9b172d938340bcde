"""The periodic work of a host for all objects in its partitions.

Promises: idle objects leave memory within about a second after their time, and at once while memory exceeds its bound.
An outbox that no owner sends is found by a later scan, whenever it was committed: a commit of a former owner may land
after the first one. Tombstones are removed faster than objects can be deleted, but never before the outcomes of all
requests to them have expired.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from aidevos.durable.base.beats import until_beat
from aidevos.durable.ownership.catalogue import Catalogue
from aidevos.durable.ownership.lifecycle import WAKE_LIMIT, Lifecycle
from aidevos.durable.store.port import StoreError
from aidevos.durable.turns.environment import Environment

log = logging.getLogger(__name__)
SWEEP_EVERY = 1.0
# The shortest pause between two sweeps, also while memory exceeds its bound.
SWEEP_PAUSE = 0.2
SCAN_EVERY = 5.0
PURGE_EVERY = 60.0


class Housekeeping:
    """Sweeps, scans and purges for one process, in the partitions that it owns."""

    def __init__(self, environment: Environment, catalogue: Catalogue, lifecycle: Lifecycle) -> None:
        self._environment = environment
        self._residents = catalogue.residents
        self._lifecycle = lifecycle

    async def keep_sweeping(self) -> None:
        """Hibernate objects until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(until_beat(SWEEP_EVERY)):
                    await self._residents.pressed.wait()
            await self._lifecycle.sweep()
            if self._residents.pressed.is_set():
                await asyncio.sleep(SWEEP_PAUSE)

    async def keep_scanning(self) -> None:
        """Wake objects with unsent entries until cancelled.

        A scan that was cut short continues soon, unless many objects are still sending.
        """
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            if await self._scan() or self._residents.senders >= WAKE_LIMIT:
                await asyncio.sleep(SCAN_EVERY - SWEEP_EVERY)

    async def keep_purging(self) -> None:
        """Remove old tombstones until cancelled."""
        while True:
            await asyncio.sleep(PURGE_EVERY)
            await self.purge()

    async def purge(self) -> None:
        """Remove the tombstones that no repeated request can need any more."""
        bounds = self._environment.limits.records
        age = timedelta(seconds=max(bounds.age, bounds.tell_age))
        before = datetime.fromtimestamp(self._environment.clock.now(), UTC) - age
        for type in self._environment.registry.types:
            try:
                while await self._environment.store.purge(type, self._environment.partitions.served(type), before):
                    pass
            except StoreError as error:
                log.warning("purging tombstones of %s failed, trying again later: %s", type, error)

    async def _scan(self) -> bool:
        try:
            return await self._lifecycle.scan()
        except StoreError as error:
            log.warning("scanning the outboxes failed, trying again: %s", error)
            return True
