"""Task handlers that run in tests."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from aidevos import BaseDurableObject, Failure, TaskContext, permission, query, task
from aidevos.testing import ObjectKit, run_task


class Report(msgspec.Struct):
    title: str
    pages: int = 1


class ShelfState(msgspec.Struct):
    books: int = 7


class Shelf(BaseDurableObject[ShelfState], type="shelf"):
    @query(allow=permission("shelf:read"))
    async def books(self) -> int:
        return self.state.books


@task("report")
async def report(context: TaskContext, payload: Report) -> dict[str, Any]:
    await context.progress(0.5)
    return {"title": payload.title, "attempt": context.attempt, "kind": context.kind}


@task("stock")
async def stock(context: TaskContext, payload: dict[str, Any]) -> Any:
    return await context.objects.call("shelf", "a", "books")


@task("printed")
async def printed(context: TaskContext, payload: dict[str, Any], printer: list[str]) -> object:
    printer.append(context.kind)
    return object()


async def test_an_attempt_gets_its_payload_and_returns_its_result() -> None:
    assert await run_task(report, {"title": "May"}, attempt=2) == {"title": "May", "attempt": 2, "kind": "report"}


async def test_a_payload_of_another_type_is_refused() -> None:
    with pytest.raises(Failure, match="Expected `int`"):
        await run_task(report, {"title": "May", "pages": "two"})


async def test_a_task_calls_the_objects_of_a_kit() -> None:
    async with ObjectKit(Shelf) as kit:
        assert await run_task(stock, objects=kit) == 7


async def test_needs_are_given_by_name_and_a_result_must_be_json() -> None:
    printer: list[str] = []

    with pytest.raises(Failure, match="the result is not JSON"):
        await run_task(printed, printer=printer)
    assert printer == ["printed"]
