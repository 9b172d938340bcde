"""A host: one incarnation of a process that serves object types over NATS.

Promises: every request is answered, with `moved` while the host doesn't hold its lease. A plain publish without a
reply subject is executed at most once, and its errors are logged and counted. A drain finishes and commits the
accepted requests before it releases the types to other hosts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from importlib.metadata import version
from typing import Any

import msgspec
from nats.aio.client import Client
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
from aidevos.durable.hosting.host_description import HostDescription
from aidevos.durable.hosting.lease import Lease
from aidevos.durable.hosting.peers import Peers
from aidevos.durable.hosting.placement import Placement
from aidevos.durable.hosting.reception import Reception, is_inbox
from aidevos.durable.hosting.replies import ReplySender
from aidevos.durable.hosting.runtime import Runtime
from aidevos.durable.store.port import StoreError
from aidevos.durable.turns.failures import outcome_unknown
from aidevos.durable.turns.headers import Reply
from aidevos.observability import metrics
from aidevos.security.permissions import ANONYMOUS

log = logging.getLogger(__name__)
HEALTH_WITHIN = 2.0
FLUSH_WITHIN = 2
VERSION = version("aidevos")


class Host:
    """Serves the types of a runtime until its lease is lost or it is drained.

    Requests come over `calls`, and everything else over `connection`, so that health probes don't wait behind
    requests. `find_problem` returns the reason why the service isn't healthy, or an empty string. With
    `reports_health`, the host answers for the health of its service.
    """

    def __init__(
        self,
        runtime: Runtime,
        lease: Lease,
        connection: Client,
        calls: Connection,
        admission: Admission,
        limiter: RateLimiter,
        *,
        service: str,
        replica: int,
        peers: Peers,
        find_problem: Callable[[], str] = lambda: "",
        reports_health: bool = True,
    ) -> None:
        self.lease = lease
        self._runtime = runtime
        self._environment = runtime.environment
        self._connection = connection
        self._calls = calls
        self._admission = admission
        self._service = service
        self._replica = replica
        self._find_problem = find_problem
        self._reports_health = reports_health
        self._types = Bucket(connection, subjects.TYPES_BUCKET)
        hosts, holders = Bucket(connection, subjects.HOSTS_BUCKET), Bucket(connection, subjects.PLACEMENT_BUCKET)
        self._placement = Placement(holders, hosts, lease, list(self._environment.registry.types), self._own)
        self._tells = Tells(connection, runtime.environment, runtime.router, admission, limiter, peers.share)
        self._replies = ReplySender(calls)
        authenticator = CallAuthenticator(admission, limiter, self._is_open, self._count_items)
        self._reception = Reception(runtime, lease, calls, authenticator, self._replies)
        self._micro: Service | None = None
        self._subscriptions: list[Subscription] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._owned: set[str] = set()
        self._activity = Activity(
            connection,
            runtime.catalogue,
            service=service,
            incarnation=lease.incarnation,
            owner_of=lambda type, id: lease.incarnation,
        )
        runtime.find_active = self._activity.find_active
        self._description = HostDescription(
            connection,
            runtime.catalogue,
            service=service,
            replica=replica,
            incarnation=lease.incarnation,
            version=VERSION,
            since=runtime.environment.clock.now(),
            partitions=lambda: dict.fromkeys(self._owned, range(subjects.PARTITIONS)),
            find_problem=self._find_own_problem,
        )

    @property
    def objects(self) -> int:
        """The number of objects in memory."""
        return len(self._runtime.catalogue)

    async def start(self) -> None:
        """Acquire the lease, and start to take over the types as they become free."""
        await self.lease.acquire()
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
        for work in (self._placement.run(), self.lease.keep(), self._replies.run()):
            self._keep_running(work)
        housekeeping = self._runtime.housekeeping(lambda: tuple(self._owned))
        for work in (housekeeping.keep_sweeping(), housekeeping.keep_scanning(), housekeeping.keep_purging()):
            self._keep_running(work)
        self._keep_running(self._keep_announcing())
        self._keep_running(self._runtime.alarms.run())
        self._keep_running(self._runtime.alarms.keep_scanning(lambda: tuple(self._owned)))

    async def drain(self, within: float) -> None:
        """Accept nothing new, finish and commit the accepted requests, and release the types.

        Requests that aren't finished `within` seconds are answered with `unavailable`. Outboxes and alarms go to the
        next owner.
        """
        self._description.draining = True
        self._runtime.alarms.stop()
        await self._placement.stop()
        await self._tells.leave()
        await asyncio.gather(*(_drain(subscription) for subscription in self._subscriptions))
        end = asyncio.get_running_loop().time() + within
        await self._reception.join(within)
        await self._runtime.catalogue.settle(end - asyncio.get_running_loop().time())
        await self._runtime.catalogue.give_up()
        await self._replies.flush()
        await self._placement.release()
        await self.lease.release()
        await self._stop()
        with suppress(NatsError):
            await self._calls.flush(timeout=FLUSH_WITHIN)

    async def abandon(self) -> None:
        """Drop all objects and refuse all waiting requests, because the lease is lost."""
        self.lease.end()
        await self._placement.stop()
        self._replies.refuse_all(outcome_unknown())
        self._runtime.catalogue.drop_all()
        await asyncio.gather(*(_drain(subscription) for subscription in self._subscriptions))
        await self._reception.join(FLUSH_WITHIN)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._replies.flush(), FLUSH_WITHIN)
        await self._stop()

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
        await cancel_and_wait(self._tasks)
        await self._description.stop()
        await self._activity.stop()
        await self._tells.close()
        await self._runtime.close()
        if self._micro is not None:
            with suppress(NatsError):
                await self._micro.stop()

    async def _own(self, type: str) -> None:
        """Announce a type and serve it. A call that failed half-way can be repeated."""
        await self._announce(type)
        if type not in self._owned:
            for subject, query in self._runtime.queries.items():
                if query.type.name == type:
                    self._subscriptions.append(await self._reception.subscribe(subject, queue=self._service))
            self._subscriptions.append(await self._reception.subscribe(subjects.owned(type)))
            self._owned.add(type)
            self._runtime.alarms.scan_soon()
            self._keep_running(self._tells.follow(type))
            if type == dead_letters.TYPE:
                self._keep_running(bury_strays(self._connection, self._tells))
        await self._calls.flush()

    async def _announce(self, type: str) -> None:
        await self._types.put(type, msgspec.json.encode(self._environment.registry.types[type].description))

    async def _keep_announcing(self) -> None:
        """Announce the types of this host again and again, so that everyone knows that they are served."""
        while True:
            await asyncio.sleep(ANNOUNCE_EVERY)
            for type in tuple(self._owned):
                try:
                    await self._announce(type)
                except (NatsError, OSError) as error:
                    log.warning("announcing the type %s failed, trying again: %r", type, error)

    async def _answer(self, subject: str, handler: Callable[[Msg], Awaitable[None]]) -> None:
        async def guarded(message: Msg) -> None:
            if is_inbox(message.reply.encode()):
                await handler(message)
            else:
                log.warning("refused a request on %s whose reply subject is not an inbox", message.subject)

        self._subscriptions.append(await self._connection.subscribe(subject, cb=guarded))

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
            answer = Reply(metrics.exposition())
        except Failure as failure:
            answer = Reply.of(failure)
        self._replies.send(message.reply, answer)

    def _find_own_problem(self) -> str:
        return self._find_problem() if self.lease.valid() else "the lease has lapsed"

    async def _on_health(self, message: Msg) -> None:
        self._environment.spawn(self._answer_health(message.reply))

    async def _answer_health(self, reply_to: str) -> None:
        problem = ""
        try:
            await asyncio.wait_for(self._environment.store.ping(), HEALTH_WITHIN)
        except (StoreError, TimeoutError) as error:
            problem = f"the store failed: {error}"
        detail = problem or self._find_own_problem()
        document = {"name": self._service, "replica": self._replica, "ok": not detail, "detail": detail}
        await self._connection.publish(reply_to, msgspec.json.encode(document))


async def _drain(subscription: Subscription) -> None:
    try:
        await asyncio.wait_for(subscription.drain(), FLUSH_WITHIN)  # type: ignore[no-untyped-call]
    except (NatsError, TimeoutError) as error:
        log.warning("draining a subscription failed: %s", error)
