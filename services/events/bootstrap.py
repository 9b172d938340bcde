"""The composition root of the events service."""

from __future__ import annotations

from typing import Any

from aidevos import BaseDurableObject, DurableObjectClient
from aidevos.contracts import dead_letters
from aidevos.durable.retention import keep_expiring
from aidevos.security.delegations import Delegations
from aidevos.security.keys import SigningKeys
from aidevos.security.sealed import Sealer
from aidevos.security.tokens import TokenIssuer
from aidevos.settings import Settings
from services.events.dead_letter import DeadLetterDO
from services.events.replay import ReplayDO

SERVICE = "events"
TYPES: tuple[type[BaseDurableObject[Any]], ...] = (DeadLetterDO, ReplayDO)


def build(settings: Settings) -> tuple[type[BaseDurableObject[Any]], ...]:
    """The types, with what they work with."""
    DeadLetterDO.settings = settings
    DeadLetterDO.sealer = Sealer(settings)
    keys = SigningKeys(settings.home)
    ReplayDO.issuer = TokenIssuer(keys, settings.public_url)
    ReplayDO.delegations = Delegations(keys, settings.public_url, SERVICE)
    return TYPES


async def tend(outside: DurableObjectClient, settings: Settings) -> None:
    """What the service does by itself, until cancelled."""
    await keep_expiring(outside, dead_letters.TYPE, dead_letters.SEARCH, settings.letter_age)
