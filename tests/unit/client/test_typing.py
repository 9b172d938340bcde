"""What a type checker knows of the client: a program of a user, under the strictest checks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT

SAMPLE = """
from collections.abc import Callable
from typing import Any, assert_type

import msgspec

from aidevos import BaseDurableObject, DurableObjectClient, authenticated, command
from aidevos.client import Item, connect, connect_sync


class Book(msgspec.Struct):
    title: str


class CounterState(msgspec.Struct):
    value: int = 0


class Counter(BaseDurableObject[CounterState], type="sample_counter"):
    @command(allow=authenticated())
    async def increment(self, by: int = 1) -> int:
        return by


class Other(BaseDurableObject[CounterState], type="sample_other"):
    @command(allow=authenticated())
    async def go(self) -> int:
        assert_type(await self.object("counter", "a").increment(by=2), Any)
        return await self.object(Counter, "a").increment(2) + await self.object(Counter, "a").increment(by=2)


async def inside(client: DurableObjectClient) -> None:
    assert_type(await client.object(Counter, "a", deadline=1.0).increment(by=2), int)
    assert_type(await client.object("counter", "a").increment(by=2), Any)
    client.object(Counter, "a", patience=1)  # type: ignore[call-overload]


async def asynchronous() -> None:
    async with connect("http://fleet.test", token="t") as client:
        counter = client.object(Counter, "a", deadline=1.0)
        assert_type(await counter.increment(by=2), int)
        assert_type(await counter.increment(2), int)
        await counter.increment(by="two")  # type: ignore[arg-type]
        await counter.increment(step=2)  # type: ignore[call-arg]
        await counter.decrement()  # type: ignore[attr-defined]
        assert_type(await client.object("counter", "a").increment(by=2), Any)
        books = client.data.collection("books", Book)
        assert_type((await books.get("a")).data, Book)
        assert_type([item async for item in books.find({"title": "a"})], list[Item[Book]])
        await books.create(Counter)  # type: ignore[arg-type]
        assert_type((await client.data.collection("any").get("a")).data, Any)
        assert_type((await client.auth.me()).user.username, str)
        assert_type([event.type async for event in client.events(type="item")], list[str])


def synchronous() -> None:
    with connect_sync("http://fleet.test", token="t") as client:
        assert_type(client.object(Counter, "a").call(Counter.increment, by=2), int)
        client.object(Counter, "a").call(Counter.increment, by="two")  # type: ignore[arg-type]
        assert_type(client.object(Counter, "a").increment(by=2), Any)
        books = client.data.collection("books", Book)
        assert_type(books.get("a").data, Book)
        assert_type([item.data.title for item in books.find(sort="title")], list[str])
        books.get(7)  # type: ignore[arg-type]
        assert_type(client.auth.me().user.username, str)
        assert_type([task.status for task in client.tasks.progress("t")][0] == "queued", bool)


def keyed(key: Callable[[], str]) -> None:
    connect("http://fleet.test", token=key)  # type: ignore[arg-type]
"""


def test_a_program_of_a_user_is_checked_as_strictly_as_can_be(tmp_path: Path) -> None:
    sample = tmp_path / "sample.py"
    sample.write_text(SAMPLE)

    # Strict checks also report an ignored error that isn't there.
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary", str(sample)]
    checked = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)

    assert checked.stdout == ""
