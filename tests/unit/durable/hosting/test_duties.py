"""A duty runs while its partition is owned, and has ended before another host can begin it."""

from __future__ import annotations

import asyncio

from aidevos.contracts import subjects
from aidevos.durable.hosting.duties import Duties
from tests.support.kits import until


class Work:
    """Counts its beginnings and ends. Each run fails when `fail` is set."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0
        self.fail = asyncio.Event()

    async def __call__(self) -> None:
        self.begun += 1
        try:
            await self.fail.wait()
            self.fail.clear()
            raise RuntimeError("a bug")
        finally:
            await asyncio.sleep(0)
            self.ended += 1


async def test_a_duty_runs_only_while_its_partition_is_owned() -> None:
    duties, work = Duties(4), Work()
    duties.add("cat", "feed", work)
    place = subjects.partition("cat", "feed", 4)

    duties.take("cat", [each for each in range(4) if each != place])
    duties.take("dog", [place])
    await asyncio.sleep(0)
    assert work.begun == 0
    duties.take("cat", [place])
    await until(lambda: work.begun == 1)
    await duties.drop("cat", place)
    assert work.ended == 1
    duties.take("cat", [place])
    await until(lambda: work.begun == 2)
    await duties.close()
    assert work.ended == 2


async def test_a_duty_that_fails_begins_again() -> None:
    duties, work = Duties(1), Work()
    duties.add("cat", "feed", work)
    duties.take("cat", [0])
    work.fail.set()
    await until(lambda: work.begun == 2)
    await duties.close()


async def test_duties_of_one_type_are_spread_over_its_partitions() -> None:
    duties = Duties(64)
    for number in range(10):
        duties.add("cat", f"chore {number}", Work())
    assert len(duties._works) > 5
