"""The client that calls objects over NATS, with retries until the deadline.

Promise: a request is applied at most once, however often it is attempted, because every attempt carries the same
`Request-Id`. A repeated attempt gets the recorded answer.

The client has a random 128-bit ID per process incarnation and numbers its requests (RIFL, Lee et al., SOSP 2015). A
number carries its time of issue in the upper bits, so numbers grow, and a host can refuse those that are too old.
`Request-Ack` is the lowest number that the client still waits for. A host may drop every record below it, and refuses
any copy below it that arrives later.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter
from typing import Any, Protocol, TypedDict, TypeVar, Unpack, overload

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError

from aidevos.contracts import envelope, subjects
from aidevos.contracts.errors import Failure
from aidevos.durable.base.backoff import Backoff
from aidevos.durable.base.shared_timers import SharedTimers
from aidevos.durable.client.connection import Connection
from aidevos.durable.client.history import ObjectHistory
from aidevos.durable.client.reference import refer
from aidevos.durable.client.replies import Replies, Reply
from aidevos.durable.client.types import TypeDirectory
from aidevos.observability import tracing

T = TypeVar("T")
NUMBER_BITS = 20
# Pauses before a request is repeated that nobody has taken.
BACKOFF = Backoff(0.01, 0.5)
# Seconds within which a handover ends. Until then, a pause is this share of the time that the request has waited, but
# not shorter or longer than these seconds: a repeat must neither prolong a handover much nor burden one that lasts.
SOON_FOR, SHARE_OF_WAIT, SHORTEST, LONGEST = 2.0, 0.25, 0.008, 0.1
# Seconds before the first retry. It is short so that a request lost with a dying process is repeated soon.
FIRST_ATTEMPT = 0.5
# The server counts headers towards its payload limit and closes the connection of a client that exceeds it.
HEADERS_ROOM = 32 * 1024
NO_ANSWER = "no process answered before the deadline"
# Answers of a process that doesn't own the object, or no longer does. The owner's answer may still arrive.
_NOT_THE_LAST_WORD = frozenset({"unavailable", "moved"})


class RequestOptions(TypedDict, total=False):
    """Options of `DurableObjectClient.request`."""

    authorization: str | None
    request_id: str | None
    deadline: float | None
    headers: Mapping[str, str] | None


class ObjectCaller(Protocol):
    """Sends requests to objects. Objects and relays use it to reach other objects."""

    async def request(
        self,
        subject: str,
        payload: bytes,
        *,
        authorization: str | None = None,
        request_id: str | None = None,
        deadline: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Send a request and return the payload of the reply. Raises `Failure`.

        Without `authorization`, the caller is the service itself.
        """
        ...


async def send_query(
    caller: ObjectCaller, type: str, name: str, args: Mapping[str, Any] | None = None, **options: Any
) -> Any:
    """Send a query through `caller`, and return its decoded result.

    Options are those of `request`. Raises `Failure`.
    """
    payload = msgspec.json.encode(args) if args else b""
    return msgspec.json.decode(await caller.request(subjects.query(type, name), payload, **options))


class Unanswered(Failure):
    """Raised if no process has answered before the deadline. A request that only reads has changed nothing."""

    def __init__(self, *, may_have_changed: bool) -> None:
        rest = "; the request may or may not have been applied" if may_have_changed else ""
        super().__init__("unavailable", NO_ANSWER + rest, retry_after=1.0)


class RequestIds:
    """The numbered request IDs of one client incarnation.

    Awaited numbers are tracked per target object, because each object keeps its own records. A slow request to one
    object doesn't make another one keep its records.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.client = secrets.token_hex(16)
        self._now = now
        self._last = 0
        self._awaited: dict[str, dict[int, None]] = {}

    def take(self, target: str = "") -> int:
        """Return the next number. It is awaited from this target until `settle` is called with it."""
        number = self._last = max(self._last + 1, int(self._now() * 1000) << NUMBER_BITS)
        self._awaited.setdefault(target, {})[number] = None
        return number

    def settle(self, number: int, target: str = "") -> None:
        """Stop awaiting a number."""
        awaited = self._awaited.get(target, {})
        awaited.pop(number, None)
        if not awaited:
            self._awaited.pop(target, None)

    def lowest_awaited(self, target: str = "") -> int:
        """Return the lowest number awaited from a target, or the next number if none is awaited."""
        return next(iter(self._awaited.get(target, ())), self._last + 1)


def describe_call(subject: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the attributes of the span of a call or query."""
    door, _, rest = subject.partition(".")
    type, _, rest = rest.partition(".")
    id, _, method = rest.rpartition(".")
    attributes = {
        "messaging.system": "nats",
        "messaging.operation.name": "request",
        "messaging.operation.type": "send",
        "messaging.destination.name": subject,
    }
    if not id:
        return f"query {type}.{method}", attributes
    attributes["messaging.destination.template"] = f"{door}.{type}.{{id}}.{method}"
    return f"call {type}.{method}", attributes


def issued_at(number: int) -> float:
    """Return the time at which a request number was issued, in seconds since the epoch."""
    return (number >> NUMBER_BITS) / 1000


def pause_before_repeat(waited: float, attempt: int) -> float:
    """Return the seconds to pause before a request is repeated that nobody has taken after `waited` seconds."""
    if waited > SOON_FOR:
        return BACKOFF.pause(attempt)
    longest = min(max(waited * SHARE_OF_WAIT, SHORTEST), LONGEST)
    return Backoff(longest, longest).pause(1)


class DurableObjectClient:
    """Calls objects over any connection of nats-py, with less work over one of `aidevos.durable.client.connection`.

    `authorization` returns the `Authorization` header for calls that don't pass one. `attempt_timeout` and
    `default_deadline` are in seconds. With `types`, a request that nobody takes fails at once if nobody will. `now`
    returns the seconds since the epoch.
    """

    def __init__(
        self,
        connection: Client,
        authorization: Callable[[], str],
        *,
        attempt_timeout: float = 2.0,
        default_deadline: float = 10.0,
        types: TypeDirectory | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._connection = connection
        self._types = types
        self._authorization = authorization
        self._attempt_timeout = attempt_timeout
        self._default_deadline = default_deadline
        self._ids = RequestIds(now)
        self._inbox = ""
        self._tokens = itertools.count()
        self._waiting: dict[bytes, Replies] = {}

    async def start(self) -> None:
        """Open the inbox for replies. Call it once, before the first request."""
        self._inbox = self._connection.new_inbox() + "."
        self._loop = asyncio.get_running_loop()
        self._timers = SharedTimers(self._loop)
        subject, connection = self._inbox + "*", self._connection
        if isinstance(connection, Connection):
            await connection.hand_over(subject, "", self._on_reply)
        else:
            await connection.subscribe(subject, cb=self._on_message, pending_msgs_limit=-1)

    @overload
    def object(self, target: type[T], id: str, /, **options: Unpack[RequestOptions]) -> T: ...
    @overload
    def object(self, target: str, id: str, /, **options: Unpack[RequestOptions]) -> Any: ...
    def object(self, target: str | type[Any], id: str, /, **options: Unpack[RequestOptions]) -> Any:
        """Return a reference to an object: `await client.object(Counter, "clicks").increment(by=2)`.

        `target` is the object's class, whose methods take the arguments that it declares, or a type by name, whose
        methods take arguments by name. `id` may be any name, as for `id_from_name`. Options are those of `request`,
        for each call of the reference. Its methods return the result, and raise `Failure`.
        """
        return refer(target, id, partial(self._call, options))

    async def call(self, type: str, id: str, method: str, /, **args: Any) -> Any:
        """Call a method by its name, like `object`, and return its decoded result. Raises `Failure`."""
        reply = await self._call({}, type, id, method, msgspec.json.encode(args) if args else b"")
        return msgspec.json.decode(reply) if reply else None

    def history(self, type: str, id: str) -> ObjectHistory:
        """Return the access to the kept versions of an object."""
        return ObjectHistory(self.object, type, id)

    async def query(self, type: str, name: str, /, **args: Any) -> Any:
        """Run a search or a view over the committed states of a type's objects and return its decoded result.

        Raises `Failure`.
        """
        return await send_query(self, type, name, args)

    async def _call(self, options: RequestOptions, type: str, id: str, method: str, payload: bytes) -> bytes:
        return await self.request(subjects.call(type, id, method), payload, **options)

    async def request(
        self,
        subject: str,
        payload: bytes,
        *,
        authorization: str | None = None,
        request_id: str | None = None,
        deadline: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Send a request, repeat it as needed, and return the payload of the reply.

        Without `request_id`, the request gets a number of this client. `deadline` is in seconds from now. Raises
        `Failure`: the callee's own, or `unavailable` if no final answer has arrived by the deadline or no host has
        served the type for a while, or `unknown-type`, or `too-large`.
        """
        if len(payload) + HEADERS_ROOM > self._connection.max_payload:
            raise Failure("too-large", "the payload is larger than the NATS server takes")
        sent = dict(headers) if headers else {}
        sent[envelope.AUTHORIZATION] = self._authorization() if authorization is None else authorization
        wait = deadline or self._default_deadline
        context = tracing.current()
        if context is None:
            return await self._request(subject, payload, sent, request_id, wait)
        # Like `tracing.within`, which takes longer.
        span_id, began = context.send(sent), perf_counter()
        try:
            reply = await self._request(subject, payload, sent, request_id, wait)
        except BaseException as error:
            context.add("client", describe_call, subject, span_id, began, error)
            raise
        context.add("client", describe_call, subject, span_id, began)
        return reply

    async def _request(
        self, subject: str, payload: bytes, sent: dict[str, str], request_id: str | None, wait: float
    ) -> bytes:
        if request_id is not None:
            sent[envelope.REQUEST_ID] = request_id
            return await self._attempt_until(subject, payload, sent, wait)
        target = subject.rpartition(".")[0]
        number = self._ids.take(target)
        try:
            sent[envelope.REQUEST_ID] = f"{self._ids.client}.{number}"
            sent[envelope.REQUEST_ACK] = str(self._ids.lowest_awaited(target))
            return await self._attempt_until(subject, payload, sent, wait)
        finally:
            self._ids.settle(number, target)

    async def _attempt_until(self, subject: str, payload: bytes, headers: dict[str, str], wait: float) -> bytes:
        loop = self._loop
        began = loop.time()
        end = began + wait
        inbox = f"{self._inbox}{next(self._tokens):x}"
        key = inbox.encode()
        replies = self._waiting[key] = Replies(loop, self._timers)
        attempt, patience = 0, min(FIRST_ATTEMPT, self._attempt_timeout)
        detail = ""
        try:
            while (remaining := end - loop.time()) > 0:
                attempt += 1
                headers[envelope.DEADLINE] = envelope.encode_deadline(remaining)
                try:
                    await self._connection.publish(subject, payload, reply=inbox, headers=headers)
                    reply = await replies.next(min(remaining, patience))
                    patience = min(patience * 2, self._attempt_timeout)
                except MaxPayloadError:
                    raise Failure("too-large", "the payload is larger than the NATS server takes") from None
                except NatsError:
                    reply = await replies.next(min(remaining, BACKOFF.pause(attempt)))
                while reply is not None:
                    failure = reply.failure
                    if failure is None:
                        return reply.payload
                    if failure.code not in _NOT_THE_LAST_WORD:
                        raise failure
                    if self._types is not None and reply.is_untaken:
                        await self._types.check(subject.split(".", 2)[1])
                    detail = failure.detail
                    now = loop.time()
                    reply = await replies.next(min(end - now, pause_before_repeat(now - began, attempt)))
        finally:
            del self._waiting[key]
        if detail:
            raise Failure("unavailable", detail, retry_after=1.0)
        raise Unanswered(may_have_changed=not (subject.startswith("query.") or envelope.QUERY_ONLY in headers))

    async def _on_message(self, message: Msg) -> None:
        """Take a reply from a connection that hands over no messages."""
        self._on_reply(message.subject.encode(), b"", *Reply.of(message))

    def _on_reply(self, subject: bytes, reply: bytes, payload: bytes, headers: bytes) -> None:
        replies = self._waiting.get(subject)
        if replies is not None:
            replies.put(Reply(payload, headers))


def failure_of(message: Msg) -> Failure | None:
    """Return the failure that a reply's headers report, or None if the reply is a result."""
    return Reply.of(message).failure
