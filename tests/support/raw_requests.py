"""Requests that are sent once, and whose replies are all kept."""

from __future__ import annotations

from typing import Any

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from aidevos.contracts import envelope, subjects
from tests.support.servers import Servers


class Raw:
    """Requests that keep every reply, however late and from whichever host."""

    def __init__(self, connection: Client, servers: Servers) -> None:
        self.replies: list[Msg] = []
        self._connection = connection
        token = servers.issuer().issue("tester", roles=("admin",))
        self.headers = {envelope.AUTHORIZATION: f"Bearer {token}"}
        self._inbox = connection.new_inbox()
        self._sent = 0

    async def listen(self) -> None:
        async def keep(message: Msg) -> None:
            self.replies.append(message)

        await self._connection.subscribe(f"{self._inbox}.*", cb=keep)

    async def send(
        self, id: str, method: str, arguments: dict[str, Any] | None = None, *, type: str = "tally", **headers: str
    ) -> str:
        """Send a request, and return the subject of its replies."""
        self._sent += 1
        reply = f"{self._inbox}.{self._sent}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        payload = b"" if arguments is None else msgspec.json.encode(arguments)
        await self._connection.publish(
            subjects.call(type, id, method), payload, reply=reply, headers=self.headers | named
        )
        await self._connection.flush()
        return reply

    def replies_to(self, subject: str) -> list[Msg]:
        return [reply for reply in self.replies if reply.subject == subject]
