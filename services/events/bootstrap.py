"""The composition root of the events service: dead letters, and webhooks."""

from __future__ import annotations

import asyncio
from typing import Any

from aidevos import BaseDurableObject
from aidevos.contracts import dead_letters, webhooks
from aidevos.durable.client.retention import keep_expiring
from aidevos.feeds.webhook_sender import WebhookSender
from aidevos.process.service import Process
from aidevos.security.delegations import Delegations
from aidevos.security.keys import SigningKeys
from aidevos.security.sealed import Sealer
from aidevos.security.tokens import TokenIssuer
from aidevos.settings import Settings, networks, webhook_pauses

from .dead_letter import DeadLetterDO
from .delivery import DeliveryDO
from .fan_out import FanOut
from .owners import Owners
from .replay import ReplayDO
from .sends import Sends
from .webhook import WebhookDO
from .webhook_holder import WebhookHolderDO

SERVICE = "events"
TYPES: tuple[type[BaseDurableObject[Any]], ...] = (DeadLetterDO, ReplayDO, WebhookDO, WebhookHolderDO, DeliveryDO)


def build(settings: Settings) -> tuple[type[BaseDurableObject[Any]], ...]:
    """The types, with what they work with."""
    DeadLetterDO.settings = settings
    DeadLetterDO.sealer = WebhookDO.sealer = DeliveryDO.sealer = Sealer(settings)
    keys = SigningKeys(settings.home)
    ReplayDO.issuer = TokenIssuer(keys, settings.public_url)
    ReplayDO.delegations = Delegations(keys, settings.public_url, SERVICE)
    WebhookDO.sender = DeliveryDO.sender = WebhookSender(networks(settings.webhook_networks))
    WebhookHolderDO.limit = settings.max_webhooks
    DeliveryDO.settings = settings
    DeliveryDO.pauses = webhook_pauses(settings.webhook_pauses)
    DeliveryDO.sends = Sends(settings.max_sends, settings.max_webhook_sends)
    return TYPES


async def tend(process: Process) -> None:
    """What the service does by itself, until cancelled."""
    settings, outside = process.settings, process.outside
    owners = DeliveryDO.owners = Owners(outside, process.verifier, ReplayDO.delegations)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(keep_expiring(outside, dead_letters.TYPE, dead_letters.SEARCH, settings.letter_age))
        tasks.create_task(keep_expiring(outside, webhooks.DELIVERY_TYPE, webhooks.SEARCH, settings.delivery_age))
        tasks.create_task(FanOut(process.bus, outside, owners).run())
