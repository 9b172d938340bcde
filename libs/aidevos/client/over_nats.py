"""NATS as an entry point of the client.

Promise: a request is repeated under the same number until its deadline, so it takes effect once. A request to a type
that no host has served for a day is refused at once; while its host restarts, the request waits for it. Events come in
the order of their stream, each once, also across a lost connection: they are read from the stream by their number, and
what is published meanwhile only wakes the reader.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Any

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from aidevos.client.credentials import TokenSource, authorization, find_token, renew
from aidevos.client.entry import NO_OPTIONS, LiveEvent, Operation, Options
from aidevos.client.errors import Unauthenticated, Unreachable, error_of
from aidevos.contracts import data, envelope, subjects
from aidevos.contracts.built_in import BUILT_IN
from aidevos.contracts.errors import Failure
from aidevos.contracts.events import AnyEvent
from aidevos.durable.base.backoff import FOLLOWING, Backoff
from aidevos.durable.client.client import DurableObjectClient
from aidevos.durable.client.connection import Connection
from aidevos.durable.client.types import TypeDirectory

READ = f"$JS.API.DIRECT.GET.{subjects.EVENTS_STREAM}"
SEQUENCE, STATUS, ABSENT = "Nats-Sequence", "Status", "404"
# Seconds for one read, and after which the stream is read although nothing has announced an event.
READ_WITHIN, LOOK_EVERY = 2.0, 5.0
BACKOFF = Backoff(0.05, 2.0)
GAP = {"reason": "lost", "detail": "the events after your last one are no longer kept: read the affected objects again"}
_event = msgspec.json.Decoder(AnyEvent)


class OverNats:
    """Performs operations over NATS. `deadline` is in seconds, for each request."""

    def __init__(self, connection: Connection, token: str | TokenSource | None, deadline: float) -> None:
        self.token = token
        self._connection = connection
        self._deadline = deadline
        types = TypeDirectory(connection, BUILT_IN, direct=True)
        self._client = DurableObjectClient(connection, lambda: "", types=types)

    async def start(self) -> None:
        """Open the inbox for replies. Call it once, before anything else."""
        await self._client.start()

    async def perform(
        self,
        operation: Operation,
        args: Any = None,
        *,
        over_nats: Mapping[str, Any] | None = None,
        media: str = envelope.JSON,
        options: Options = NO_OPTIONS,
        anonymous: bool = False,
    ) -> Any:
        sent = args if over_nats is None else over_nats
        payload = msgspec.json.encode(sent) if sent else b""
        reply = await self._repeat(operation.subject, payload, options, anonymous=anonymous)
        return msgspec.json.decode(reply) if reply else None

    async def send(self, options: Options, type: str, id: str, method: str, payload: bytes) -> bytes:
        return await self._repeat(subjects.call(type, id, method), payload, options)

    async def close(self) -> None:
        await self._connection.close()

    async def _repeat(self, subject: str, payload: bytes, options: Options, *, anonymous: bool = False) -> bytes:
        """Send a request until it is answered for good. Raises `ApiError`."""
        loop = asyncio.get_running_loop()
        end, attempt, renewed = loop.time() + (options.deadline or self._deadline), 0, False
        headers = {} if options.if_match is None else {envelope.IF_MATCH: f'"{options.if_match}"'}
        while True:
            attempt += 1
            token = "" if anonymous else await find_token(self.token)
            try:
                return await self._client.request(
                    subject,
                    payload,
                    authorization=authorization(token).get(envelope.AUTHORIZATION, ""),
                    request_id=options.request_id,
                    deadline=max(end - loop.time(), 0.001),
                    headers=headers,
                )
            except Failure as failure:
                error = error_of(failure)
            if isinstance(error, Unauthenticated) and not renewed and renew(self.token, token):
                renewed = True
                continue
            pause = max(error.retry_after or 0.0, BACKOFF.pause(attempt))
            if not error.retryable or loop.time() + pause > end:
                raise error
            await asyncio.sleep(pause)

    async def events(self, wanted: Mapping[str, list[str]], after: str | None) -> AsyncGenerator[LiveEvent, None]:
        pattern, announced = _pattern(wanted), asyncio.Event()

        async def announce(message: Msg) -> None:
            announced.set()

        subscription = await self._connection.subscribe(pattern, cb=announce)
        try:
            if after is None:
                last = await self._read({"last_by_subj": pattern})
                position = _position(last) if last else 0
            else:
                position = int(after)
                first = await self._read({"seq": 1, "next_by_subj": subjects.EVENTS})
                if first is not None and _position(first) > position + 1:
                    yield LiveEvent("gap", "", GAP, "", "", after)
            while True:
                announced.clear()
                message = await self._read({"seq": position + 1, "next_by_subj": pattern})
                if message is None:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(announced.wait(), LOOK_EVERY)
                    continue
                position = _position(message)
                event = _parse(message, str(position))
                if event is not None and _matches(event, wanted):
                    yield event
        finally:
            with suppress(NatsError):
                await subscription.unsubscribe()

    async def _read(self, query: dict[str, Any]) -> Msg | None:
        """Return a stored event, or None if there is no such event. Raises `Unreachable` after the deadline."""
        loop, pauses = asyncio.get_running_loop(), FOLLOWING.pauses()
        end = loop.time() + self._deadline
        while True:
            try:
                message = await self._connection.request(READ, msgspec.json.encode(query), timeout=READ_WITHIN)
            except NatsError as error:
                if loop.time() > end:
                    raise Unreachable(f"the events can't be read with this NATS user: {error!r}") from error
                await pauses.wait()
                continue
            return None if (message.headers or {}).get(STATUS) == ABSENT else message


def _pattern(wanted: Mapping[str, list[str]]) -> str:
    """Return the narrowest pattern of subjects that has all wanted events."""
    types = [data.ITEM_TYPE] if wanted.get("collection") else wanted.get("type") or []
    return subjects.events_of_type(types[0]) if len(types) == 1 else subjects.EVENTS


def _position(message: Msg) -> int:
    return int((message.headers or {})[SEQUENCE])


def _parse(message: Msg, position: str) -> LiveEvent | None:
    """Return a stored event, or None for what isn't an event of an object."""
    try:
        event = _event.decode(message.data)
    except msgspec.DecodeError:
        return None
    return LiveEvent(event.type, event.object_id, event.data, event.id, event.time, position)


def _matches(event: LiveEvent, wanted: Mapping[str, list[str]]) -> bool:
    """True if an event passes a filter, as the gateway applies it."""
    type, _, name = event.type.partition(".")
    about = event.data if type == data.ITEM_TYPE and isinstance(event.data, dict) else {}
    shown = {
        "type": type,
        "name": name,
        "collection": about.get("collection", ""),
        "id": about.get("id") or event.object_id.partition(":")[2],
    }
    return all(shown[key] in values for key, values in wanted.items() if values)
