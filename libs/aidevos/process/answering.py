"""Repeated questions to a server, by which a process knows whether it answers.

Promise: one question at a time is on its way, so a server that hangs takes no more than one connection or thread.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from nats.aio.client import Client
from nats.errors import ConnectionClosedError
from nats.errors import Error as NatsError

Ask = Callable[[], Coroutine[Any, Any, None]]
# Seconds between an answer and the next question, and for which an answer may take.
ASK_EVERY = 2.0
PATIENCE = 2.0
POLL = 0.1
# Seconds after which a question to NATS is given up.
NATS_WITHIN = 5


class Answering:
    """Asks a server with `ask`, which raises one of `errors` if the server can't be reached."""

    def __init__(self, name: str, ask: Ask, errors: tuple[type[Exception], ...]) -> None:
        self.name = name
        self._ask = ask
        self._errors = errors
        self._failed = False
        self._asked_at = math.inf
        self._again = asyncio.Event()

    def find_problem(self) -> str:
        """Return what is wrong with the server, or an empty string."""
        late = asyncio.get_running_loop().time() - self._asked_at > PATIENCE
        return f"{self.name} doesn't answer" if self._failed or late else ""

    def ask_now(self) -> None:
        """Ask without a pause, because it is urgent."""
        self._again.set()

    async def run(self) -> None:
        """Ask until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._asked_at = loop.time()
            # In a task of its own: nats-py uses `asyncio.wait_for`, which can swallow a cancellation.
            asking = asyncio.ensure_future(self._ask())
            try:
                await asyncio.wait((asking,))
                self._failed = isinstance(asking.exception(), self._errors)
            finally:
                asking.cancel()
                self._asked_at = math.inf
            pause = loop.call_later(ASK_EVERY, self._again.set)
            await self._again.wait()
            pause.cancel()
            self._again.clear()


def nats_answering(connection: Client) -> Answering:
    """Return what asks NATS over this connection."""

    async def ask() -> None:
        if not connection.is_connected:
            raise ConnectionClosedError
        await connection.flush(timeout=NATS_WITHIN)

    return Answering("NATS", ask, (NatsError, OSError))


async def wait_for_loss(servers: Sequence[Answering]) -> str:
    """Return what is wrong with a server as soon as one doesn't answer."""
    for server in servers:
        server.ask_now()
    while not (problem := next(filter(None, (server.find_problem() for server in servers)), "")):  # noqa: ASYNC110
        await asyncio.sleep(POLL)
    return problem
