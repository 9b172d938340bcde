"""The shares of webhooks and their owners in the concurrent requests."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from services.events.sends import Sends


async def admitted(held: AsyncExitStack, sends: Sends, webhook: str, owner: str) -> bool:
    return await held.enter_async_context(sends.turn(webhook, owner))


async def test_no_receiver_and_no_owner_takes_more_than_a_share() -> None:
    sends = Sends(total=8, each=1, patience=0.01)
    async with AsyncExitStack() as held:
        hers = [await admitted(held, sends, webhook, "ada") for webhook in ("a", "a", "b", "c")]
        others = [await admitted(held, sends, owner, owner) for owner in "defghi"]
        one_more = await admitted(held, sends, "j", "j")
    async with AsyncExitStack() as held:
        afterwards = [await admitted(held, sends, webhook, "ada") for webhook in ("a", "c")]

    assert hers == [True, False, True, False]
    assert (others, one_more, afterwards) == ([True] * 6, False, [True, True])


async def test_whoever_waits_gets_the_turn_of_one_that_ends() -> None:
    sends = Sends(total=4, each=1, patience=5.0)
    async with AsyncExitStack() as later:
        async with sends.turn("a", "ada"):
            waiting = asyncio.create_task(admitted(later, sends, "a", "ada"))
            await asyncio.sleep(0)
            assert not waiting.done()
        assert await waiting
