"""The events service: dead letters and webhooks."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aidevos import DurableObjectClient, Peers, Service, resource
from aidevos.contracts import dead_letters, webhooks
from aidevos.feeds.webhook_sender import WebhookSender
from aidevos.security.delegations import Delegations
from aidevos.security.sealed import Sealer
from aidevos.security.service_keys import ServiceSigningKeys
from aidevos.security.tokens import TokenIssuer, TokenVerifier
from aidevos.settings import Settings, networks, webhook_pauses
from aidevos.work.retention import keep_expiring

from .dead_letter import DeadLetterDO
from .delivery import DeliveryDO, Pauses
from .fan_out import fan_out
from .owners import Owners
from .replay import ReplayDO
from .sends import Sends
from .webhook import WebhookDO
from .webhook_holder import WebhookHolderDO

NAME = "events"


@resource
async def sealer(settings: Settings) -> AsyncIterator[Sealer]:
    yield Sealer(settings)


@resource
async def keys(settings: Settings) -> AsyncIterator[ServiceSigningKeys]:
    yield ServiceSigningKeys(settings.home, NAME, acts_for_others=True)


@resource
async def issuer(keys: ServiceSigningKeys, settings: Settings) -> AsyncIterator[TokenIssuer]:
    yield TokenIssuer(keys, settings.public_url)


@resource
async def delegations(keys: ServiceSigningKeys, settings: Settings) -> AsyncIterator[Delegations]:
    yield Delegations(keys, settings.public_url, NAME)


@resource
async def sender(settings: Settings) -> AsyncIterator[WebhookSender]:
    yield WebhookSender(networks(settings.webhook_networks))


@resource
async def pauses(settings: Settings) -> AsyncIterator[Pauses]:
    yield Pauses(webhook_pauses(settings.webhook_pauses))


@resource
async def sends(settings: Settings, peers: Peers) -> AsyncIterator[Sends]:
    yield Sends(settings.max_sends, settings.max_webhook_sends, peers)


@resource
async def owners(
    objects: DurableObjectClient, verifier: TokenVerifier, delegations: Delegations
) -> AsyncIterator[Owners]:
    yield Owners(objects, verifier, delegations)


async def keep_letters(objects: DurableObjectClient, settings: Settings) -> None:
    """Remove expired dead letters."""
    await keep_expiring(objects, dead_letters.TYPE, dead_letters.SEARCH, settings.letter_age)


async def keep_deliveries(objects: DurableObjectClient, settings: Settings) -> None:
    """Remove expired deliveries."""
    await keep_expiring(objects, webhooks.DELIVERY_TYPE, webhooks.SEARCH, settings.delivery_age)


service = Service(
    NAME,
    types=(DeadLetterDO, ReplayDO, WebhookDO, WebhookHolderDO, DeliveryDO),
    resources=(sealer, keys, issuer, delegations, sender, pauses, sends, owners),
    chores=(keep_letters, keep_deliveries, fan_out),
)
