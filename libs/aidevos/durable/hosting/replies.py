"""The answers of a host, which leave in the order in which they were given."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import lru_cache

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError

from aidevos.contracts import envelope
from aidevos.contracts.errors import Failure
from aidevos.durable.turns.headers import Reply

log = logging.getLogger(__name__)


class ReplySender:
    """Sends answers over one connection, in order."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection
        self._queue: deque[tuple[str, Reply]] = deque()
        self._filled = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def send(self, reply_to: str, reply: Reply) -> None:
        """Queue an answer without waiting."""
        self._queue.append((reply_to, reply))
        self._filled.set()
        self._empty.clear()

    async def run(self) -> None:
        """Send the queued answers until cancelled."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._queue:
                reply_to, reply = self._queue.popleft()
                try:
                    headers = problem_headers(reply.payload) if reply.failed else None
                    await self._connection.publish(reply_to, reply.payload, headers=headers)
                except MaxPayloadError:
                    self.send(reply_to, Reply.of(Failure("internal", "the answer exceeds the payload limit of NATS")))
                except NatsError as error:
                    log.warning("sending an answer failed: %s", error)
            self._empty.set()

    async def flush(self) -> None:
        """Return when all queued answers were sent."""
        await self._empty.wait()

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
