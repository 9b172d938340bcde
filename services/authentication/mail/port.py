"""How a mail leaves: the port, and one flight for each mail."""

from __future__ import annotations

import asyncio
from email.message import EmailMessage
from typing import Protocol

from aidevos.contracts.errors import Failure

# Seconds that a caller waits; less than a tell's deadline.
PATIENCE = 7.0
MAX_FLIGHTS = 1000


class Mailer(Protocol):
    async def send(self, id: str, message: EmailMessage) -> None:
        """Return when the message is in somebody else's hands. Raises `unavailable` when it may be tried
        again, and `invalid` when it will never be taken. `id` is the mail's own, time-ordered."""


class Outgoing:
    """Sends each mail by one flight. What takes longer than the caller waits goes on: its repeat waits
    for the same flight, because a second copy can't be called back."""

    def __init__(self, mailer: Mailer, patience: float = PATIENCE) -> None:
        self._mailer = mailer
        self._patience = patience
        self._flights: dict[str, asyncio.Task[None]] = {}

    async def send(self, id: str, message: EmailMessage) -> None:
        """As the mailer's."""
        flight = self._flights.get(id)
        if flight is None:
            flight = self._flights[id] = self._start(id, message)
        await asyncio.wait({flight}, timeout=self._patience)
        if not flight.done():
            raise Failure("unavailable", "the mail server takes its time")
        self._flights.pop(id, None)
        flight.result()

    def _start(self, id: str, message: EmailMessage) -> asyncio.Task[None]:
        if len(self._flights) >= MAX_FLIGHTS:
            self._flights = {other: flight for other, flight in self._flights.items() if not flight.done()}
        if len(self._flights) >= MAX_FLIGHTS:
            raise Failure("overloaded", "too many mails are being sent")
        return asyncio.create_task(self._mailer.send(id, message))
