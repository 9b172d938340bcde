"""The composition root of the API gateway's objects: keys, quotas and routes."""

from __future__ import annotations

from typing import Any

from aidevos import BaseDurableObject
from aidevos.projects.memberships import Memberships
from aidevos.security.keys import ensure_secret
from aidevos.settings import Settings

from .api_key import ApiKeyDO
from .idempotency_key import IdempotencyKeyDO
from .key_holder import KeyHolderDO
from .quota import QuotaDO, RateLimitsDO
from .route import RouteDO

SERVICE = "api_gateway"
TYPES: tuple[type[BaseDurableObject[Any]], ...] = (
    ApiKeyDO,
    IdempotencyKeyDO,
    KeyHolderDO,
    QuotaDO,
    RateLimitsDO,
    RouteDO,
)
KEY_FILE = "api_keys.key"


def build(settings: Settings) -> tuple[type[BaseDurableObject[Any]], ...]:
    """The types, with what they work with."""
    ApiKeyDO.memberships = Memberships()
    ApiKeyDO.secret = ensure_secret(settings.home, KEY_FILE)
    return TYPES
