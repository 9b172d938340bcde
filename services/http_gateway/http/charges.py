"""Charges for the work of a request that costs more than one request of its caller's rate limit."""

from __future__ import annotations

import asyncio

from aidevos.durable.access.limiter import RateLimited, RateLimiter
from aidevos.durable.access.resolving import resolve_when_ready

from .request import HttpRequest, group_of


class Charges:
    """Charges admitted requests for the items that they read or create.

    The guard has already charged each one as one request. The headers of a response that begins later show the sum.
    """

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter

    async def add_items(self, request: HttpRequest, count: int) -> None:
        """Charge a request for a list of items to create. Raises `RateLimited` while the limit is overdrawn."""
        await self._add(request, count - 1)

    async def add_page(self, request: HttpRequest, items: int) -> None:
        """Charge a request for a page of this many items. Raises like `add_items`."""
        await self._add(request, self._limiter.price_page(items) - 1)

    async def pace_items(self, request: HttpRequest, count: int, patience: float) -> None:
        """Charge for further items to create, waiting until the limit allows it.

        Raises `RateLimited` as soon as it is clear that this takes more than `patience` seconds.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + patience
        while True:
            try:
                await self._add(request, count)
                return
            except RateLimited as refused:
                wait = refused.retry_after or 0.0
                if loop.time() + wait > end:
                    raise
            await asyncio.sleep(wait)

    async def pace_page(self, request: HttpRequest, items: int, gone: asyncio.Future[None]) -> None:
        """Charge for a further page, waiting until the limit allows it or the client has `gone`."""
        while not gone.done():
            try:
                await self._add(request, self._limiter.price_page(items))
                return
            except RateLimited as refused:
                wait = refused.retry_after
            await asyncio.wait([gone], timeout=wait)

    async def _add(self, request: HttpRequest, cost: int) -> None:
        if cost > 0:
            caller, address, group = request.principal, request.address, group_of(request.scope)
            await request.spend(resolve_when_ready(self._limiter.spend_more, caller, address, group, cost))
