"""The worker for the built-in kinds of tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aidevos import resource
from aidevos.feeds.webhook_sender import WebhookSender
from aidevos.settings import Settings, networks
from aidevos.work.handlers import handlers_in
from aidevos.work.process import worker_service

from . import data_tasks, object_call, webhook


@resource
async def sender(settings: Settings) -> AsyncIterator[WebhookSender]:
    yield WebhookSender(networks(settings.webhook_networks))


service = worker_service(
    handlers_in((data_tasks, object_call, webhook), built_in=True), group="workers", resources=(sender,)
)
