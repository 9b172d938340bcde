"""Requests on behalf of a task's creator. The task issues them, and a worker only sends them.

Promise: a request has the same ID every time it is sent, even by another worker, so it takes effect once.
"""

from __future__ import annotations

import asyncio

import msgspec

from aidevos.contracts.errors import Failure
from aidevos.contracts.tasks import TYPE, Order
from aidevos.security.delegations import LIFETIME
from aidevos.work.handlers import TaskContext

# Seconds that an object may take for one request.
CALL_TIMEOUT = 300.0


async def fetch_orders(context: TaskContext, after: str = "") -> list[Order]:
    """Return the task's next requests after a position. Raises the failure of the task's answer."""
    reply = await context.objects.call(TYPE, context.id, "orders", run=context.run, after=after)
    return msgspec.convert(reply, list[Order])


async def send(context: TaskContext, order: Order, *, deadline: float = LIFETIME - 1.0) -> bytes:
    """Send a request and return the reply. `deadline` is in seconds from now. Raises the failure of the reply."""
    return await context.objects.request(
        order.subject,
        order.payload.encode(),
        authorization=order.authorization,
        request_id=order.request_id,
        deadline=deadline,
    )


async def send_and_renew(context: TaskContext, order: Order) -> bytes:
    """Send the task's only request and return the reply, for up to `CALL_TIMEOUT` seconds.

    The request may outlast its delegation. It is then repeated under a new delegation, and the repeat waits
    for the call in progress. Raises the failure of the reply.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + CALL_TIMEOUT
    while True:
        began = loop.time()
        try:
            return await send(context, order, deadline=end - began)
        except Failure as failure:
            if failure.code != "unauthenticated" or loop.time() < began + LIFETIME - 1.0:
                raise
        (order,) = await fetch_orders(context)
