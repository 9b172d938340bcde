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
from aidevos.durable.access.authenticator import Door, believed
from aidevos.durable.access.limiter import RateLimiter
from aidevos.durable.access.resolving import NotYet, when_known
from aidevos.durable.base.clock import Clock
from aidevos.durable.bus.port import EventBus
from aidevos.durable.client.client import Outside
from aidevos.durable.delivery.stray_tells import bury_strays
from aidevos.durable.delivery.tells import Tells
from aidevos.durable.hosting.placement import Bucket, HostName, Lease, Placement
from aidevos.durable.hosting.queries import questions
from aidevos.durable.objects.registry import DurableObjectRegistry
from aidevos.durable.ownership.router import DurableObjectRouter, Limits
from aidevos.durable.store.port import Store, StoreError
from aidevos.durable.turns.request import Answer, remaining
from aidevos.durable.turns.turn import unexpected
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
        outside: Outside,
        connection: Client,
        admission: Admission,
        limiter: RateLimiter,
        clock: Clock,
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
        self.router = DurableObjectRouter(
            registry,
            store,
            bus,
            outside,
            clock,
            incarnation=self.lease.incarnation,
            principal=principal,
            lease_valid=self.lease.valid,
            limits=limits._replace(answer=min(limits.answer, connection.max_payload - HEADERS)),
        )
        self._questions = questions(self.router)
        self._door = Door(admission, limiter, self._is_open)
        self._tells = Tells(connection, self.router, admission, limiter, clock, self.lease.valid)
        holders = Bucket(connection, subjects.PLACEMENT_BUCKET)
        self._placement = Placement(holders, hosts, self.lease, list(registry.types), self._own)
        self._micro: Service | None = None
        self._subscriptions: list[Subscription] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._replies: deque[tuple[str, Answer]] = deque()
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
        self._run(self.router.alarms.run())
        self._run(self.router.alarms.watch(lambda: tuple(self._owned)))

    async def drain(self, within: float) -> None:
        """Take nothing new, finish and commit what was taken, and release the types. What can't be
        finished `within` seconds is answered with `unavailable`; outboxes and alarms go to the next owner."""
        self.router.alarms.stop()
        await self._placement.stop()
        await self._tells.leave()
        await asyncio.gather(*(_drain(subscription) for subscription in self._subscriptions))
        await self.router.settle(within)
        await self.router.give_up()
        await self._sent.wait()
        await self._placement.release()
        await self.lease.release()
        await self._stop()
        with suppress(NatsError):
            await self._connection.flush(timeout=FLUSH_WITHIN)

    async def abandon(self) -> None:
        """The lease is lost: drop everything, answer nothing."""
        await self._placement.stop()
        self.router.drop_all()
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
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._tells.close()
        await self.router.close()
        if self._micro is not None:
            with suppress(NatsError):
                await self._micro.stop()

    async def _own(self, type: str) -> None:
        """Announce a type and serve it. Called again if it has failed half-way."""
        await self._types.put(type, msgspec.json.encode(self._registry.types[type].description))
        if type not in self._owned:
            for subject, question in self._questions.items():
                if question.type.name == type:
                    await self._subscribe(subject, self._on_query, queue=self._service)
            await self._subscribe(subjects.owned(type), self._on_call)
            self._owned.add(type)
            self.router.alarms.scan_soon()
            self._run(self._tells.follow(type))
            if type == dead_letters.TYPE:
                self._run(bury_strays(self._connection, self.router.outside))
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
        headers = believed(message)
        self._taken += 1
        subject, reply_to, size = message.subject, message.reply, len(message.data)
        self._taken_bytes += size

        def respond(answer: Answer | None) -> None:
            self._taken -= 1
            self._taken_bytes -= size
            if answer is None:
                return
            if answer.failed:
                _count_failure(subject, answer, answered=bool(reply_to))
            if reply_to:
                self._send(reply_to, answer)

        try:
            if self._taken > self.router.limits.pending or self._taken_bytes > PENDING_BYTES:
                raise Failure("overloaded", "this process has too many requests waiting", retry_after=1.0)
            caller = self._door.admit(message, headers)
            self.router.dispatch(subject, message.data, headers, caller, respond)
        except NotYet:
            self.router.spawn(self._dispatch_later(message, headers, respond))
        except Exception as error:
            respond(_refusal(error, subject))

    async def _dispatch_later(
        self, message: Msg, headers: Mapping[str, str], respond: Callable[[Answer | None], None]
    ) -> None:
        """Pass on a call whose credential has to be looked up first, or whose rate limit."""
        try:
            caller = await when_known(self._door.admit, message, headers)
            self.router.dispatch(message.subject, message.data, headers, caller, respond)
        except Exception as error:
            respond(_refusal(error, message.subject))

    def _is_open(self, subject: str) -> bool:
        question = self._questions.get(subject)
        return self.router.is_open(subject) if question is None else question.allow.check(ANONYMOUS)

    async def _on_query(self, message: Msg) -> None:
        if message.reply:
            self._taken += 1
            self.router.spawn(self._answer_query(message))

    async def _answer_query(self, message: Msg) -> None:
        headers, question = believed(message), self._questions[message.subject]
        try:
            if self._taken > self.router.limits.pending:
                raise Failure("overloaded", "this process has too many requests waiting", retry_after=1.0)
            remaining(headers, self.router.limits.default_deadline, self.router.limits.max_deadline)
            caller = await when_known(self._door.admit, message, headers)
            answer = Answer(await question.ask(message.data, headers.get(envelope.CONTENT_TYPE), caller))
        except Exception as error:
            answer = _refusal(error, message.subject)
        self._taken -= 1
        self._send(message.reply, answer)

    async def _on_metrics(self, message: Msg) -> None:
        try:
            headers = believed(message)
            address = headers.get(envelope.CLIENT_ADDRESS, "")
            principal = await when_known(self._admission.caller, headers.get(envelope.AUTHORIZATION), address)
            if principal.project or not principal.has(METRICS_PERMISSION):
                raise Failure("forbidden", f"metrics need {METRICS_PERMISSION}")
            answer = Answer(metrics.exposition())
        except Failure as failure:
            answer = Answer.of(failure)
        self._send(message.reply, answer)

    async def _on_health(self, message: Msg) -> None:
        self.router.spawn(self._answer_health(message.reply))

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

    def _send(self, reply_to: str, answer: Answer) -> None:
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
                    self._send(reply_to, Answer.of(Failure("internal", "the answer is larger than NATS takes")))
                except NatsError as error:
                    log.warning("an answer could not be sent: %s", error)
            self._sent.set()

    async def _housekeeping(self) -> None:
        loop = asyncio.get_running_loop()
        scanned, purged = 0.0, loop.time()
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            try:
                self.router.sweep()
                if loop.time() - scanned > SCAN_EVERY and self._owned:
                    await self.router.scan(tuple(self._owned))
                    scanned = loop.time()
                if loop.time() - purged > PURGE_EVERY:
                    await self._purge()
                    purged = loop.time()
            except StoreError as error:
                log.warning("housekeeping failed, trying again: %s", error)

    async def _purge(self) -> None:
        bounds = self.router.limits.records
        age = max(bounds.age, bounds.tell_age)
        before = datetime.fromtimestamp(self._clock.now(), UTC) - timedelta(seconds=age)
        for type in tuple(self._owned):
            await self._store.purge(type, before)


def _refusal(error: Exception, subject: str) -> Answer:
    return Answer.of(error if isinstance(error, Failure) else unexpected(error, subject))


async def _drain(subscription: Subscription) -> None:
    try:
        await asyncio.wait_for(subscription.drain(), FLUSH_WITHIN)  # type: ignore[no-untyped-call]
    except (NatsError, TimeoutError) as error:
        log.warning("draining a subscription failed: %s", error)


def _reply_headers(answer: Answer) -> dict[str, str] | None:
    if not answer.failed:
        return None
    problem = Failure.decode(answer.payload)
    text = f"{problem.code}: {problem.detail}".encode("ascii", "replace").decode()[:512]
    return {
        envelope.ERROR_CODE: str(problem.status),
        envelope.ERROR: text.replace("\r", " ").replace("\n", " "),
        envelope.CONTENT_TYPE: "application/problem+json",
    }


def _count_failure(subject: str, answer: Answer, *, answered: bool) -> None:
    failure = Failure.decode(answer.payload)
    FAILURES.labels("nats", failure.code).inc()
    if not answered:
        log.warning("a request without a reply failed on %s: %s: %s", subject, failure.code, failure.detail)
