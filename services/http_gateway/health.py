"""Whether the gateway can serve: it is connected, knows the declared routes, and every service of the
fleet says that it is well."""

from __future__ import annotations

import asyncio
import time

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError

from aidevos.contracts import subjects

from .declared_routes import RouteTable

TIMEOUT = 1.0
FRESH_FOR = 0.25


class _Report(msgspec.Struct):
    ok: bool
    detail: str = ""


class Readiness:
    """What is not ready, asked at most once in `FRESH_FOR` seconds however many want to know."""

    def __init__(self, connection: Client, services: tuple[str, ...], table: RouteTable) -> None:
        self._connection = connection
        self._table = table
        self._services = services
        self._lock = asyncio.Lock()
        self._troubles: dict[str, str] = {}
        self._asked_at = float("-inf")

    async def troubles(self) -> dict[str, str]:
        """Name of a service (or `nats`, or `routes`) → what is wrong with it; empty when all is well."""
        async with self._lock:
            if time.monotonic() - self._asked_at > FRESH_FOR:
                self._troubles = await self._ask()
                self._asked_at = time.monotonic()
            return self._troubles

    async def _ask(self) -> dict[str, str]:
        if not self._connection.is_connected:
            return {"nats": "not connected"}
        details = await asyncio.gather(*(self._trouble(service) for service in self._services))
        troubles = {service: detail for service, detail in zip(self._services, details, strict=True) if detail}
        return troubles if self._table.known else troubles | {"routes": "not known yet"}

    async def _trouble(self, service: str) -> str:
        try:
            reply = await self._connection.request(subjects.health(service), b"", timeout=TIMEOUT)
            report = msgspec.json.decode(reply.data, type=_Report)
        except (NatsError, msgspec.DecodeError):
            return "no answer"
        return "" if report.ok else report.detail or "not well"
