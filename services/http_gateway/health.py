"""The gateway's readiness: it is connected, knows the declared routes, and every service reports itself healthy."""

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
    """The readiness of the fleet, checked at most once in `FRESH_FOR` seconds for any number of requests."""

    def __init__(self, connection: Client, services: tuple[str, ...], table: RouteTable) -> None:
        self._connection = connection
        self._table = table
        self._services = services
        self._lock = asyncio.Lock()
        self._problems: dict[str, str] = {}
        self._checked_at = float("-inf")

    async def find_problems(self) -> dict[str, str]:
        """Return a map from a service (or `nats`, or `routes`) to its problem; empty if all are ready."""
        async with self._lock:
            if time.monotonic() - self._checked_at > FRESH_FOR:
                self._problems = await self._check_all()
                self._checked_at = time.monotonic()
            return self._problems

    async def _check_all(self) -> dict[str, str]:
        if not self._connection.is_connected:
            return {"nats": "not connected"}
        details = await asyncio.gather(*(self._check(service) for service in self._services))
        problems = {service: detail for service, detail in zip(self._services, details, strict=True) if detail}
        return problems if self._table.is_known else problems | {"routes": "not read yet"}

    async def _check(self, service: str) -> str:
        try:
            reply = await self._connection.request(subjects.health(service), b"", timeout=TIMEOUT)
            report = msgspec.json.decode(reply.data, type=_Report)
        except (NatsError, msgspec.DecodeError):
            return "no reply"
        return "" if report.ok else report.detail or "unhealthy"
