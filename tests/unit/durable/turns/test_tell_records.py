"""The records of tells between objects: one for each sender, and each tell takes effect once, whichever copy comes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from aidevos.contracts.envelope import TELL_PREFIX
from aidevos.durable.turns.completion import CHOSEN_IN_DOCUMENT, Bounds, Client
from aidevos.durable.turns.environment import Limits
from aidevos.durable.turns.headers import digest
from aidevos.testing import ObjectKit
from tests.support.kits import START, crash, failure, number, until
from tests.support.objects import Tally

DAY = 86_400.0
SENDER = digest("tally:sender")


def told(count: int, sender: str = SENDER, *, settles: bool = True, at: float = START) -> dict[str, Any]:
    """Return the options of a sender's tell number `count`. Earlier versions didn't say what it `settles`."""
    headers = {"Request-Ack": str(number(count, at))} if settles else {}
    return {"request_id": f"{TELL_PREFIX}{number(count, at)}.{sender}", "headers": headers}


async def add(kit: ObjectKit, options: dict[str, Any], by: int = 1) -> int:
    reply: int = msgspec.json.decode(await kit.request("do.tally.a.add", b'{"by":%d}' % by, **options))
    return reply


def stored(kit: ObjectKit) -> tuple[list[int], list[str]]:
    """Return how many records each sender has, and the chosen keys."""
    records = kit.store.documents["tally"]["a"]["replies"]
    clients = (Client.from_document(each) for each in records.get("clients", {}).values())
    return [len(client.records) for client in clients], list(records.get("chosen", {}))


async def test_each_sender_leaves_one_record_however_many_tells_it_sends(kit: ObjectKit) -> None:
    for _ in range(CHOSEN_IN_DOCUMENT + 10):
        await kit.call("tally", "b", "tell_other", id="a", method="add")
    await kit.call("tally", "c", "tell_other", id="a", method="add", times=20)
    await kit.settle()

    assert await kit.call("tally", "a", "value") == CHOSEN_IN_DOCUMENT + 30
    assert stored(kit) == ([1, 1], [])
    assert "archived" not in kit.store.documents["tally"]["a"]


@pytest.mark.parametrize("after", ["at once", "after a crash"])
async def test_a_repeat_of_the_last_tell_gets_its_outcome_and_a_late_copy_counts_as_settled(
    kit: ObjectKit, after: str
) -> None:
    assert [await add(kit, told(count)) for count in (1, 2, 5)] == [1, 2, 3]
    if after == "after a crash":
        await crash(kit)
        kit = ObjectKit(Tally, store=kit.store)
    assert await add(kit, told(5)) == 3
    for late in (1, 2, 3, 4):
        assert await add(kit, told(late)) is None
    assert await add(kit, told(5)) == 3
    assert await kit.call("tally", "a", "value") == 3


async def test_a_number_is_not_used_for_another_tell(kit: ObjectKit) -> None:
    await add(kit, told(1))
    assert (await failure(add(kit, told(1), by=2))).code == "request-id-reused"


@pytest.mark.parametrize("archived", [False, True])
async def test_a_tell_that_an_earlier_version_applied_is_not_applied_again(kit: ObjectKit, archived: bool) -> None:
    for count in range(1, CHOSEN_IN_DOCUMENT + 2 if archived else 3):
        await add(kit, told(count, settles=False))
    await until(lambda: ("archived" in kit.store.documents["tally"]["a"]) is archived)
    before = await kit.call("tally", "a", "value")

    assert await add(kit, told(1)) == 1
    assert await add(kit, told(before)) == before
    assert await add(kit, told(before + 1)) == before + 1


async def test_a_senders_mark_lives_as_long_as_tells_are_tried() -> None:
    async with ObjectKit(Tally, limits=Limits(records=Bounds(age=DAY, tell_age=3 * DAY))) as kit:
        await add(kit, told(1))
        await add(kit, told(2))
        kit.clock.advance(2 * DAY)
        await add(kit, told(1, digest("another"), at=kit.clock.now()))
        assert await add(kit, told(1)) is None
        assert await add(kit, told(2)) == 2
        kit.clock.advance(2 * DAY)
        await add(kit, told(2, digest("another"), at=kit.clock.now()))
        assert stored(kit)[0] == [1]


async def test_senders_that_move_to_the_archive_are_still_known() -> None:
    async with ObjectKit(Tally, limits=Limits(records=Bounds(clients=20))) as kit:
        senders = [digest(f"sender {each}") for each in range(40)]
        for sender in senders:
            await add(kit, told(1, sender))
            await add(kit, told(2, sender))
        await kit.settle()
        assert len(stored(kit)[0]) <= 20
        assert [await add(kit, told(1, sender)) for sender in senders] == [None] * 40
        assert [await add(kit, told(2, sender)) for sender in senders] == list(range(2, 82, 2))
