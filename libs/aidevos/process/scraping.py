"""The metrics that a process shows: to Prometheus at a port of its own, and to the gateway over NATS.

Promise: while metrics are off, no port is open and no target is listed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from time import perf_counter

import msgspec
from nats.aio.msg import Msg

from aidevos.contracts import subjects
from aidevos.contracts.fleet import FIGURES, BusyObject, ProcessFigures, ProcessMetrics
from aidevos.durable.base.beats import until_beat
from aidevos.durable.client.connection import Connection, is_inbox
from aidevos.observability import metrics
from aidevos.observability.exposition import OPENMETRICS, shares
from aidevos.observability.health import Health
from aidevos.observability.metrics import LOOP_LAG, PROCESS_INFO, measuring
from aidevos.process.probes import open_metrics_port
from aidevos.process.stack import background
from aidevos.process.targets import listed
from aidevos.settings import Settings

log = logging.getLogger(__name__)
LAG_EVERY = 0.5
# Addresses that stand for all of a machine, and those at which the machine reaches them.
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


@asynccontextmanager
async def showing_metrics(
    settings: Settings, service: str, replica: str, version: str, health: Health
) -> AsyncIterator[None]:
    """Serve the metrics of this process and list it as a target while the block runs, unless metrics are off.

    Raises `SettingsError` if no port can be opened.
    """
    measuring.on = settings.metrics_port > 0
    PROCESS_INFO.labels(service, replica, version).set(1)
    async with AsyncExitStack() as stack:
        if measuring.on:
            await stack.enter_async_context(background(_measure_lag))
            server = await stack.enter_async_context(await open_metrics_port(settings, health))
            try:
                stack.enter_context(listed(settings.home, _address(settings, server), service, replica))
            except OSError as error:
                log.warning("this process can't be listed as a target of Prometheus: %s", error)
        yield


class GatewayAnswers:
    """The answers of a process to gateways that ask for its metrics or its figures.

    `host` is the name of its lease, if it hosts objects, and `find_busiest` returns the objects with the most turns.
    """

    def __init__(
        self,
        connection: Connection,
        service: str,
        replica: str,
        health: Health,
        *,
        host: str = "",
        find_busiest: Callable[[], list[BusyObject]] = list,
    ) -> None:
        self._connection = connection
        self._service = service
        self._replica = replica
        self._health = health
        self._host = host
        self._find_busiest = find_busiest

    async def start(self) -> None:
        """Answer for as long as the process is connected."""
        await self._connection.subscribe(subjects.FLEET_METRICS, cb=self._answer)

    async def _answer(self, message: Msg) -> None:
        if is_inbox(message.reply.encode()):
            answer = self._figures() if message.data == FIGURES else self._metrics(message.data)
            await self._connection.publish(message.reply, msgspec.msgpack.encode(answer))

    def _metrics(self, wanted: bytes) -> ProcessMetrics:
        labels = {"service": self._service, "replica": self._replica}
        return ProcessMetrics(self._host, shares(labels, with_exemplars=wanted == OPENMETRICS.encode()))

    def _figures(self) -> ProcessFigures:
        return ProcessFigures(
            f"{self._service}-{self._replica}",
            requests=metrics.HTTP_REQUESTS.total,
            seconds=metrics.HTTP_SECONDS.total,
            failures=metrics.FAILURES.total,
            dead_letters=metrics.DEAD_LETTERS.total,
            objects=metrics.ACTIVE_OBJECTS.total,
            memory=metrics.ACTIVE_BYTES.total,
            problems=len(self._health.problems()),
            busiest=self._find_busiest(),
        )


async def _measure_lag() -> None:
    """Measure how late the event loop is, until cancelled."""
    while True:
        pause = until_beat(LAG_EVERY)
        due = perf_counter() + pause
        await asyncio.sleep(pause)
        LOOP_LAG.observe(max(0.0, perf_counter() - due))


def _address(settings: Settings, server: asyncio.Server) -> str:
    host = _ANY.get(settings.metrics_host, settings.metrics_host)
    port = server.sockets[0].getsockname()[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
