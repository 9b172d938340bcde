"""A kit with the test's object type, and that type's counters at zero."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from aidevos.durable.base import backoff
from aidevos.testing import ObjectKit
from tests.support.objects import Tally


@pytest.fixture
async def kit() -> AsyncIterator[ObjectKit]:
    async with ObjectKit(Tally) as kit:
        yield kit


@pytest.fixture(scope="module")
def unjittered() -> Iterator[None]:
    """Make every pause between attempts as long as its maximum."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backoff, "JITTER", 0.0)
        yield


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Tally.gate = asyncio.Event()
    Tally.turns = 0
    Tally.hooks = []
