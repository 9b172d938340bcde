"""Retention: the objects of a page end together, and a failure is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from aidevos import DurableObjectClient, Failure
from aidevos.work import retention
from tests.support.kits import until

IDS = ["a", "b", "c"]


class Entries:
    """A client of a type with three old objects. `before_expiry` runs before each of them expires."""

    def __init__(self, before_expiry: Callable[[str], Awaitable[Any]]) -> None:
        self.left = list(IDS)
        self._before_expiry = before_expiry

    async def query(self, type: str, name: str, /, **args: Any) -> Any:
        return {"items": [{"id": id} for id in self.left]}

    async def call(self, type: str, id: str, method: str) -> None:
        assert method == "expire"
        await self._before_expiry(id)
        self.left.remove(id)


async def expire(entries: Entries) -> None:
    """Keep expiring until nothing is left."""
    keeping = asyncio.create_task(
        retention.keep_expiring(cast(DurableObjectClient, entries), "entry", "search", age=1.0)
    )
    try:
        await until(lambda: not entries.left)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def test_the_objects_of_a_page_expire_together() -> None:
    together = asyncio.Barrier(len(IDS))
    entries = Entries(lambda id: together.wait())

    await expire(entries)

    assert entries.left == []


async def test_a_failure_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "EVERY", 0.0)
    failures = [Failure("unavailable", "try again")]

    async def fail_once(id: str) -> None:
        if id == "b" and failures:
            raise failures.pop()

    entries = Entries(fail_once)

    await expire(entries)

    assert failures == []
