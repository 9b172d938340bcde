"""The end of items whose time is over. They are invisible from that moment on; here they are removed.

Each process of the service looks for them now and then. The items judge for themselves, so it does
no harm when several look at once, or when one dies in the middle.
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
    """Go on until cancelled."""
    while True:
        try:
            removed = await _remove(objects)
        except Failure as failure:
            log.warning("expired items could not be removed, trying again: %s", failure)
            removed = 0
        if removed < AT_ONCE:
            await asyncio.sleep(settings.expiry_interval)


async def _remove(outside: DurableObjectClient) -> int:
    """Remove those that have expired first; how many there were."""
    ids: list[str] = await outside.query(ITEM_TYPE, EXPIRED, {"limit": AT_ONCE})
    await asyncio.gather(*(_end(outside, id) for id in ids))
    return len(ids)


async def _end(outside: DurableObjectClient, id: str) -> None:
    try:
        await outside.call(ITEM_TYPE, id, "vanish", {"by": "expiry"})
    except Failure as failure:
        if failure.code != "not-found":
            raise
