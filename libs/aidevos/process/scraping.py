"""The metrics that a process shows: to Prometheus at a port of its own, and to the gateway over NATS.

Promise: while metrics are off, no port is open and no target is listed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from time import perf_counter

import msgspec
from nats.aio.msg import Msg

from aidevos.contracts import subjects
from aidevos.contracts.fleet import ProcessMetrics
from aidevos.durable.client.connection import Connection, is_inbox
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


async def answer_gateways(connection: Connection, service: str, replica: str, host: str = "") -> None:
    """Reply to gateways with the metrics of this process, for as long as it is connected.

    `host` is the name of its lease, if it hosts objects.
    """
    await connection.subscribe(
        subjects.FLEET_METRICS, cb=partial(_answer, connection, {"service": service, "replica": replica}, host)
    )


async def _measure_lag() -> None:
    """Measure how late the event loop is, until cancelled."""
    while True:
        due = perf_counter() + LAG_EVERY
        await asyncio.sleep(LAG_EVERY)
        LOOP_LAG.observe(max(0.0, perf_counter() - due))


async def _answer(connection: Connection, labels: dict[str, str], host: str, message: Msg) -> None:
    if is_inbox(message.reply.encode()):
        found = shares(labels, with_exemplars=message.data == OPENMETRICS.encode())
        await connection.publish(message.reply, msgspec.msgpack.encode(ProcessMetrics(host, found)))


def _address(settings: Settings, server: asyncio.Server) -> str:
    host = _ANY.get(settings.metrics_host, settings.metrics_host)
    port = server.sockets[0].getsockname()[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
