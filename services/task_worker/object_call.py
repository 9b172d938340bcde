"""Tasks of the kind `object.call`."""

from __future__ import annotations

from typing import Any

import msgspec

from aidevos.contracts.tasks import ObjectCall
from aidevos.work.handlers import TaskContext, task

from .acting import orders, send_patiently


@task("object.call")
async def call_object(context: TaskContext, payload: ObjectCall) -> Any:
    """Call the method with the maker's rights; the result is what it returned."""
    (order,) = await orders(context)
    reply = await send_patiently(context, order)
    return msgspec.json.decode(reply) if reply else None
