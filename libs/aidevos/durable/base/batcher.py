"""Batching of single calls: while one batch is being processed, the next one gathers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Combines single items into batches.

    `process` takes a batch of at most `limit` items and returns one result per item, in the same order. If it raises,
    every item of the batch fails with that exception. At most one batch is processed at a time.
    """

    def __init__(self, process: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]], limit: int = 500) -> None:
        self._process = process
        self._limit = limit
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._task: asyncio.Task[None] | None = None

    async def get(self, item: Item) -> Result:
        """Return the result for one item, once its batch has been processed."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future))
        if self._task is None:
            self._task = loop.create_task(self._run())
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
                await self._process_batch(batch)
        finally:
            self._task = None

    async def _process_batch(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._process([item for item, _ in batch])
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
