"""The batches of an import: lines of bounded number and size, sent again while the fleet has no room for some."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TypeVar

# The lines and the bytes of one request.
BATCH, BATCH_SIZE = 200, 1024 * 1024
# Statuses of lines for which the fleet had no room, and the pauses in seconds before the batch is sent again.
BUSY, PAUSES = frozenset({429, 503}), (0.5, 1.0, 2.0, 4.0, 8.0)
L = TypeVar("L")
R = TypeVar("R")


def numbered(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that aren't empty, with their numbers."""
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def in_batches(lines: Iterable[L], size_of: Callable[[L], int], most: int) -> Iterator[list[L]]:
    """Yield lines in batches of at most `most`, and of `BATCH_SIZE` bytes. A larger line is a batch of its own."""
    batch: list[L] = []
    size = 0
    for line in lines:
        if batch and (len(batch) == most or size + size_of(line) > BATCH_SIZE):
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += size_of(line)
    if batch:
        yield batch


async def send_batch(send: Callable[[], Awaitable[list[R]]], status_of: Callable[[R], int]) -> list[R]:
    """Return the result of each line, once the fleet has had room for all or the pauses are used up.

    `send` sends the batch, always with the same `Idempotency-Key`, so that no line takes effect twice.
    """
    for pause in PAUSES:
        results = await send()
        if not any(status_of(result) in BUSY for result in results):
            return results
        await asyncio.sleep(pause)
    return await send()
