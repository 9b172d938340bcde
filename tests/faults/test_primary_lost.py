"""A replica set that loses its primary under load, again and again."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from aidevos.contracts.errors import Failure
from aidevos.durable.client.client import RequestIds
from aidevos.durable.store.mongo import MongoStore
from aidevos.testing import ObjectKit
from tests.support.fault_objects import Tally
from tests.support.host_processes import eventually
from tests.support.kits import repeats
from tests.support.replica_set import ReplicaSet

LOSSES = repeats(3)


@pytest.fixture
def replica_set(tmp_path: Path) -> Iterator[ReplicaSet]:
    members = ReplicaSet(tmp_path)
    try:
        members.start()
        yield members
    finally:
        members.close()


@pytest.mark.timeout(180)
async def test_what_was_acknowledged_survives_the_primary_and_nothing_is_applied_twice(
    replica_set: ReplicaSet,
) -> None:
    ids = [secrets.token_hex(6) for _ in range(20)]
    store = MongoStore(replica_set.url, "lost")
    acknowledged: list[tuple[str, int]] = []
    losing = True

    async with ObjectKit(Tally, store=store) as kit:
        kit.clock.now = asyncio.get_running_loop().time  # type: ignore[method-assign]

        async def load(worker: int) -> None:
            requests = RequestIds(kit.clock.now)
            number = 0
            while losing or number < 50:
                number += 1
                id = ids[(worker + number) % len(ids)]
                taken = requests.take()
                headers = {"Request-Id": f"{requests.client}.{taken}", "Request-Ack": str(taken)}
                acknowledged.append((id, await _until_answered(kit, id, headers)))
                requests.settle(taken)

        async def lose() -> None:
            nonlocal losing
            for _ in range(LOSSES):
                await eventually(_grown(acknowledged, 200))
                primary = await asyncio.to_thread(replica_set.primary)
                await asyncio.to_thread(replica_set.kill, primary)
                await asyncio.to_thread(replica_set.primary)
                replica_set.start_member(primary)
            losing = False

        await asyncio.gather(lose(), *(load(worker) for worker in range(16)))

    async with ObjectKit(Tally, store=store) as successor:
        values = {id: await successor.call("tally", id, "value") for id in ids}
    store.close()

    assert values == dict(Counter(id for id, _ in acknowledged))
    for id in ids:
        assert sorted(value for of, value in acknowledged if of == id) == list(range(1, values[id] + 1))


def _grown(items: list[tuple[str, int]], by: int) -> Callable[[], Awaitable[bool]]:
    goal = len(items) + by

    async def grown() -> bool:
        return len(items) >= goal

    return grown


async def _until_answered(kit: ObjectKit, id: str, headers: dict[str, str]) -> int:
    """Repeat a request under its ID until it is answered, as the framework's client does."""
    while True:
        try:
            answer: int = await kit.call("tally", id, "add", headers=headers)
        except Failure as failure:
            if not failure.retryable:
                raise
            await asyncio.sleep(0.05)
        else:
            return answer
