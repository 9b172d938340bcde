"""The import of objects: lines of JSON are loaded in batches, each of which takes effect once.

Promise: a batch that is sent again has the same `Idempotency-Key`, so no line is loaded twice.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from aidevos.backup.outcome import MAX_SHOWN, Outcome
from aidevos.cli.items import BATCH, BATCH_SIZE, BUSY, PAUSES, OnConflict
from aidevos.client.api import HttpApi
from aidevos.client.errors import ApiError
from aidevos.contracts.objects import LoadedLine

PATH = "/durable-objects/import"
NDJSON = "application/x-ndjson"
# Lines of one request of an import that ends at its first failure.
BATCH_TO_STOP = 20
TOO_LARGE = 413
_result = msgspec.json.Decoder(LoadedLine)
# The number of a line, and its content.
Line = tuple[int, bytes]


class ObjectImport:
    """Loads objects into a fleet. `on_done` is called with the number of lines that are done."""

    def __init__(
        self,
        api: HttpApi,
        on_conflict: OnConflict,
        *,
        dry_run: bool = False,
        stop: bool = False,
        on_done: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._api = api
        self._params = {"on_conflict": on_conflict} | ({"dry_run": "true"} if dry_run else {})
        self._stop = stop
        self._on_done = on_done
        self._counts: Counter[str] = Counter()
        self._failures: list[str] = []

    @property
    def outcome(self) -> Outcome:
        return Outcome(**self._counts, failures=self._failures)

    async def run(self, lines: Iterable[bytes]) -> None:
        """Load lines. Raises `ApiError` if the fleet can't be reached or refuses the caller."""
        for batch in _batches(lines, BATCH_TO_STOP if self._stop else BATCH):
            for (number, _), result in zip(batch, await self._load(batch), strict=True):
                self._note(number, result)
            if self._stop and self._counts["failed"]:
                return

    async def _load(self, batch: list[Line]) -> list[LoadedLine]:
        """Return the result of each line."""
        headers = {"Content-Type": NDJSON, "Idempotency-Key": secrets.token_hex(16)}
        body = b"".join(line.rstrip(b"\n") + b"\n" for _, line in batch)
        for pause in (*PAUSES, None):
            try:
                answer = await self._api.call("POST", PATH, body=body, params=self._params, headers=headers)
            except ApiError as error:
                if error.status != TOO_LARGE:
                    raise
                return [LoadedLine(status=TOO_LARGE, problem={"code": error.code, "detail": error.detail})] * len(batch)
            results = [_result.decode(line) for line in answer.split("\n") if line]
            if pause is None or not any(result.status in BUSY for result in results):
                break
            await asyncio.sleep(pause)
        return results

    def _note(self, number: int, result: LoadedLine) -> None:
        self._counts[result.outcome or "failed"] += 1
        self._on_done(1)
        if result.outcome is None and len(self._failures) < MAX_SHOWN:
            problem: dict[str, Any] = result.problem or {}
            named = f"{result.object_id}: " if result.object_id else ""
            self._failures.append(f"line {number}: {named}{problem.get('code')}: {problem.get('detail')}")


def _batches(lines: Iterable[bytes], most: int) -> Iterator[list[Line]]:
    """Yield lines that aren't empty, in batches of bounded number and size. A large line is a batch of its own."""
    batch: list[Line] = []
    size = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if batch and (len(batch) == most or size + len(line) > BATCH_SIZE):
            yield batch
            batch, size = [], 0
        batch.append((number, line))
        size += len(line)
    if batch:
        yield batch
