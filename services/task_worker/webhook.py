"""Tasks of the kind `webhook`."""

from __future__ import annotations

from typing import Any

import msgspec

from aidevos.contracts import tasks
from aidevos.contracts.errors import Failure
from aidevos.contracts.tasks import Message, Webhook
from aidevos.feeds.webhook_sender import WebhookSender
from aidevos.work.handlers import TaskContext, task


@task("webhook")
async def deliver(context: TaskContext, payload: Webhook, sender: WebhookSender) -> dict[str, Any]:
    """Send the message that the task has signed, and return the receiver's HTTP status."""
    reply = await context.objects.call(tasks.TYPE, context.id, "message", run=context.run)
    message = msgspec.convert(reply, Message)
    answer = await sender.send(message.url, message.body.encode(), message.headers)
    if not answer.accepted:
        raise Failure("unavailable", f"the receiver answered with status {answer.status}")
    return {"status": answer.status}
