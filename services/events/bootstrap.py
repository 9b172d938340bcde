"""The composition root of the events service."""

from __future__ import annotations

from typing import Any

from aidevos import BaseDurableObject, DurableObjectClient
from aidevos.contracts import dead_letters
from aidevos.durable.retention import keep_expiring
from aidevos.security.sealed import Sealer
from aidevos.settings import Settings
from services.events.dead_letter import DeadLetterDO

SERVICE = "events"
TYPES: tuple[type[BaseDurableObject[Any]], ...] = (DeadLetterDO,)


def build(settings: Settings) -> tuple[type[BaseDurableObject[Any]], ...]:
    """The types, with what they work with."""
    DeadLetterDO.settings = settings
    DeadLetterDO.sealer = Sealer(settings)
    return TYPES


async def tend(outside: DurableObjectClient, settings: Settings) -> None:
    """What the service does by itself, until cancelled."""
    await keep_expiring(outside, dead_letters.TYPE, dead_letters.SEARCH, settings.letter_age)
