"""A host: one incarnation of a process that serves object types over NATS.

Promises: every request is answered, with `moved` while the host doesn't hold its lease or doesn't own the object. A
plain publish without a reply subject is executed at most once, and its errors are logged and counted. A host finishes
and commits the accepted requests of a partition before it releases the partition to another host.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from typing import Any

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.micro import add_service
from nats.micro.service import Service

from aidevos.contracts import dead_letters, envelope, fleet, subjects
from aidevos.contracts.errors import Failure
from aidevos.durable.access.admission import Admission
from aidevos.durable.access.authenticator import CallAuthenticator, trusted_headers
from aidevos.durable.access.limiter import RateLimiter
from aidevos.durable.access.resolving import resolve_when_ready
from aidevos.durable.base.tasks import cancel_and_wait
from aidevos.durable.client.bucket import Bucket
from aidevos.durable.client.connection import Connection
from aidevos.durable.client.types import ANNOUNCE_EVERY
from aidevos.durable.delivery.stray_tells import bury_strays
from aidevos.durable.delivery.tells import Tells
from aidevos.durable.hosting.activity import Activity
from aidevos.durable.hosting.duties import Duties, Work
from aidevos.durable.hosting.host_description import HostDescription
from aidevos.durable.hosting.lease import Lease
from aidevos.durable.hosting.membership import FORM, Member, Membership
from aidevos.durable.hosting.peers import Peers
from aidevos.durable.hosting.placement import Placement
from aidevos.durable.hosting.placement_events import PlacementEvents
from aidevos.durable.hosting.readings import hide_host, show_host
from aidevos.durable.hosting.reception import Reception, answer_requests
from aidevos.durable.hosting.replies import ReplySender
from aidevos.durable.hosting.runtime import Runtime
from aidevos.durable.turns.failures import outcome_unknown
from aidevos.durable.turns.headers import Reply
from aidevos.observability.exposition import exposition
from aidevos.observability.health import Health
from aidevos.observability.metrics import PARTITIONS_MOVED
from aidevos.security.permissions import ANONYMOUS

log = logging.getLogger(__name__)
FLUSH_WITHIN = 2
ANNOUNCE_AGAIN = 1.0
# Seconds after which a partition without an owner is a problem. One that moves has none for a moment.
OWNED_WITHIN = 5.0
VERSION = version("aidevos")


class Host:
    """Serves the types of a runtime until its lease is lost or it is drained.

    Requests come over `calls`, and everything else over `connection`, so that health probes don't wait behind
    requests. `peers` is told how many hosts serve, and `events` when they come and go and partitions move. A partition
    is handed over within `handover_timeout` seconds. `duties` are works of the service, each with a type and a name.
    `health` has the problems of the process. With `reports_health`, the host answers for the health of its service.
    """

    def __init__(
        self,
        runtime: Runtime,
        lease: Lease,
        connection: Connection,
        calls: Connection,
        admission: Admission,
        limiter: RateLimiter,
        *,
        service: str,
        replica: int,
        peers: Peers,
        events: PlacementEvents,
        handover_timeout: float,
        duties: Iterable[tuple[str, str, Work]] = (),
        health: Health | None = None,
        reports_health: bool = True,
    ) -> None:
        self.lease = lease
        self._runtime = runtime
        self._environment = runtime.environment
        self._partitions = runtime.environment.partitions
        self._connection = connection
        self._calls = calls
        self._admission = admission
        self._peers = peers
        self._events = events
        self._service = service
        self._replica = replica
        self._handover_timeout = handover_timeout
        self._drained_until = math.inf
        self._health = health or Health(runtime.environment.clock.now)
        self._reports_health = reports_health
        self._announced = Bucket(connection, subjects.TYPES_BUCKET)
        types, since = list(self._environment.registry.types), self._environment.clock.now()
        own = Member(service=service, replica=replica, release=VERSION, since=since, types=types, form=FORM)
        hosts = Bucket(connection, subjects.HOSTS_BUCKET)
        self._membership = Membership(hosts, lease, own, self._on_members, self._on_lost)
        keys = Bucket(connection, subjects.PLACEMENT_BUCKET)
        self._placement = Placement(
            keys,
            self._membership,
            lease,
            self._partitions,
            types,
            self._take,
            self._hand_over,
            lambda type, partition: runtime.catalogue.has_any((type, partition)),
            events,
        )
        self._tells = Tells(
            connection, lease.incarnation, runtime.environment, runtime.router, admission, limiter, peers.share
        )
        self._duties = Duties(self._partitions.count)
        for type, name, work in (*duties, *self._own_duties()):
            self._duties.add(type, name, work)
        self._replies = ReplySender(calls)
        authenticator = CallAuthenticator(admission, limiter, self._is_open, self._count_items)
        self._reception = Reception(runtime, lease, calls, authenticator, self._replies)
        self._micro: Service | None = None
        # Of the connection, and of the calls: for queries, and by partition.
        self._subscriptions: list[Subscription] = []
        self._query_calls: list[Subscription] = []
        self._calls_of: dict[tuple[str, int], Subscription] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._activity = Activity(
            connection,
            runtime.catalogue,
            service=service,
            incarnation=lease.incarnation,
            owner_of=lambda type, id: self._placement.owner_of(type, self._partitions.of(type, id)),
        )
        runtime.find_active = self._activity.find_active
        self._description = HostDescription(
            connection,
            runtime.catalogue,
            service=service,
            replica=replica,
            incarnation=lease.incarnation,
            version=VERSION,
            since=since,
            partitions=self._partitions.owned,
            health=self._health,
            clock=self._environment.clock.now,
        )
        self._health.watch("lease", self._find_lapse)
        self._health.watch("partitions", self._find_unsettled)
        self._health.watch("owners", self._placement.find_ownerless, status="warn", after=OWNED_WITHIN)
        self._health.watch("event bus", runtime.find_bus_problem, status="warn")

    @property
    def objects(self) -> int:
        """The number of objects in memory."""
        return len(self._runtime.catalogue)

    def find_busiest(self) -> list[fleet.BusyObject]:
        """Return the objects with the most turns, which are counted from now on for a while."""
        return self._runtime.turns.find_busiest()

    @property
    def partitions(self) -> Mapping[str, int]:
        """The number of partitions that this host owns, by type."""
        return self._partitions.count_owned()

    async def start(self) -> None:
        """Acquire the lease, join the hosts of the service, and begin to take over a share of the partitions."""
        await self.lease.acquire()
        show_host(self._partitions, self.lease)
        if self._reports_health:
            await self._answer(subjects.health(self._service), self._on_health)
        await self._answer(subjects.metrics(self._service), self._on_metrics)
        await self._description.start()
        await self._activity.start()
        self._micro = await add_service(
            self._connection,
            name=self._service,
            version=VERSION,
            description="hosts durable objects",
            metadata={"incarnation": self.lease.incarnation, "types": ",".join(self._environment.registry.types)},
        )
        for subject in self._runtime.queries:
            self._query_calls.append(await self._reception.subscribe(subject, queue=self._service))
        await self._membership.join()
        self._events.host_joined()
        housekeeping, alarms = self._runtime.housekeeping(), self._runtime.alarms
        for work in (
            self.lease.keep(),
            self._membership.follow(),
            self._membership.follow_leases(),
            self._placement.follow(),
            self._placement.run(),
            self._events.run(),
            *(self._tells.follow(type) for type in self._environment.registry.types),
            housekeeping.keep_sweeping(),
            housekeeping.keep_scanning(),
            housekeeping.keep_purging(),
            alarms.run(),
            alarms.keep_scanning(),
        ):
            self._keep_running(work)

    async def drain(self, within: float) -> None:
        """Hand over all partitions: accept nothing new, finish and commit the accepted requests, and release.

        Requests that aren't finished `within` seconds are answered with `unavailable`. Outboxes and alarms go to the
        next owners.
        """
        self._drained_until = asyncio.get_running_loop().time() + within
        self._description.draining = True
        self._runtime.alarms.stop()
        await self._membership.leave()
        await self._placement.stop()
        await self._tells.leave()
        await self._placement.drain(self._drained_until - asyncio.get_running_loop().time())
        await self._end_subscriptions()
        await self._reception.join(self._time_left())
        await self._replies.flush()
        await self.lease.release()
        self._events.host_left()
        await self._events.flush(FLUSH_WITHIN)
        await self._stop()
        with suppress(NatsError):
            await self._calls.flush(timeout=FLUSH_WITHIN)

    async def abandon(self) -> None:
        """Drop all objects and refuse all waiting requests, because the lease is lost."""
        self.lease.end()
        self._replies.refuse_all(outcome_unknown())
        self._runtime.catalogue.drop_all()
        await self._duties.close()
        await self._placement.abandon()
        await asyncio.gather(self._end_subscriptions(), self._reception.join(FLUSH_WITHIN))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._replies.flush(), FLUSH_WITHIN)
        await self._stop()

    async def _end_subscriptions(self) -> None:
        requests = (*self._query_calls, *self._calls_of.values())
        await asyncio.gather(
            *(self._calls.end(each, FLUSH_WITHIN) for each in requests),
            *(self._connection.end(each, FLUSH_WITHIN) for each in self._subscriptions),
        )

    def _keep_running(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a task for as long as the host lives. If it fails, the host gives up its lease."""
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._on_task_done)
        self._tasks.append(task)
        return task

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            log.critical("a task of the host failed, restarting the host", exc_info=task.exception())
            self.lease.end()

    async def _stop(self) -> None:
        hide_host(self._partitions)
        self._reception.close()
        await self._duties.close()
        await cancel_and_wait(self._tasks)
        await self._description.stop()
        await self._activity.stop()
        await self._tells.close()
        await self._runtime.close()
        if self._micro is not None:
            with suppress(NatsError):
                await self._micro.stop()

    async def _take(self, type: str, claimed: dict[int, str]) -> None:
        """Serve partitions that this host has claimed. The values are their last owners, or empty strings."""
        self._partitions.take(type, claimed)
        PARTITIONS_MOVED.labels(type).inc(len(claimed))
        opening = (self._reception.subscribe(subjects.owned(type, each)) for each in claimed)
        for partition, subscription in zip(claimed, await asyncio.gather(*opening), strict=True):
            self._calls_of[type, partition] = subscription
        self._runtime.alarms.scan_soon(type, claimed)
        self._environment.spawn(self._runtime.lifecycle.scan_taken(type, claimed))
        self._duties.take(type, claimed)
        self._tells.take(type, claimed)

    async def _hand_over(self, type: str, partition: int) -> None:
        """Finish and commit what this host has taken in a partition, and serve it no longer."""
        self._partitions.leave(type, [partition])
        await self._duties.drop(type, partition)
        self._tells.drop(type, partition)
        calls = self._calls_of.pop((type, partition), None)
        if calls is not None:
            await self._calls.end(calls, FLUSH_WITHIN)
        end = asyncio.get_running_loop().time() + self._time_left()
        await self._reception.join(self._time_left(), subjects.owned(type, partition)[:-1])
        await self._runtime.catalogue.settle(end - asyncio.get_running_loop().time(), (type, partition))
        self._partitions.drop(type, partition)
        await self._runtime.catalogue.give_up((type, partition))

    def decline(self, type: str, partition: int) -> None:
        """Leave a partition to a host that can read all of its states."""
        self._environment.spawn(self._membership.decline(type, partition))

    def _time_left(self) -> float:
        """Return how many seconds the handover of a partition may take."""
        return min(self._handover_timeout, self._drained_until - asyncio.get_running_loop().time())

    def _on_members(self) -> None:
        self._peers.count = len(self._membership.members)
        self._placement.place_soon()

    def _on_lost(self, incarnation: str) -> None:
        self._events.host_left(incarnation, lost=True)

    def _own_duties(self) -> Iterator[tuple[str, str, Work]]:
        for type in self._environment.registry.types:
            yield type, "announce", partial(self._keep_announcing, type)
        if dead_letters.TYPE in self._environment.registry.types:
            yield dead_letters.TYPE, "bury_strays", partial(bury_strays, self._connection, self._tells.applier)

    async def _keep_announcing(self, type: str) -> None:
        """Announce a type now and again and again, so that everyone knows that it is served."""
        description = msgspec.json.encode(self._environment.registry.types[type].description)
        while True:
            try:
                await self._announced.put(type, description)
            except (NatsError, OSError) as error:
                log.warning("announcing the type %s failed, trying again: %r", type, error)
                await asyncio.sleep(ANNOUNCE_AGAIN)
            else:
                await asyncio.sleep(ANNOUNCE_EVERY)

    async def _answer(self, subject: str, handler: Callable[[Msg], Awaitable[None]]) -> None:
        self._subscriptions.append(await answer_requests(self._connection, subject, handler))

    def _is_open(self, subject: str) -> bool:
        query = self._runtime.queries.get(subject)
        return self._runtime.router.is_open(subject) if query is None else query.allow.check(ANONYMOUS)

    def _count_items(self, message: Msg, headers: Mapping[str, str]) -> int:
        query = self._runtime.queries.get(message.subject)
        return query.count_items(message.data, headers.get(envelope.CONTENT_TYPE)) if query else 1

    async def _on_metrics(self, message: Msg) -> None:
        try:
            headers = trusted_headers(message)
            address = headers.get(envelope.CLIENT_ADDRESS, "")
            principal = await resolve_when_ready(
                self._admission.authenticate, headers.get(envelope.AUTHORIZATION), address
            )
            if principal.project or not principal.has(fleet.READ):
                raise Failure("forbidden", f"metrics need {fleet.READ}")
            answer = Reply(exposition())
        except Failure as failure:
            answer = Reply.of(failure)
        self._replies.send(message.reply, answer)

    def _find_lapse(self) -> str:
        return "" if self.lease.valid() else "the lease has lapsed"

    def _find_unsettled(self) -> str:
        return "" if self._placement.settled.is_set() else "it is taking over its share of the partitions"

    async def _on_health(self, message: Msg) -> None:
        report = self._health.report(self._service, self._replica)
        await self._connection.publish(message.reply, msgspec.json.encode(report))
