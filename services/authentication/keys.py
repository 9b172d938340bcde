"""The rotation of the fleet's signing keys, and its record in the security log."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os

from aidevos import DurableObjectClient, Failure
from aidevos.contracts import audit
from aidevos.security import keys
from aidevos.security.key_ring import Key, Ring
from aidevos.settings import Settings

TEND_EVERY = 1.0
SELF = "service:authentication"

log = logging.getLogger(__name__)


async def tend_keys(objects: DurableObjectClient, settings: Settings) -> None:
    """Rotate the keys by age until cancelled, and write each rotation into the security log.

    Rotations that an operator has requested are logged too.
    """
    recorded: set[str] = set()
    while True:
        try:
            ring = await asyncio.to_thread(_maintain, settings)
            for key in ring:
                if key.id not in recorded and key.cause != "first":
                    await _record(objects, key)
                    recorded.add(key.id)
        except (OSError, ValueError, Failure) as error:
            log.error("could not maintain the signing keys, will retry: %s", error)
        await asyncio.sleep(TEND_EVERY)


def _maintain(settings: Settings) -> Ring:
    """Return the ring after the changes that are due, or as it is where only the owner of the keys can change them."""
    if not os.access(settings.home / keys.FOLDER, os.W_OK):
        return keys.load_ring(settings.home)
    return keys.maintain(settings.home, settings.key_age, settings.key_notice)


async def _record(objects: DurableObjectClient, key: Key) -> None:
    # The ID is the same for every process and each attempt, so that there is one entry per rotation.
    id = hashlib.sha256(f"keys.rotated {key.id}".encode()).hexdigest()[:32]
    try:
        await objects.call(
            audit.TYPE,
            id,
            "record",
            at=key.made_at,
            actor=SELF if key.cause == "age" else "",
            action="keys.rotated",
            target=key.id,
            outcome="success",
            reason=key.cause,
            address="",
            session="",
        )
    except Failure as failure:
        if failure.code != "exists":
            raise
