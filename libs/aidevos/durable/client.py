"""Calling objects from outside: one logical request, as many attempts as its deadline allows.

Promise: a request that this client sent is applied at most once however often it is attempted,
because every attempt carries the same `Request-Id`, and the client gets the recorded answer.

The client has a random 128-bit ID for each incarnation of its process and numbers its requests
(RIFL, Lee et al., SOSP 2015). A number carries its time of issue in the upper bits, so numbers grow
and a host can refuse those that are too old. `Request-Ack` tells the lowest number that the client
still waits for: every record below it may be dropped, and every later copy below it is refused.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError

from aidevos.contracts import envelope, subjects
from aidevos.contracts.errors import Failure

NUMBER_BITS = 20
FIRST_BACKOFF = 0.01
LAST_BACKOFF = 0.5


class RequestIds:
    """The numbered request IDs of one client incarnation, and the lowest one still awaited."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.client = secrets.token_hex(16)
        self._now = now
        self._last = 0
        self._awaited: dict[int, None] = {}

    def take(self) -> int:
        """The next number; it is awaited until `settle` is called with it."""
        number = max(self._last + 1, int(self._now() * 1000) << NUMBER_BITS)
        self._last = number
        self._awaited[number] = None
        return number

    def settle(self, number: int) -> None:
        self._awaited.pop(number, None)

    def lowest(self) -> int:
        return next(iter(self._awaited), self._last + 1)


def issued_at(number: int) -> float:
    """When a request number was issued, in seconds since the epoch."""
    return (number >> NUMBER_BITS) / 1000


class DurableObjectClient:
    """Calls objects over NATS.

    `authorization` gives the header for calls that name none; `attempt_timeout` and
    `default_deadline` are in seconds.
    """

    def __init__(
        self,
        connection: Client,
        authorization: Callable[[], str],
        *,
        attempt_timeout: float = 2.0,
        default_deadline: float = 10.0,
    ) -> None:
        self._connection = connection
        self._authorization = authorization
        self._attempt_timeout = attempt_timeout
        self._default_deadline = default_deadline
        self._ids = RequestIds()
        self._inbox = ""
        self._waiting: dict[str, asyncio.Future[Msg | None]] = {}

    async def start(self) -> None:
        """Open the inbox for replies."""
        self._inbox = self._connection.new_inbox() + "."
        await self._connection.subscribe(self._inbox + "*", cb=self._on_reply, pending_msgs_limit=-1)

    async def call(
        self, type: str, id: str, method: str, args: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """The decoded result of a method; `args` is anything msgspec encodes to a JSON object.

        Options are those of `request`. Raises `Failure`.
        """
        payload = msgspec.json.encode(args) if args else b""
        reply = await self.request(subjects.call(type, id, method), payload, **options)
        return msgspec.json.decode(reply) if reply else None

    async def query(self, type: str, name: str, args: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """The decoded result of a query over the committed state of all objects of a type."""
        payload = msgspec.json.encode(args) if args else b""
        return msgspec.json.decode(await self.request(subjects.query(type, name), payload, **options))

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
        """The payload of the reply.

        Without `request_id` the request gets a number of this client. `deadline` is in seconds
        from now. Raises `Failure`: the callee's own, or `unavailable` when nobody has answered by
        the deadline.
        """
        sent = dict(headers) if headers else {}
        sent[envelope.AUTHORIZATION] = self._authorization() if authorization is None else authorization
        number = 0
        if request_id is None:
            number = self._ids.take()
            sent[envelope.REQUEST_ID] = f"{self._ids.client}.{number}"
            sent[envelope.REQUEST_ACK] = str(self._ids.lowest())
        else:
            sent[envelope.REQUEST_ID] = request_id
        try:
            return await self._attempt_until(subject, payload, sent, deadline or self._default_deadline)
        finally:
            if number:
                self._ids.settle(number)

    async def _attempt_until(self, subject: str, payload: bytes, headers: dict[str, str], deadline: float) -> bytes:
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline
        token = secrets.token_hex(8)
        backoff = FIRST_BACKOFF
        last: Failure | None = None
        try:
            while (remaining := end - loop.time()) > 0:
                headers[envelope.DEADLINE] = str(max(1, int(remaining * 1000)))
                reply = await self._attempt(token, subject, payload, headers, min(remaining, self._attempt_timeout))
                if reply is not None:
                    failure = failure_of(reply)
                    if failure is None:
                        return reply.data
                    if failure.code not in ("unavailable", "moved"):
                        raise failure
                    last = failure
                pause = min(backoff * (0.5 + secrets.randbelow(1000) / 1000), max(0.0, end - loop.time()))
                backoff = min(backoff * 2, LAST_BACKOFF)
                await asyncio.sleep(pause)
        finally:
            self._waiting.pop(token, None)
        detail = last.detail if last else "nobody answered before the deadline; the request may or may not have been applied"
        raise Failure("unavailable", detail, retry_after=1.0)

    async def _attempt(
        self, token: str, subject: str, payload: bytes, headers: dict[str, str], timeout: float
    ) -> Msg | None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Msg | None] = loop.create_future()
        self._waiting[token] = future
        timer = loop.call_later(timeout, _give_up, future)
        try:
            await self._connection.publish(subject, payload, reply=self._inbox + token, headers=headers)
            return await future
        except MaxPayloadError:
            raise Failure("too-large", "the payload is larger than the NATS server takes") from None
        except NatsError:
            return None
        finally:
            timer.cancel()

    async def _on_reply(self, message: Msg) -> None:
        future = self._waiting.get(message.subject[len(self._inbox) :])
        if future is not None and not future.done():
            future.set_result(message)


def failure_of(message: Msg) -> Failure | None:
    """The failure that a reply tells of, by its service headers; None for a result."""
    headers = message.headers
    if not headers:
        return None
    if headers.get("Status") == "503" and not message.data:
        return Failure("unavailable", "no process serves this object at the moment")
    if envelope.ERROR_CODE in headers:
        return Failure.decode(message.data)
    return None


def _give_up(future: asyncio.Future[Msg | None]) -> None:
    if not future.done():
        future.set_result(None)
