"""The shares of webhooks and their owners in the concurrent requests."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from aidevos import Peers
from services.events.sends import Sends


async def admitted(held: AsyncExitStack, sends: Sends, webhook: str, owner: str) -> bool:
    return await held.enter_async_context(sends.turn(webhook, owner))


async def test_no_receiver_and_no_owner_takes_more_than_a_share() -> None:
    sends = Sends(total=8, each=1, peers=Peers(), patience=0.01)
    async with AsyncExitStack() as held:
        hers = [await admitted(held, sends, webhook, "ada") for webhook in ("a", "a", "b", "c")]
        others = [await admitted(held, sends, owner, owner) for owner in "defghi"]
        one_more = await admitted(held, sends, "j", "j")
    async with AsyncExitStack() as held:
        afterwards = [await admitted(held, sends, webhook, "ada") for webhook in ("a", "c")]

    assert hers == [True, False, True, False]
    assert (others, one_more, afterwards) == ([True] * 6, False, [True, True])


async def test_whoever_waits_gets_the_turn_of_one_that_ends() -> None:
    sends = Sends(total=4, each=1, peers=Peers(), patience=5.0)
    async with AsyncExitStack() as later:
        async with sends.turn("a", "ada"):
            waiting = asyncio.create_task(admitted(later, sends, "a", "ada"))
            await asyncio.sleep(0)
            assert not waiting.done()
        assert await waiting


@pytest.mark.parametrize("hosts", [2, 3])
async def test_the_processes_of_a_fleet_share_the_limits(hosts: int) -> None:
    peers = Peers(hosts)
    processes = [Sends(total=24, each=5, peers=peers, patience=0.01) for _ in range(hosts)]
    async with AsyncExitStack() as held:
        to_one = [await admitted(held, sends, "a", "ada") for sends in processes for _ in range(5)]
    async with AsyncExitStack() as held:
        for_one = [await admitted(held, sends, f"b{number}", "ada") for sends in processes for number in range(6)]
    async with AsyncExitStack() as held:
        total = [await admitted(held, sends, f"c{number}", f"{number}") for sends in processes for number in range(24)]

    # The shares are rounded down.
    assert (sum(to_one), sum(for_one), sum(total)) == (hosts * (5 // hosts), 6, 24)


async def test_a_process_takes_over_the_slots_of_those_that_left() -> None:
    peers = Peers(4)
    sends = Sends(total=8, each=8, peers=peers, patience=0.01)
    async with AsyncExitStack() as held:
        among_four = [await admitted(held, sends, "a", each) for each in ("ada", "bob", "eve")]
        peers.count = 2
        among_two = [await admitted(held, sends, "a", each) for each in ("eve", "joe", "kim")]

    assert (among_four, among_two) == ([True, True, False], [True, True, False])
