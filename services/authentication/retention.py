"""The end of the security log's entries: by age, the oldest first, so many at a time."""

from __future__ import annotations

import asyncio
import logging
import time

from aidevos import DurableObjectClient, Failure
from aidevos.contracts import audit
from aidevos.durable.clock import rfc3339, timestamp
from aidevos.settings import Settings

log = logging.getLogger(__name__)
PAGE = 200
# Seconds between rounds: while there is more to remove, and when all is done.
PAUSE = 1.0
EVERY = 600.0


async def expire_entries(outside: DurableObjectClient, settings: Settings) -> None:
    """Remove the entries that are older than `audit_age`, for as long as the service runs. Several processes may."""
    while True:
        removed = 0
        try:
            removed = await _expire_page(outside, time.time() - settings.audit_age)
        except Failure as failure:
            log.warning("removing old entries of the security log failed, trying again: %s", failure)
        await asyncio.sleep(PAUSE if removed == PAGE else EVERY)


async def _expire_page(outside: DurableObjectClient, before: float) -> int:
    oldest = {"to": rfc3339(timestamp(before)), "sort": "at", "limit": PAGE}
    page = await outside.query(audit.TYPE, audit.SEARCH, oldest)
    for entry in page["items"]:
        await outside.call(audit.TYPE, entry["id"], "expire")
    return len(page["items"])
