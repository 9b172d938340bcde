"""The reception of a host, which takes its requests from NATS and returns their answers.

Promise: every request with a reply subject is answered: by its object, with `moved` while the host doesn't hold its
lease, or with `overloaded` and a time for the next attempt past a bound on number, size or waiting time.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from aidevos.contracts import envelope
from aidevos.contracts.errors import Failure
from aidevos.durable.access.authenticator import CallAuthenticator, trusted_headers
from aidevos.durable.access.resolving import NotReady, resolve_when_ready
from aidevos.durable.base.fair_share import waits_until
from aidevos.durable.client.client import describe_call
from aidevos.durable.client.connection import Connection, encode_message, is_inbox
from aidevos.durable.hosting.fair_queue import Arrival
from aidevos.durable.hosting.intake import Intake
from aidevos.durable.hosting.lease import Lease
from aidevos.durable.hosting.replies import ReplySender, problem_headers
from aidevos.durable.hosting.runtime import Runtime
from aidevos.durable.turns.failures import log_unexpected, moved
from aidevos.durable.turns.headers import Reply, parse_deadline
from aidevos.observability import tracing
from aidevos.observability.metrics import FAILURES, REFUSED_REQUESTS

log = logging.getLogger(__name__)
PENDING_BYTES = 256 * 1024 * 1024
# Objects that may wait for a commit before the next requests are dispatched, and the longest pause for that. If the
# store stands still, requests that need no commit are answered nevertheless.
COMMITS_WAITING = 250
LONGEST_PAUSE = 0.25
LONGEST_RETRY = 30
_OVERLOADED = FAILURES.labels("nats", "overloaded")
_REFUSED = REFUSED_REQUESTS.labels("host")


class Reception:
    """Receives the requests of one host over its own connection, and sends their answers through `replies`."""

    def __init__(
        self,
        runtime: Runtime,
        lease: Lease,
        connection: Connection,
        authenticator: CallAuthenticator,
        replies: ReplySender,
    ) -> None:
        self._runtime = runtime
        self._environment = runtime.environment
        self._limits = runtime.environment.limits
        self._lease = lease
        self._connection = connection
        self._authenticator = authenticator
        self._replies = replies
        self._loop = asyncio.get_running_loop()
        self._intake = Intake(
            self._begin,
            self._refuse,
            self._is_congested,
            room=self._limits.pending,
            room_bytes=PENDING_BYTES,
            default_deadline=self._limits.default_deadline,
        )
        self._congested_since = math.inf

    async def subscribe(self, subject: str, queue: str = "") -> Subscription:
        """Take the calls or queries on a subject."""
        return await self._connection.hand_over(subject, queue, self._receive)

    async def join(self, within: float, subjects: str = "") -> None:
        """Return when no request on these subjects waits to be dispatched, or after `within` seconds.

        `subjects` is how they begin.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self._intake.join(subjects.encode()), within)

    def close(self) -> None:
        self._intake.close()

    def _receive(self, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        if reply and not is_inbox(reply):
            FAILURES.labels("nats", "bad-request").inc()
            log.warning("refused a request on %s whose reply subject is not an inbox", subject.decode(errors="replace"))
            return
        self._intake.receive(subject, reply, data, headers)

    def _refuse(self, reply: bytes, wait: float) -> None:
        _OVERLOADED.inc()
        _REFUSED.inc()
        if reply:
            # Without a connection, the caller gets nothing and repeats the request.
            with suppress(NatsError):
                self._connection.post(reply, _overloaded(min(max(math.ceil(wait), 1), LONGEST_RETRY)))
        else:
            log.warning("a request without a reply subject was refused: too many requests wait in this process")

    def _is_congested(self) -> bool:
        now = self._loop.time()
        if self._runtime.commits_waiting <= COMMITS_WAITING:
            self._congested_since = math.inf
            return False
        self._congested_since = min(self._congested_since, now)
        return now - self._congested_since < LONGEST_PAUSE

    def _begin(self, item: Arrival) -> None:
        message = self._connection.open_message(item.subject, item.reply, item.data, item.headers)
        headers = trusted_headers(message)
        if envelope.DEADLINE in headers and (waited := self._loop.time() - item.arrived) > 0.001:
            headers[envelope.DEADLINE] = _shorten(headers[envelope.DEADLINE], waited)
        query = message.subject.startswith("query.")

        def respond(answer: Reply) -> None:
            self._intake.settle(item)
            if answer.failed and not query:
                _count_failure(message.subject, answer, answered=bool(message.reply))
            if message.reply:
                self._replies.send(message.reply, answer)

        if query and not message.reply:
            self._intake.settle(item)
        elif query:
            self._environment.spawn(self._answer_query(message, headers, respond))
        elif not self._lease.valid():
            respond(Reply.of(moved()))
        else:
            self._dispatch(message, headers, item.arrived, respond)

    def _dispatch(
        self, message: Msg, headers: Mapping[str, str], arrived: float, respond: Callable[[Reply], None]
    ) -> None:
        """Pass a call to its object. If its caller or rate limit must be looked up first, do so and try again."""
        try:
            caller = self._authenticator.admit(message, headers)
            waited = self._loop.time() - arrived
            self._runtime.router.dispatch(message.subject, message.data, headers, caller, respond, waited=waited)
        except NotReady as not_ready:
            self._environment.spawn(self._dispatch_after(not_ready.lookup, message, headers, arrived, respond))
        except Exception as error:
            respond(_failure_reply(error, message.subject))

    async def _dispatch_after(
        self,
        lookup: asyncio.Future[None],
        message: Msg,
        headers: Mapping[str, str],
        arrived: float,
        respond: Callable[[Reply], None],
    ) -> None:
        try:
            await asyncio.shield(lookup)
        except Exception as error:
            respond(_failure_reply(error, message.subject))
        else:
            self._dispatch(message, headers, arrived, respond)

    async def _answer_query(self, message: Msg, headers: Mapping[str, str], respond: Callable[[Reply], None]) -> None:
        query, trace = self._runtime.queries[message.subject], headers.get(envelope.TRACEPARENT, "")
        try:
            left = parse_deadline(headers, self._limits.default_deadline, self._limits.max_deadline)
            waits_until.set(self._loop.time() + left)
            caller = await resolve_when_ready(self._authenticator.admit, message, headers)
            with tracing.joining(trace, "server", describe_query, message.subject):
                answer = Reply(await query.run(message.data, headers.get(envelope.CONTENT_TYPE), caller))
        except Exception as error:
            answer = _failure_reply(error, message.subject)
        respond(answer)


def describe_query(subject: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the attributes of the span in which a query is answered."""
    name, attributes = describe_call(subject)
    process = {"messaging.operation.name": "process", "messaging.operation.type": "process"}
    return name.removeprefix("query "), attributes | process


async def answer_requests(connection: Client, subject: str, handler: Callable[[Msg], Awaitable[None]]) -> Subscription:
    """Call `handler` with each request on a subject whose reply subject is an inbox; refuse and log the others."""

    async def guarded(message: Msg) -> None:
        if is_inbox(message.reply.encode()):
            await handler(message)
        else:
            log.warning("refused a request on %s whose reply subject is not an inbox", message.subject)

    return await connection.subscribe(subject, cb=guarded)


@lru_cache
def _overloaded(retry_after: int) -> bytes:
    failure = Failure("overloaded", "too many requests wait in this process", retry_after=retry_after)
    return encode_message(failure.encode(), problem_headers(failure.encode()))


def _shorten(deadline: str, waited: float) -> str:
    """Return the deadline of a request that has waited; one that can't be read stays as it is."""
    try:
        left = int(deadline) - int(waited * 1000)
    except ValueError:
        return deadline
    return str(left)


def _failure_reply(error: Exception, subject: str) -> Reply:
    return Reply.of(error if isinstance(error, Failure) else log_unexpected(error, subject))


def _count_failure(subject: str, answer: Reply, *, answered: bool) -> None:
    failure = Failure.decode(answer.payload)
    FAILURES.labels("nats", failure.code).inc()
    if not answered:
        log.warning("a request without a reply subject failed on %s: %s: %s", subject, failure.code, failure.detail)
