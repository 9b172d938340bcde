"""What type checkers know of the clients, the kit and objects: programs of users, under the strictest checks."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from aidevos.cli.main import main
from aidevos.client import Collection
from aidevos.client.sync import SyncCollection
from tests.support.paths import ROOT
from tests.support.snippets import python_files

SAMPLE = """
from collections.abc import Callable
from typing import Any, assert_type

import msgspec

from aidevos import BaseDurableObject, DurableObjectClient, authenticated, command
from aidevos.client import Item, connect, connect_sync
from aidevos.testing import ObjectKit


class Book(msgspec.Struct):
    title: str


class CounterState(msgspec.Struct):
    value: int = 0


class Counter(BaseDurableObject[CounterState], type="sample_counter"):
    @command(allow=authenticated())
    async def increment(self, by: int = 1) -> int:
        return by


class Weighed(Counter, type="sample_weighed"):
    @command(allow=authenticated())
    async def increment(self, by: int = 1, weight: float = 1.0) -> int:
        assert_type(await self.increment(by=2, weight=0.5), int)
        assert_type(await super().increment(by), int)
        return by


class Wrong(Counter, type="sample_wrong"):
    @command(allow=authenticated())
    async def increment(self, by: str) -> int:  # type: ignore[override]
        return len(by)


class Plain(BaseDurableObject[CounterState], type="sample_plain"):
    @command(allow=authenticated())  # type: ignore[arg-type]
    def increment(self) -> int:
        return 1


class Other(BaseDurableObject[CounterState], type="sample_other"):
    @command(allow=authenticated())
    async def go(self) -> int:
        assert_type(await self.object("counter", "a").increment(by=2), Any)
        return await self.object(Counter, "a").increment(2) + await self.object(Counter, "a").increment(by=2)


async def inside(client: DurableObjectClient) -> None:
    assert_type(await client.object(Counter, "a", deadline=1.0).increment(by=2), int)
    assert_type(await client.object("counter", "a").increment(by=2), Any)
    client.object(Counter, "a", patience=1)  # type: ignore[call-overload]


async def tested() -> None:
    async with ObjectKit(Counter) as kit:
        assert_type(await kit.object(Counter, "a").increment(2), int)
        await kit.object(Counter, "a").increment("two")  # type: ignore[arg-type]
        assert_type(await kit.object("sample_counter", "a").increment(by=2), Any)


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
        counter = client.object(Counter, "a", deadline=1.0)
        assert_type(counter.increment(by=2), int)
        assert_type(counter.increment(2), int)
        counter.increment(by="two")  # type: ignore[arg-type]
        counter.increment(step=2)  # type: ignore[call-arg]
        counter.decrement()  # type: ignore[attr-defined]
        assert_type(client.object("counter", "a").increment(by=2), Any)
        books = client.data.collection("books", Book)
        assert_type(books.get("a").data, Book)
        assert_type([item.data.title for item in books.find(sort="title")], list[str])
        books.get(7)  # type: ignore[arg-type]
        assert_type(client.auth.me().user.username, str)
        assert_type([task.status for task in client.tasks.progress("t")][0] == "queued", bool)


def keyed(key: Callable[[], str]) -> None:
    connect("http://fleet.test", token=key)  # type: ignore[arg-type]
"""


# A `type: ignore` for an error that isn't there is an error, too.
PYRIGHT = {
    "typeCheckingMode": "standard",
    "strict": ["sample.py", "grocery"],
    "reportUnnecessaryTypeIgnoreComment": True,
    "executionEnvironments": [{"root": "grocery"}, {"root": "pages"}],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write what users write: a program, a new project, and what the documentation has them write."""
    monkeypatch.chdir(tmp_path)
    for words in (("project", "grocery"), ("object", "ShoppingCart"), ("task", "report")):
        assert main(["new", *words]) == 0
        monkeypatch.chdir(tmp_path / "grocery")
    (tmp_path / "pages").mkdir()
    for name, code in python_files().items():
        (tmp_path / "pages" / name).write_text(code)
    (tmp_path / "sample.py").write_text(SAMPLE)
    return tmp_path


def test_pyright_finds_the_mistakes_of_users_and_no_others(folder: Path) -> None:
    (folder / "pyrightconfig.json").write_text(json.dumps(PYRIGHT))

    command = [ROOT / "tools" / "pyright" / "node_modules" / ".bin" / "pyright", "--pythonpath", sys.executable]
    checked = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)

    assert checked.stdout.rstrip() == "0 errors, 0 warnings, 0 informations"


def test_mypy_finds_the_mistakes_of_users_and_no_others(tmp_path: Path) -> None:
    sample = tmp_path / "sample.py"
    sample.write_text(SAMPLE)

    # Strict checks also report an ignored error that isn't there.
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary", str(sample)]
    checked = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)

    assert checked.stdout == ""


def test_the_written_out_methods_of_a_collection_take_what_the_asynchronous_ones_take() -> None:
    for name in ("create", "get", "put", "patch", "find", "restore"):
        waits, awaited = (inspect.signature(getattr(cls, name)) for cls in (SyncCollection, Collection))
        assert waits.parameters == awaited.parameters, name
