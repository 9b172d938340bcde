"""The import of items: lines of JSON become items in batches, each of which takes effect once.

Promise: a batch that is sent again has the same `Idempotency-Key`, so no line makes two items. Each line is counted
once.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple

import msgspec

from aidevos.backup.outcome import MAX_SHOWN, Outcome
from aidevos.cli.batches import BATCH, in_batches, numbered, send_batch
from aidevos.cli.listing import path_of
from aidevos.client.api import HttpApi
from aidevos.client.errors import ApiError, Conflict, Invalid, NotFound
from aidevos.contracts.data import CreateItemBody

OnConflict = Literal["skip", "replace", "fail"]
CREATED, EXISTS = 201, "exists"
_line = msgspec.json.Decoder(CreateItemBody)


class Line(NamedTuple):
    """A line of a file, and the item in it."""

    number: int
    content: bytes
    item: CreateItemBody


class ItemImport:
    """Creates the items of a collection. `on_done` is called with the number of lines that are done."""

    def __init__(
        self,
        api: HttpApi,
        collection: str,
        on_conflict: OnConflict,
        *,
        stop: bool = False,
        on_done: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._api = api
        self._path = path_of("data", "collections", collection)
        self._on_conflict = on_conflict
        self._stop = stop
        self._on_done = on_done
        self._counts: Counter[str] = Counter()
        # Reasons by the number of the line.
        self._failures: dict[int, str] = {}

    @property
    def outcome(self) -> Outcome:
        failures = [f"line {number}: {reason}" for number, reason in sorted(self._failures.items())]
        return Outcome(**self._counts, failures=failures)

    async def run(self, lines: Iterable[bytes]) -> None:
        """Import lines. Raises `ApiError` if the fleet can't be reached or refuses the caller."""
        for batch in in_batches(self._read(lines), lambda line: len(line.content), BATCH):
            await self._load(batch)
            if self._stop and self._failures:
                return

    def _read(self, lines: Iterable[bytes]) -> Iterator[Line]:
        """Yield the lines that hold an item. With `stop`, the first other one is the last that is read."""
        for number, content in numbered(lines):
            try:
                yield Line(number, content, _line.decode(content))
            except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
                self._fail(number, f"invalid: {error}")
                if self._stop:
                    return

    async def _load(self, batch: list[Line]) -> None:
        try:
            results = await self._create(batch)
        except Invalid as error:
            for line in batch:
                self._fail(line.number, f"{error.code}: {error.detail}")
            return
        for line, result in zip(batch, results, strict=True):
            await self._settle(line, result)

    async def _create(self, batch: list[Line]) -> list[dict[str, Any]]:
        """Return the result of each item."""
        body = b"[" + b",".join(line.content for line in batch) + b"]"
        headers = {"Idempotency-Key": secrets.token_hex(16)}

        async def send() -> list[dict[str, Any]]:
            answer = await self._api.call("POST", self._path, body=body, headers=headers)
            return list(answer["results"])

        return await send_batch(send, lambda result: int(result["status"]))

    async def _settle(self, line: Line, result: dict[str, Any]) -> None:
        """Count a line by its result, after its item was replaced if that is wanted."""
        problem = result.get("problem") or {}
        if result["status"] == CREATED:
            self._note("created")
        elif problem.get("code") != EXISTS or problem.get("field") not in (None, "id") or self._on_conflict == "fail":
            self._fail(line.number, f"{problem.get('code')}: {problem.get('detail')}")
        elif self._on_conflict == "skip":
            self._note("skipped")
        else:
            await self._replace(line)

    async def _replace(self, line: Line) -> None:
        path = self._path + path_of(line.item.id or "")
        try:
            await self._api.call("PUT", path, body={"data": line.item.data})
        except ApiError as error:
            if not isinstance(error, Conflict | Invalid | NotFound):
                raise
            self._fail(line.number, f"{error.code}: {error.detail}")
        else:
            self._note("replaced")

    def _fail(self, number: int, reason: str) -> None:
        self._note("failed")
        if len(self._failures) < MAX_SHOWN:
            self._failures[number] = reason

    def _note(self, outcome: str) -> None:
        self._counts[outcome] += 1
        self._on_done(1)
