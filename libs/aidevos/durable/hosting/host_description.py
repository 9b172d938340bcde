"""The description that a host gives of itself to operators: what it is, how it is, and which partitions it owns.

Promise: a host answers for as long as it has objects, also while it drains. An operator who sees no answer of a process
knows that it can't serve anything either.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from aidevos.contracts import subjects
from aidevos.contracts.fleet import HostInfo
from aidevos.contracts.times import rfc3339_of
from aidevos.durable.hosting.reception import answer_requests
from aidevos.durable.ownership.catalogue import Catalogue
from aidevos.observability.health import Health


class HostDescription:
    """Answers requests at `subjects.FLEET` about one incarnation of a host.

    `partitions` returns what it owns, by type. `health` has the problems of its process. `since` and the answer
    of `clock` are in seconds since the epoch.
    """

    def __init__(
        self,
        connection: Client,
        catalogue: Catalogue,
        *,
        service: str,
        replica: int,
        incarnation: str,
        version: str,
        since: float,
        partitions: Callable[[], Mapping[str, Collection[int]]],
        health: Health,
        clock: Callable[[], float],
    ) -> None:
        self.draining = False
        self._connection = connection
        self._catalogue = catalogue
        self._service = service
        self._replica = replica
        self._incarnation = incarnation
        self._version = version
        self._since = rfc3339_of(since)
        self._partitions = partitions
        self._health = health
        self._clock = clock
        self._subscription: Subscription | None = None

    def describe(self) -> HostInfo:
        report = self._health.report(self._service, self._replica)
        return HostInfo(
            service=self._service,
            replica=self._replica,
            incarnation=self._incarnation,
            version=self._version,
            since=self._since,
            state="draining" if self.draining else "serving" if report.ok else "unhealthy",
            detail=report.detail,
            problems=report.problems,
            now=rfc3339_of(self._clock()),
            partitions={type: sorted(owned) for type, owned in sorted(self._partitions().items())},
            objects=len(self._catalogue),
            memory=self._catalogue.residents.memory,
        )

    async def start(self) -> None:
        """Answer until stopped."""
        self._subscription = await answer_requests(self._connection, subjects.FLEET, self._on_request)

    async def stop(self) -> None:
        if self._subscription is not None:
            with suppress(NatsError):
                await self._subscription.unsubscribe()

    async def _on_request(self, message: Msg) -> None:
        await self._connection.publish(message.reply, msgspec.json.encode(self.describe()))
