"""Commits of a type that sets a least time between its bulk writes."""

from __future__ import annotations

import asyncio

import msgspec

from aidevos import BaseDurableObject, anyone, command
from aidevos.testing import ObjectKit
from tests.support.kits import begun


class NoteState(msgspec.Struct):
    text: str = ""


class Note(BaseDurableObject[NoteState], type="note"):
    commit_interval = 1.0

    @command(allow=anyone(), creates=True)
    async def write(self, text: str) -> str:
        self.state.text = text
        return text


async def test_commits_that_come_between_two_bulk_writes_share_the_next_one() -> None:
    async with ObjectKit(Note) as kit:
        await kit.call("note", "first", "write", text="a")
        writes = kit.store.commits
        later = [await begun(kit.call("note", f"n{number}", "write", text="b")) for number in range(8)]
        unanswered = [call for call in later if not call.done()]
        assert await asyncio.gather(*later) == ["b"] * 8

        # On a very busy machine, the interval may end while the calls begin.
        assert kit.store.commits - writes <= 2
        assert unanswered
        assert len(kit.store.documents["note"]) == 9


async def test_a_commit_that_comes_alone_does_not_wait() -> None:
    class Rare(Note, type="rare"):
        commit_interval = 3600.0

    async with ObjectKit(Rare) as kit, asyncio.timeout(60):
        assert await kit.call("rare", "a", "write", text="a") == "a"
