"""The gateway's readiness: it is connected, knows the declared routes, and every service reports itself healthy."""

from __future__ import annotations

import asyncio
import time

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError

from aidevos.contracts import subjects
from aidevos.contracts.health import HealthReport, PartProblem
from aidevos.contracts.times import rfc3339_of

from .declared_routes import RouteTable

TIMEOUT = 1.0
FRESH_FOR = 0.25
# Seconds between two looks that no request has asked for, so that it is known when a problem began.
LOOK_EVERY = 5.0
PROCESS = "process"


class ServiceProblem(PartProblem, frozen=True, kw_only=True):
    """A problem of a service, of `nats`, or of the gateway's `routes`."""

    service: str


class Readiness:
    """The readiness of the fleet, checked at most once in `FRESH_FOR` seconds for any number of requests."""

    def __init__(self, connection: Client, services: tuple[str, ...], table: RouteTable) -> None:
        self._connection = connection
        self._table = table
        self._services = services
        self._lock = asyncio.Lock()
        self._problems: list[ServiceProblem] = []
        # When the problems began that no service has told: it doesn't answer, or the gateway itself has them.
        self._since: dict[str, str] = {}
        self._checked_at = float("-inf")

    async def keep_looking(self) -> None:
        """Look now and again until cancelled."""
        while True:
            await self.find_problems()
            await asyncio.sleep(LOOK_EVERY)

    async def find_problems(self) -> list[ServiceProblem]:
        """Return the problems of the services, of `nats` and of `routes`."""
        async with self._lock:
            if time.monotonic() - self._checked_at > FRESH_FOR:
                self._problems = await self._check_all()
                self._checked_at = time.monotonic()
            return self._problems

    async def _check_all(self) -> list[ServiceProblem]:
        own: dict[str, str] = {}
        reports: list[HealthReport | None] = []
        if self._connection.is_connected:
            reports = await asyncio.gather(*(self._ask(service) for service in self._services))
            for service, report in zip(self._services, reports, strict=True):
                if report is None:
                    own[service] = "no reply"
                elif not report.ok and not report.problems:
                    # A process of an earlier version gives a reason alone.
                    own[service] = report.detail or "unhealthy"
            own |= {} if self._table.is_known else {"routes": "not read yet"}
        else:
            own["nats"] = "not connected"
        return [*self._own(own), *(problem for report in reports if report is not None for problem in _told(report))]

    def _own(self, found: dict[str, str]) -> list[ServiceProblem]:
        now = rfc3339_of(time.time())
        self._since = {service: self._since.get(service, now) for service in found}
        return [
            ServiceProblem(service=service, part=PROCESS, detail=detail, since=self._since[service])
            for service, detail in found.items()
        ]

    async def _ask(self, service: str) -> HealthReport | None:
        try:
            reply = await self._connection.request(subjects.health(service), b"", timeout=TIMEOUT)
            return msgspec.json.decode(reply.data, type=HealthReport)
        except (NatsError, msgspec.DecodeError):
            return None


def _told(report: HealthReport) -> list[ServiceProblem]:
    return [ServiceProblem(service=report.name, **msgspec.structs.asdict(problem)) for problem in report.problems]
