"""One incarnation of a process's host, from when it joins the fleet until it leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack

from nats.errors import Error as NatsError

from aidevos.durable.hosting.host import Host
from aidevos.observability.metrics import LEASE_LAPSES
from aidevos.process.stopping import finish_unless, wait_for_first

log = logging.getLogger(__name__)


async def serve_incarnation(
    host: Host,
    stop: asyncio.Event,
    drain_timeout: float,
    lost: asyncio.Event | None = None,
    on_joined: Callable[[], None] = lambda: None,
) -> None:
    """Serve until `stop` is set or the lease is lost, or not at all if the host can't join the fleet now.

    The host drains when `stop` is set, and drops everything at once when `lost` is. `on_joined` is called once it has
    joined.
    """
    async with AsyncExitStack() as cleanup:
        cleanup.push_async_callback(host.abandon)
        try:
            await host.start()
        except (NatsError, OSError) as error:
            log.warning("joining the fleet failed, trying again: %s", error)
            return
        on_joined()
        await wait_for_first(stop, host.lease.lost)
        if host.lease.lost.is_set():
            LEASE_LAPSES.inc()
        elif await finish_unless(lost or asyncio.Event(), host.drain(drain_timeout)):
            cleanup.pop_all()
