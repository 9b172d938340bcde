"""A kit with the test's object type, and that type's counters at zero."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from aidevos.testing import ObjectKit
from tests.support.objects import Tally


@pytest.fixture
async def kit() -> AsyncIterator[ObjectKit]:
    async with ObjectKit(Tally) as kit:
        yield kit


@pytest.fixture(autouse=True)
async def _fresh() -> None:
    Tally.gate = asyncio.Event()
    Tally.turns = 0
    Tally.hooks = []
