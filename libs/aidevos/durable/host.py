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
from functools import partial
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
from aidevos.contracts.objects import LIST
from aidevos.durable.admission import Admission
from aidevos.durable.bus.port import EventBus
from aidevos.durable.client import Outside
from aidevos.durable.clock import Clock
from aidevos.durable.limiter import RateLimiter
from aidevos.durable.object import LISTS, Search, View
from aidevos.durable.placement import Bucket, HostName, Lease, Placement
from aidevos.durable.registry import DurableObjectRegistry
from aidevos.durable.request import Answer, remaining
from aidevos.durable.router import DurableObjectRouter, Limits, ListArgs, check_asked
from aidevos.durable.schema import Schema
from aidevos.durable.store.port import Store, StoreError
from aidevos.durable.stray_tells import bury_strays
from aidevos.durable.tells import Tells
from aidevos.durable.turn import unexpected
from aidevos.observability import metrics
from aidevos.observability.metrics import FAILURES
from aidevos.security.delegations import Errand, is_delegation
from aidevos.security.permissions import ANONYMOUS, Principal, Rule

log = logging.getLogger(__name__)
SWEEP_EVERY = 1.0
SCAN_EVERY = 5.0
PURGE_EVERY = 600.0
HEALTH_WITHIN = 2.0
METRICS_PERMISSION = "fleet:read"
# Inboxes, and what the server puts in their place between accounts.
REPLY_PREFIXES = ("_INBOX", "_R_.")
# Inboxes of the fleet's own connections; a client's reply subject never comes through as one.
OWN_INBOX = "_INBOX_"
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
        limiter: RateLimiter | None,
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
        self._limiter = limiter
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
        self._tells = Tells(connection, self.router, admission, limiter, clock, self.lease.valid)
        holders = Bucket(connection, subjects.PLACEMENT_BUCKET)
        self._placement = Placement(holders, hosts, self.lease, list(registry.types), self._own)
        self._list_args: Schema[ListArgs] = Schema(ListArgs, "args")
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
            await self._subscribe(subjects.query(type, LIST), self._on_list, queue=self._service)
            for search in self._registry.types[type].cls.searches:
                schema: Schema[Any] = Schema(search.args, "args")
                handler = partial(self._on_search, type, search, schema)
                await self._subscribe(subjects.query(type, search.name), handler, queue=self._service)
            for view in self._registry.types[type].cls.views:
                schema = Schema(view.args, "args")
                await self._subscribe(
                    subjects.query(type, view.name), partial(self._on_view, view, schema), queue=self._service
                )
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
        headers = _believed(message)
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
            principal = self._caller(message, headers)
            if principal is None or not self._spends_now(message, principal):
                self.router.spawn(self._admit(message, headers, respond))
            else:
                self.router.dispatch(subject, message.data, headers, principal, respond)
        except Failure as failure:
            respond(Answer.of(failure))
        except Exception as error:
            respond(Answer.of(unexpected(error, subject)))

    async def _admit(self, message: Msg, headers: Mapping[str, str], respond: Callable[[Answer | None], None]) -> None:
        """Take a call whose credential has to be looked up first, or whose rate limit."""
        try:
            principal = self._caller(message, headers)
            if principal is None:
                authorization, address = headers.get(envelope.AUTHORIZATION), headers.get(envelope.CLIENT_ADDRESS, "")
                principal = await self._admission.admit(authorization, address)
            await self._spend(message, principal)
            self.router.dispatch(message.subject, message.data, headers, principal, respond)
        except Failure as failure:
            respond(Answer.of(failure))
        except Exception as error:
            respond(Answer.of(unexpected(error, message.subject)))

    def _caller(self, message: Msg, headers: Mapping[str, str]) -> Principal | None:
        """Who calls, if that can be said at once; None for an API key that has to be looked up. Raises
        `unauthenticated`."""
        authorization = headers.get(envelope.AUTHORIZATION)
        if authorization is not None and is_delegation(authorization):
            return self._delegated("do." + message.subject.split(".", 2)[2], message, headers)
        if not authorization and self.router.is_open(message.subject):
            return ANONYMOUS
        return self._admission.known(authorization, headers.get(envelope.CLIENT_ADDRESS, ""))

    async def _asker(self, message: Msg, headers: Mapping[str, str], allow: Rule) -> Principal:
        """Who asks a query, which was spent from the caller's rate limit; what a service asks for a user is not."""
        authorization = headers.get(envelope.AUTHORIZATION)
        if authorization is not None and is_delegation(authorization):
            return self._delegated(message.subject, message, headers)
        principal = ANONYMOUS
        if authorization or not allow.check(ANONYMOUS):
            principal = await self._admission.admit(authorization, headers.get(envelope.CLIENT_ADDRESS, ""))
        await self._spend(message, principal)
        return principal

    def _delegated(self, subject: str, message: Msg, headers: Mapping[str, str]) -> Principal:
        errand = Errand(subject, message.data, headers.get(envelope.REQUEST_ID, ""))
        return self._admission.delegated(headers[envelope.AUTHORIZATION], errand)

    def _spends_now(self, message: Msg, caller: Principal) -> bool:
        """Whether a request is spent from its caller's rate limit, or is none that has one: the gateway has
        seen to its own, and services have no limit. Raises `Limited`."""
        if self._limiter is None or caller.is_service or message.reply.startswith(OWN_INBOX):
            return True
        return self._limiter.spend_now(caller, "", _type_of(message.subject)) is not None

    async def _spend(self, message: Msg, caller: Principal) -> None:
        """Spend a request whose limit may have to be asked; raises `Limited`."""
        if self._limiter is not None and not self._spends_now(message, caller):
            await self._limiter.spend(caller, "", _type_of(message.subject))

    async def _on_list(self, message: Msg) -> None:
        if message.reply:
            self._taken += 1
            self.router.spawn(self._list(message))

    async def _list(self, message: Msg) -> None:
        async def page(args: ListArgs, caller: Principal) -> bytes:
            type = message.subject.split(".")[1]
            return msgspec.json.encode(await self.router.list_objects(type, args, caller))

        await self._answer_query(message, LISTS, self._list_args, page)

    async def _on_search(self, type: str, search: Search, schema: Schema[Any], message: Msg) -> None:
        async def page(args: Any, caller: Principal) -> bytes:
            return msgspec.json.encode(await self.router.search(type, search, args, caller))

        if message.reply:
            self._taken += 1
            self.router.spawn(self._answer_query(message, search.allow, schema, page))

    async def _on_view(self, view: View, schema: Schema[Any], message: Msg) -> None:
        async def answer(args: Any, caller: Principal) -> bytes:
            return await self.router.answer_view(view, args, caller)

        if message.reply:
            self._taken += 1
            self.router.spawn(self._answer_query(message, view.allow, schema, answer))

    async def _answer_query(
        self, message: Msg, allow: Rule, schema: Schema[Any], answer_to: Callable[[Any, Principal], Awaitable[bytes]]
    ) -> None:
        headers = _believed(message)
        try:
            if self._taken > self.router.limits.pending:
                raise Failure("overloaded", "this process has too many requests waiting", retry_after=1.0)
            remaining(headers, self.router.limits.default_deadline, self.router.limits.max_deadline)
            principal = await self._asker(message, headers, allow)
            _, type, name = message.subject.split(".")
            check_asked(principal, self._registry.types[type], name, allow)
            args = schema.decode(message.data or b"{}", headers.get(envelope.CONTENT_TYPE))
            answer = Answer(await answer_to(args, principal))
        except Failure as failure:
            answer = Answer.of(failure)
        except Exception as error:
            answer = Answer.of(unexpected(error, message.subject))
        self._taken -= 1
        self._send(message.reply, answer)

    async def _on_metrics(self, message: Msg) -> None:
        try:
            headers = _believed(message)
            address = headers.get(envelope.CLIENT_ADDRESS, "")
            principal = await self._admission.admit(headers.get(envelope.AUTHORIZATION), address)
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


def _type_of(subject: str) -> str:
    """The type in `dop.<partition>.<type>.…` or `query.<type>.<name>`."""
    parts = subject.split(".", 3)
    return parts[1] if parts[0] == "query" else parts[2]


def _believed(message: Msg) -> dict[str, str]:
    """The headers of a request; only the fleet's own connections are believed to know a client's address."""
    headers: dict[str, str] = message.headers or {}
    if not message.reply.startswith(OWN_INBOX):
        headers.pop(envelope.CLIENT_ADDRESS, None)
    return headers


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
