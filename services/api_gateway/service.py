"""The API gateway's objects: API keys, quotas, routes and rate limits."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aidevos import Service, resource
from aidevos.projects.memberships import Memberships
from aidevos.security.keys import ensure_secret
from aidevos.settings import Settings

from .api_key import ApiKeyDO, KeySecret
from .gateway import APIGatewayDO
from .idempotency_key import IdempotencyKeyDO
from .key_holder import KeyHolderDO
from .quota import QuotaDO
from .route import RouteDO

KEY_FILE = "api_keys.key"


@resource
async def memberships() -> AsyncIterator[Memberships]:
    yield Memberships()


@resource
async def secret(settings: Settings) -> AsyncIterator[KeySecret]:
    yield KeySecret(ensure_secret(settings.home, KEY_FILE))


service = Service(
    "api_gateway",
    types=(ApiKeyDO, IdempotencyKeyDO, KeyHolderDO, QuotaDO, APIGatewayDO, RouteDO),
    resources=(memberships, secret),
)
