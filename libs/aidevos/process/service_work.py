"""The work of a service besides its objects: its preparation, and its chores."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from aidevos.contracts.errors import Failure
from aidevos.durable.base.backoff import Backoff
from aidevos.durable.hosting.duties import Work
from aidevos.durable.objects.resources import Resources, needs_of
from aidevos.process.service import Service

log = logging.getLogger(__name__)
PREPARE, CHORES = Backoff(0.5, 2.0), Backoff(1.0, 1.0)


class ServiceWork:
    """The preparation and the chores of a service, with what they need from its resources.

    `chores` are functions that never return: each repeats a chore, also after a failure.
    """

    def __init__(self, service: Service, resources: Resources) -> None:
        self._service = service
        self._resources = resources
        self.chores = [partial(self._repeat, chore) for chore in service.chores]

    def duties(self) -> Iterator[tuple[str, str, Work]]:
        """Yield the chores as duties, which run in one process of the service at a time."""
        first = self._service.types[0].object_type
        for number, chore in enumerate(self.chores):
            yield first, f"chore {number}", chore

    async def prepare(self, prepared: asyncio.Event) -> None:
        """Prepare the service, as often as it takes, and then set `prepared`."""
        prepare, pauses = self._service.prepare, PREPARE.pauses()
        while prepare is not None:
            try:
                await prepare(**self._resources.arguments(needs_of(prepare)))
                break
            except Failure as failure:
                log.warning("preparing the service failed, trying again: %s", failure)
            except Exception:
                log.exception("preparing the service failed, trying again")
            await pauses.wait()
        prepared.set()

    async def _repeat(self, chore: Callable[..., Awaitable[None]]) -> None:
        while True:
            try:
                await chore(**self._resources.arguments(needs_of(chore)))
            except Exception:
                log.exception("a chore of the service failed, restarting it")
            await asyncio.sleep(CHORES.pause(1))
