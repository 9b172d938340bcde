"""The composition root of the task worker."""

from __future__ import annotations

from aidevos.feeds.webhook_sender import WebhookSender
from aidevos.settings import Settings, networks
from aidevos.work.handlers import Handlers, handler_of, handlers_in

from . import data_tasks, object_call, webhook

GROUP = "workers"


def build(settings: Settings) -> Handlers:
    """The handlers of the built-in kinds, with what they work with."""
    deliver = handler_of(webhook.deliver_by(WebhookSender(networks(settings.webhook_networks))))
    return handlers_in((data_tasks, object_call), built_in=True) | {deliver.kind: deliver}
