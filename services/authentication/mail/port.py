"""The port through which mail leaves, and the mailer that never sends two copies of one mail at once."""

from __future__ import annotations

import asyncio
from email.message import EmailMessage
from typing import Protocol

from aidevos.contracts.errors import Failure

# Seconds that a caller waits; less than a tell's deadline.
TIMEOUT = 7.0
# Attempts in flight in one process: a bound on its memory.
MAX_FLIGHTS = 1000


class Mailer(Protocol):
    """A way to send mail."""

    async def send(self, id: str, message: EmailMessage) -> None:
        """Return once the message has been handed over for good. `id` is the mail's time-ordered ID.

        Raises `unavailable` if a retry may succeed, and `invalid` if the message will never be accepted.
        """


class SingleFlightMailer:
    """A mailer that has at most one attempt per mail in flight.

    An attempt that outlasts its caller continues. A retry of the caller waits for the same attempt,
    because a second copy can't be recalled.
    """

    def __init__(self, mailer: Mailer, timeout: float = TIMEOUT) -> None:
        self._mailer = mailer
        self._timeout = timeout
        self._flights: dict[str, asyncio.Task[None]] = {}

    async def send(self, id: str, message: EmailMessage) -> None:
        """Send a mail like `Mailer.send`.

        Also raises `unavailable` if the attempt outlasts the timeout, and `overloaded` beyond `MAX_FLIGHTS` attempts.
        """
        flight = self._flights.get(id)
        if flight is None:
            flight = self._flights[id] = self._start(id, message)
        await asyncio.wait({flight}, timeout=self._timeout)
        if not flight.done():
            raise Failure("unavailable", "the mail server is slow to answer")
        self._flights.pop(id, None)
        flight.result()

    def _start(self, id: str, message: EmailMessage) -> asyncio.Task[None]:
        if len(self._flights) >= MAX_FLIGHTS:
            self._flights = {other: flight for other, flight in self._flights.items() if not flight.done()}
        if len(self._flights) >= MAX_FLIGHTS:
            raise Failure("overloaded", "too many mails are being sent")
        return asyncio.create_task(self._mailer.send(id, message))
