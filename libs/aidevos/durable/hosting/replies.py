"""The answers of a host, which leave in the order in which they were given."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import lru_cache

from nats.errors import Error as NatsError

from aidevos.contracts import envelope
from aidevos.contracts.errors import Failure
from aidevos.durable.client.connection import Connection, encode_message
from aidevos.durable.turns.headers import Reply

log = logging.getLogger(__name__)


class ReplySender:
    """Sends answers over one connection, in order. Those of one turn of the event loop leave together after it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._queue: deque[tuple[str, Reply]] = deque()
        self._loop = asyncio.get_running_loop()

    def send(self, reply_to: str, reply: Reply) -> None:
        """Queue an answer without waiting."""
        if not self._queue:
            self._loop.call_soon(self._post_all)
        self._queue.append((reply_to, reply))

    def _post_all(self) -> None:
        try:
            while self._queue:
                self._post(*self._queue.popleft())
            self._connection.send_posted()
        finally:
            if self._queue:
                self._loop.call_soon(self._post_all)

    def _post(self, reply_to: str, reply: Reply) -> None:
        if len(reply.payload) > self._connection.max_payload:
            reply = Reply.of(Failure("internal", "the answer exceeds the payload limit of NATS"))
        try:
            if reply.failed:
                message = encode_message(reply.payload, problem_headers(reply.payload))
                self._connection.post(reply_to.encode(), message)
            else:
                self._connection.post_payload(reply_to.encode(), reply.payload)
        except NatsError as error:
            log.warning("sending an answer failed: %r", error)

    async def flush(self) -> None:
        """Return when all queued answers were sent."""
        while self._queue:  # noqa: ASYNC110
            await asyncio.sleep(0)

    def refuse_all(self, failure: Failure) -> None:
        """Replace all queued answers by this failure."""
        refusal = Reply.of(failure)
        self._queue = deque((reply_to, refusal) for reply_to, _ in self._queue)


@lru_cache
def problem_headers(problem_document: bytes) -> dict[str, str]:
    """Return the headers of a message with a problem document."""
    problem = Failure.decode(problem_document)
    text = f"{problem.code}: {problem.detail}".encode("ascii", "replace").decode()[:512]
    return {
        envelope.ERROR_CODE: str(problem.status),
        envelope.ERROR: text.replace("\r", " ").replace("\n", " "),
        envelope.CONTENT_TYPE: "application/problem+json",
    }
