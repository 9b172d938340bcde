"""Connections to NATS, as every process of the product makes them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import nats
from nats.aio.client import Client
from nats.errors import AuthorizationError

from aidevos.settings import SettingsError

log = logging.getLogger(__name__)
START_WITHIN = 30.0
RECONNECT_WAIT = 0.1
PENDING_BYTES = 64 * 1024 * 1024


async def connect(url: str, name: str, *, on_disconnect: Callable[[], None] | None = None) -> Client:
    """Connect as the user that the URL names, with an inbox of that user's own, and stay connected.

    Waits up to 30 s for the server; then, or when it refuses the user, raises `SettingsError`.
    """
    user = urlsplit(url).username
    refused: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def disconnected() -> None:
        log.warning("disconnected from NATS")
        if on_disconnect is not None:
            on_disconnect()

    async def reconnected() -> None:
        log.info("connected to NATS again")

    async def failed(error: Exception) -> None:
        log.warning("NATS: %s", error or type(error).__name__)
        if isinstance(error, AuthorizationError) and not refused.done():
            refused.set_result(error)

    connecting: asyncio.Future[Any] = asyncio.ensure_future(
        nats.connect(
            url,
            name=name,
            inbox_prefix=f"_INBOX_{user}" if user else "_INBOX",
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=RECONNECT_WAIT,
            connect_timeout=2,
            ping_interval=10,
            max_outstanding_pings=2,
            pending_size=PENDING_BYTES,
            disconnected_cb=disconnected,
            reconnected_cb=reconnected,
            error_cb=failed,
        )
    )
    await asyncio.wait({connecting, refused}, timeout=START_WITHIN, return_when=asyncio.FIRST_COMPLETED)
    if connecting.done() and connecting.exception() is None:
        refused.cancel()
        connection: Client = connecting.result()
        return connection
    reason = connecting.exception() if connecting.done() else refused.result() if refused.done() else "no answer"
    connecting.cancel()
    place = urlsplit(url)
    raise SettingsError(f"AIDEVOS_NATS_URL: can't connect to NATS at {place.hostname}:{place.port}: {reason}")
