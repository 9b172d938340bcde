"""Tasks of the kind `object.call`."""

from __future__ import annotations

from typing import Any

import msgspec

from aidevos.contracts.tasks import ObjectCall
from aidevos.work.handlers import TaskContext, task

from .acting import fetch_orders, send_and_renew


@task("object.call")
async def call_object(context: TaskContext, payload: ObjectCall) -> Any:
    """Call the method with the rights of the task's creator, and return its result."""
    (order,) = await fetch_orders(context)
    reply = await send_and_renew(context, order)
    return msgspec.json.decode(reply) if reply else None
