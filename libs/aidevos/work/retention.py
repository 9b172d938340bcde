"""Retention: deletes objects that have reached their age, the oldest first."""

from __future__ import annotations

import asyncio
import logging
import time

from aidevos.contracts.errors import Failure
from aidevos.contracts.times import rfc3339, timestamp
from aidevos.durable.client.client import DurableObjectClient

log = logging.getLogger(__name__)
PAGE = 200
# Seconds between rounds, while more objects must be removed and when none is left.
PAUSE = 1.0
EVERY = 600.0


async def keep_expiring(client: DurableObjectClient, type: str, search: str, age: float) -> None:
    """Remove objects of a type that are older than `age` seconds, until cancelled.

    Several processes may do so at once. The search must accept `to`, an exclusive upper bound of the time, and `sort`
    by `at`. An object's command `expire` deletes it if it is old enough.
    """
    while True:
        removed = 0
        try:
            removed = await _expire_page(client, type, search, time.time() - age)
        except* Failure as failures:
            log.warning("removing old objects of type %s failed, trying again: %s", type, failures.exceptions[0])
        await asyncio.sleep(PAUSE if removed == PAGE else EVERY)


async def _expire_page(client: DurableObjectClient, type: str, search: str, before: float) -> int:
    page = await client.query(type, search, to=rfc3339(timestamp(before)), sort="at", limit=PAGE)
    async with asyncio.TaskGroup() as calls:
        for item in page["items"]:
            calls.create_task(client.call(type, item["id"], "expire"))
    return len(page["items"])
