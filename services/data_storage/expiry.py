"""The removal of expired items, which are invisible from the moment of their expiry.

Each process of the service searches for them periodically. Every item checks its own expiry before it
goes, so it is harmless if several processes search at once or one dies halfway.
"""

from __future__ import annotations

import asyncio
import logging

from aidevos import DurableObjectClient, Failure
from aidevos.contracts.data import ITEM_TYPE
from aidevos.settings import Settings

from .item_views import EXPIRED

AT_ONCE = 100

log = logging.getLogger(__name__)


async def remove_expired(objects: DurableObjectClient, settings: Settings) -> None:
    """Remove expired items until cancelled."""
    while True:
        try:
            removed = await _remove_batch(objects)
        except Failure as failure:
            log.warning("could not remove expired items, will retry: %s", failure)
            removed = 0
        if removed < AT_ONCE:
            await asyncio.sleep(settings.expiry_interval)


async def _remove_batch(objects: DurableObjectClient) -> int:
    """Remove the items that expired first, and return their number."""
    ids: list[str] = await objects.query(ITEM_TYPE, EXPIRED, limit=AT_ONCE)
    await asyncio.gather(*(_remove_item(objects, id) for id in ids))
    return len(ids)


async def _remove_item(objects: DurableObjectClient, id: str) -> None:
    try:
        await objects.call(ITEM_TYPE, id, "vanish", by="expiry")
    except Failure as failure:
        if failure.code != "not-found":
            raise
