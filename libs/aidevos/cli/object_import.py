"""The import of objects: lines of JSON are loaded in batches, each of which takes effect once.

Promise: a batch that is sent again has the same `Idempotency-Key`, so no line is loaded twice.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from aidevos.backup.outcome import MAX_SHOWN, Outcome
from aidevos.cli.batches import BATCH, in_batches, numbered, send_batch
from aidevos.cli.items import OnConflict
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
        most = BATCH_TO_STOP if self._stop else BATCH
        for batch in in_batches(numbered(lines), lambda line: len(line[1]), most):
            for (number, _), result in zip(batch, await self._load(batch), strict=True):
                self._note(number, result)
            if self._stop and self._counts["failed"]:
                return

    async def _load(self, batch: list[Line]) -> list[LoadedLine]:
        """Return the result of each line."""
        headers = {"Content-Type": NDJSON, "Idempotency-Key": secrets.token_hex(16)}
        body = b"".join(line.rstrip(b"\n") + b"\n" for _, line in batch)

        async def send() -> list[LoadedLine]:
            answer = await self._api.call("POST", PATH, body=body, params=self._params, headers=headers)
            return [_result.decode(line) for line in answer.split("\n") if line]

        try:
            return await send_batch(send, lambda result: result.status)
        except ApiError as error:
            if error.status != TOO_LARGE:
                raise
            return [LoadedLine(status=TOO_LARGE, problem={"code": error.code, "detail": error.detail})] * len(batch)

    def _note(self, number: int, result: LoadedLine) -> None:
        self._counts[result.outcome or "failed"] += 1
        self._on_done(1)
        if result.outcome is None and len(self._failures) < MAX_SHOWN:
            problem: dict[str, Any] = result.problem or {}
            named = f"{result.object_id}: " if result.object_id else ""
            self._failures.append(f"line {number}: {named}{problem.get('code')}: {problem.get('detail')}")
