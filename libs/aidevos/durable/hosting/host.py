"""A host: one incarnation of a process that serves types of objects over NATS.

Promises: every request that was taken is answered, or the host has lost its lease and says nothing.
A plain publish, without a reply subject, is executed at most once; its errors are logged and
counted. A drain ends what was taken, commits it, and only then lets others own the types.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.micro import add_service
from nats.micro.service import Service

from aidevos.contracts import dead_letters, envelope, subjects
from aidevos.contracts.errors import Failure
from aidevos.durable.access.admission import Admission
from aidevos.durable.access.authenticator import CallAuthenticator, trusted_headers
from aidevos.durable.access.limiter import RateLimiter
from aidevos.durable.access.resolving import NotReady, resolve_when_ready
from aidevos.durable.base.clock import Clock
from aidevos.durable.base.tasks import cancel_and_wait
from aidevos.durable.bus.port import EventBus
from aidevos.durable.client.bucket import Bucket
from aidevos.durable.client.client import ObjectCaller
from aidevos.durable.delivery.stray_tells import bury_strays
from aidevos.durable.delivery.tells import Tells
from aidevos.durable.hosting.host_name import HostName
from aidevos.durable.hosting.lease import Lease
from aidevos.durable.hosting.placement import Placement
from aidevos.durable.hosting.queries import stored_queries
from aidevos.durable.hosting.runtime import Runtime
from aidevos.durable.objects.registry import DurableObjectRegistry
from aidevos.durable.store.port import Store, StoreError
from aidevos.durable.turns.environment import Limits
from aidevos.durable.turns.failures import unexpected
from aidevos.durable.turns.gate import Gate
from aidevos.durable.turns.headers import Reply, remaining
from aidevos.observability import metrics
from aidevos.observability.metrics import FAILURES
from aidevos.security.permissions import ANONYMOUS, Principal

log = logging.getLogger(__name__)
SWEEP_EVERY = 1.0
SCAN_EVERY = 5.0
PURGE_EVERY = 600.0
HEALTH_WITHIN = 2.0
METRICS_PERMISSION = "fleet:read"
# Inboxes, and what the server puts in their place between accounts.
REPLY_PREFIXES = ("_INBOX", "_R_.")
FLUSH_WITHIN = 2
# What the headers of an answer may take of the largest payload.
HEADERS = 16 * 1024
PENDING_BYTES = 256 * 1024 * 1024
VERSION = version("aidevos")


class Host:
    """Serves the registry's types until `lost` or `drain`."""

    def __init__(
        self,
        registry: DurableObjectRegistry,
        store: Store,
        bus: EventBus,
        client: ObjectCaller,
        connection: Client,
        admission: Admission,
        limiter: RateLimiter,
        clock: Clock,
        gate: Gate,
        *,
        service: str,
        name: HostName,
        limits: Limits,
        lease_ttl: float = 3.0,
        principal: Principal,
        trouble: Callable[[], str] = lambda: "",
        reports_health: bool = True,
    ) -> None:
        self._registry = registry
        self._store = store
        self._connection = connection
        self._admission = admission
        self._clock = clock
        self._service = service
        self._name = name
        self._trouble = trouble
        self._reports_health = reports_health
        hosts = Bucket(connection, subjects.HOSTS_BUCKET)
        self._types = Bucket(connection, subjects.TYPES_BUCKET)
        self.lease = Lease(hosts, name.name, clock, lease_ttl)
        self._runtime = Runtime(
            registry,
            store,
            bus,
            client,
            clock,
            gate,
            incarnation=self.lease.incarnation,
            principal=principal,
            may_answer=self.lease.valid,
            limits=limits._replace(answer=min(limits.answer, connection.max_payload - HEADERS)),
        )
        self._environment = self._runtime.environment
        self._catalogue = self._runtime.catalogue
        self._lifecycle = self._runtime.lifecycle
        self._alarms = self._runtime.alarms
        self._router = self._runtime.router
        self._queries = stored_queries(self._environment, self._catalogue, gate)
        self._authenticator = CallAuthenticator(admission, limiter, self._is_open)
        self._tells = Tells(connection, self._environment, self._router, admission, limiter)
        holders = Bucket(connection, subjects.PLACEMENT_BUCKET)
        self._placement = Placement(holders, hosts, self.lease, list(registry.types), self._own)
        self._micro: Service | None = None
        self._subscriptions: list[Subscription] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._replies: deque[tuple[str, Reply]] = deque()
        self._has_replies = asyncio.Event()
        self._sent = asyncio.Event()
        self._sent.set()
        self._owned: set[str] = set()
        self._taken = 0
        self._taken_bytes = 0

    async def start(self) -> None:
        """Take a lease, and own the types that are free; others follow later."""
        await self.lease.acquire()
        if self._reports_health:
            await self._subscribe(subjects.health(self._service), self._on_health)
        await self._subscribe(subjects.metrics(self._service), self._on_metrics)
        self._micro = await add_service(
            self._connection,
            name=self._service,
            version=VERSION,
            description="hosts durable objects",
            metadata={"incarnation": self.lease.incarnation, "types": ",".join(self._registry.types)},
        )
        for work in (self._placement.run(), self.lease.keep(), self._write(), self._housekeeping()):
            self._run(work)
        self._run(self._alarms.run())
        self._run(self._alarms.watch(lambda: tuple(self._owned)))

    async def drain(self, within: float) -> None:
        """Take nothing new, finish and commit what was taken, and release the types. What can't be
        finished `within` seconds is answered with `unavailable`; outboxes and alarms go to the next owner."""
        self._alarms.stop()
        await self._placement.stop()
        await self._tells.leave()
        await asyncio.gather(*(_drain(subscription) for subscription in self._subscriptions))
        await self._catalogue.settle(within)
        await self._catalogue.give_up()
        await self._sent.wait()
        await self._placement.release()
        await self.lease.release()
        await self._stop()
        with suppress(NatsError):
            await self._connection.flush(timeout=FLUSH_WITHIN)

    async def abandon(self) -> None:
        """The lease is lost: drop everything, answer nothing."""
        await self._placement.stop()
        self._catalogue.drop_all()
        self._replies.clear()
        for subscription in self._subscriptions:
            try:
                await subscription.unsubscribe()
            except NatsError:
                log.warning("unsubscribing failed", exc_info=True)
        await self._stop()

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something for as long as the host lives; if it fails, the host gives up its lease."""
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            log.critical("a part of the host has failed, it starts anew", exc_info=task.exception())
            self.lease.suspend()
            self.lease.lost.set()

    async def _stop(self) -> None:
        await cancel_and_wait(self._tasks)
        await self._tells.close()
        await self._runtime.close()
        if self._micro is not None:
            with suppress(NatsError):
                await self._micro.stop()

    async def _own(self, type: str) -> None:
        """Announce a type and serve it. Called again if it has failed half-way."""
        await self._types.put(type, msgspec.json.encode(self._registry.types[type].description))
        if type not in self._owned:
            for subject, query in self._queries.items():
                if query.type.name == type:
                    await self._subscribe(subject, self._on_query, queue=self._service)
            await self._subscribe(subjects.owned(type), self._on_call)
            self._owned.add(type)
            self._alarms.scan_soon()
            self._run(self._tells.follow(type))
            if type == dead_letters.TYPE:
                self._run(bury_strays(self._connection, self._environment.client))
        await self._connection.flush()

    async def _subscribe(self, subject: str, handler: Callable[[Msg], Awaitable[None]], queue: str = "") -> None:
        async def guarded(message: Msg) -> None:
            # The server lets a host publish to any reply subject: it must not publish an event or a key.
            if message.reply and not message.reply.startswith(REPLY_PREFIXES):
                FAILURES.labels("nats", "bad-request").inc()
                log.warning("refused a request on %s whose reply subject is no inbox", message.subject)
            else:
                await handler(message)

        subscription = await self._connection.subscribe(
            subject, queue=queue, cb=guarded, pending_msgs_limit=-1, pending_bytes_limit=-1
        )
        self._subscriptions.append(subscription)

    async def _on_call(self, message: Msg) -> None:
        if not self.lease.valid():
            return
        headers = trusted_headers(message)
        self._taken += 1
        subject, reply_to, size = message.subject, message.reply, len(message.data)
        self._taken_bytes += size

        def respond(answer: Reply | None) -> None:
            self._taken -= 1
            self._taken_bytes -= size
            if answer is None:
                return
            if answer.failed:
                _count_failure(subject, answer, answered=bool(reply_to))
            if reply_to:
                self._send(reply_to, answer)

        limits = self._environment.limits
        if self._taken > limits.pending or self._taken_bytes > PENDING_BYTES:
            respond(Reply.of(Failure("overloaded", "this process has too many requests waiting", retry_after=1.0)))
        else:
            self._dispatch(message, headers, respond)

    def _dispatch(self, message: Msg, headers: Mapping[str, str], respond: Callable[[Reply | None], None]) -> None:
        """Pass a call on to its object. One whose caller or rate limit has to be looked up first comes here again
        once that has ended."""
        try:
            caller = self._authenticator.admit(message, headers)
            self._router.dispatch(message.subject, message.data, headers, caller, respond)
        except NotReady as not_ready:
            self._environment.spawn(self._dispatch_after(not_ready.lookup, message, headers, respond))
        except Exception as error:
            respond(_refusal(error, message.subject))

    async def _dispatch_after(
        self,
        lookup: asyncio.Future[None],
        message: Msg,
        headers: Mapping[str, str],
        respond: Callable[[Reply | None], None],
    ) -> None:
        try:
            await asyncio.shield(lookup)
        except Exception as error:
            respond(_refusal(error, message.subject))
        else:
            self._dispatch(message, headers, respond)

    def _is_open(self, subject: str) -> bool:
        query = self._queries.get(subject)
        return self._router.is_open(subject) if query is None else query.allow.check(ANONYMOUS)

    async def _on_query(self, message: Msg) -> None:
        if message.reply:
            self._taken += 1
            self._environment.spawn(self._answer_query(message))

    async def _answer_query(self, message: Msg) -> None:
        headers, query = trusted_headers(message), self._queries[message.subject]
        try:
            if self._taken > self._environment.limits.pending:
                raise Failure("overloaded", "this process has too many requests waiting", retry_after=1.0)
            remaining(headers, self._environment.limits.default_deadline, self._environment.limits.max_deadline)
            caller = await resolve_when_ready(self._authenticator.admit, message, headers)
            answer = Reply(await query.run(message.data, headers.get(envelope.CONTENT_TYPE), caller))
        except Exception as error:
            answer = _refusal(error, message.subject)
        self._taken -= 1
        self._send(message.reply, answer)

    async def _on_metrics(self, message: Msg) -> None:
        try:
            headers = trusted_headers(message)
            address = headers.get(envelope.CLIENT_ADDRESS, "")
            principal = await resolve_when_ready(
                self._admission.authenticate, headers.get(envelope.AUTHORIZATION), address
            )
            if principal.project or not principal.has(METRICS_PERMISSION):
                raise Failure("forbidden", f"metrics need {METRICS_PERMISSION}")
            answer = Reply(metrics.exposition())
        except Failure as failure:
            answer = Reply.of(failure)
        self._send(message.reply, answer)

    async def _on_health(self, message: Msg) -> None:
        self._environment.spawn(self._answer_health(message.reply))

    async def _answer_health(self, reply_to: str) -> None:
        detail = self._trouble()
        try:
            await asyncio.wait_for(self._store.ping(), HEALTH_WITHIN)
        except (StoreError, TimeoutError) as error:
            detail = f"the store doesn't answer: {error}"
        if not self.lease.valid():
            detail = "the lease has lapsed"
        document = {"name": self._service, "replica": self._name.replica, "ok": not detail, "detail": detail}
        await self._connection.publish(reply_to, msgspec.json.encode(document))

    def _send(self, reply_to: str, answer: Reply) -> None:
        self._replies.append((reply_to, answer))
        self._has_replies.set()
        self._sent.clear()

    async def _write(self) -> None:
        """Send the answers, in the order in which they were given."""
        while True:
            await self._has_replies.wait()
            self._has_replies.clear()
            while self._replies:
                reply_to, answer = self._replies.popleft()
                try:
                    await self._connection.publish(reply_to, answer.payload, headers=_reply_headers(answer))
                except MaxPayloadError:
                    self._send(reply_to, Reply.of(Failure("internal", "the answer is larger than NATS takes")))
                except NatsError as error:
                    log.warning("an answer could not be sent: %s", error)
            self._sent.set()

    async def _housekeeping(self) -> None:
        loop = asyncio.get_running_loop()
        scanned, purged = 0.0, loop.time()
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            try:
                self._lifecycle.sweep()
                if loop.time() - scanned > SCAN_EVERY and self._owned:
                    await self._lifecycle.scan(tuple(self._owned))
                    scanned = loop.time()
                if loop.time() - purged > PURGE_EVERY:
                    await self._purge()
                    purged = loop.time()
            except StoreError as error:
                log.warning("housekeeping failed, trying again: %s", error)

    async def _purge(self) -> None:
        bounds = self._environment.limits.records
        age = max(bounds.age, bounds.tell_age)
        before = datetime.fromtimestamp(self._clock.now(), UTC) - timedelta(seconds=age)
        for type in tuple(self._owned):
            await self._store.purge(type, before)


def _refusal(error: Exception, subject: str) -> Reply:
    return Reply.of(error if isinstance(error, Failure) else unexpected(error, subject))


async def _drain(subscription: Subscription) -> None:
    try:
        await asyncio.wait_for(subscription.drain(), FLUSH_WITHIN)  # type: ignore[no-untyped-call]
    except (NatsError, TimeoutError) as error:
        log.warning("draining a subscription failed: %s", error)


def _reply_headers(answer: Reply) -> dict[str, str] | None:
    if not answer.failed:
        return None
    problem = Failure.decode(answer.payload)
    text = f"{problem.code}: {problem.detail}".encode("ascii", "replace").decode()[:512]
    return {
        envelope.ERROR_CODE: str(problem.status),
        envelope.ERROR: text.replace("\r", " ").replace("\n", " "),
        envelope.CONTENT_TYPE: "application/problem+json",
    }


def _count_failure(subject: str, answer: Reply, *, answered: bool) -> None:
    failure = Failure.decode(answer.payload)
    FAILURES.labels("nats", failure.code).inc()
    if not answered:
        log.warning("a request without a reply failed on %s: %s: %s", subject, failure.code, failure.detail)
