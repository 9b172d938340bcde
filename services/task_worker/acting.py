"""Requests in the name of a task's maker, as the task gives them out: a worker makes up none.

Promise: a request that is sent again, be it by another worker, has the same ID, so it takes effect once.
"""

from __future__ import annotations

import asyncio

import msgspec

from aidevos.contracts.errors import Failure
from aidevos.contracts.tasks import TYPE, Order
from aidevos.security.delegations import LIFETIME
from aidevos.work.handlers import TaskContext

# Seconds: the longest that an object may take for one request.
CALL_WITHIN = 300.0


async def orders(context: TaskContext, after: str = "") -> list[Order]:
    """The task's next requests; raises `Failure`."""
    given = await context.objects.call(TYPE, context.id, "orders", {"run": context.run, "after": after})
    return msgspec.convert(given, list[Order])


async def send(context: TaskContext, order: Order, *, within: float = LIFETIME - 1.0) -> bytes:
    """The answer to a request; raises `Failure`."""
    return await context.objects.request(
        order.subject,
        order.payload.encode(),
        authorization=order.authorization,
        request_id=order.request_id,
        deadline=within,
    )


async def send_patiently(context: TaskContext, order: Order) -> bytes:
    """The answer to the task's only request, which may take longer than its delegation lives: a repeat under a
    new one waits for what is under way. Raises `Failure`."""
    loop = asyncio.get_running_loop()
    end = loop.time() + CALL_WITHIN
    while True:
        began = loop.time()
        try:
            return await send(context, order, within=end - began)
        except Failure as failure:
            if failure.code != "unauthenticated" or loop.time() < began + LIFETIME - 1.0:
                raise
        (order,) = await orders(context)
