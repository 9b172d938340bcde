"""The pace of simulated clients."""

from __future__ import annotations

import asyncio
import random

import pytest

from aidevos.testing.simulation.loop import VirtualLoop, new_loop
from aidevos.testing.simulation.pace import HURRY_FOR, Pace


@pytest.fixture
def loop() -> VirtualLoop:
    return new_loop(random.Random(1))


def test_a_client_waits_as_long_as_planned_while_nothing_happens(loop: VirtualLoop) -> None:
    pace = Pace(loop, random.Random(2))
    loop.run_until_complete(pace.wait(3.0))
    assert loop.now == 3.0


def test_all_clients_hurry_when_something_happens(loop: VirtualLoop) -> None:
    pace = Pace(loop, random.Random(2))

    async def work() -> None:
        await pace.wait(5.0)

    async def main() -> None:
        loop.world.call(pace.hurry, delay=1.0)
        await asyncio.gather(*(loop.process(name).start(work()) for name in "abcd"))

    loop.run_until_complete(main())
    assert 1.0 < loop.now < 1.0 + HURRY_FOR
