"""Export, import and migration of objects of every type, with bounded memory.

No object's rule lives here: the host checks each page and each line for the caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, NamedTuple

import msgspec

from aidevos.contracts import objects, subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import LoadedLine, MigrateBody, MigratedPage, OlderPage, StoredObject, Unmigrated

from .catalogue import TypeCatalogue
from .forwarder import Forwarder
from .http import bodies
from .http.charges import Charges
from .http.request import HttpRequest
from .item_calls import derive_options
from .line_files import Line, watching

# Bytes of one line of an import: a state and alarms, which have bounds of their own.
LINE_LIMIT = 8 * 1024 * 1024
# Objects that are migrated at once.
MIGRATED_AT_ONCE = 16
_line = msgspec.json.Decoder(StoredObject)
_older = msgspec.json.Decoder(OlderPage)


class _Id(msgspec.Struct):
    id: str


class _Page(msgspec.Struct):
    items: list[msgspec.Raw]
    moment: str


_page = msgspec.json.Decoder(_Page)
_id = msgspec.json.Decoder(_Id)
_outcome = msgspec.json.Decoder(str)


class Transfer(NamedTuple):
    """A request about many objects, and the parts of the gateway that serve it."""

    forwarder: Forwarder
    charges: Charges
    catalogue: TypeCatalogue
    request: HttpRequest


class Export(NamedTuple):
    """An export of a type: the arguments of its pages, and the first one."""

    transfer: Transfer
    type: str
    args: dict[str, Any]
    first: _Page

    @property
    def moment(self) -> str:
        """The moment that all pages show."""
        return self.first.moment

    @classmethod
    async def begin(cls, transfer: Transfer, type: str, args: dict[str, Any]) -> Export:
        """Read the first page. Raises `Failure`."""
        first = await _read_page(transfer, type, args)
        await transfer.charges.add_page(transfer.request, len(first.items))
        return cls(transfer, type, args | {"moment": first.moment}, first)

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """Yield the lines of all objects, as fast as the caller's rate limit allows. A failure cuts them short."""
        page, request = self.first, self.transfer.request
        with watching(request) as gone:
            while page.items and not gone.done():
                yield b"".join(bytes(line) + b"\n" for line in page.items)
                after = _id.decode(page.items[-1]).id
                page = await _read_page(self.transfer, self.type, self.args | {"after": after})
                await self.transfer.charges.pace_page(request, len(page.items), gone)


async def _read_page(transfer: Transfer, type: str, args: dict[str, Any]) -> _Page:
    subject, options = subjects.query(type, objects.EXPORT), transfer.forwarder.options(transfer.request)
    return _page.decode(await transfer.forwarder.request_with_body(subject, msgspec.json.encode(args), options))


async def load_objects(transfer: Transfer, method: str, on_conflict: str, lines: Sequence[Line]) -> list[LoadedLine]:
    """Load or check the object in each line, all at once, and return the results in order.

    Each line's key derives from the request's idempotency key and the line's number.
    """
    options, types = transfer.forwarder.options(transfer.request), frozenset(transfer.catalogue.names(internal=True))

    async def load(number: int, line: bytes) -> LoadedLine:
        object_id = None
        try:
            found = bodies.decode(_line, line, "state")
            object_id = found.object_id
            subject = _subject_of(found, method, types)
            arguments = _arguments(found) | {"on_conflict": on_conflict}
            payload, own = msgspec.json.encode(arguments), derive_options(options, number)
            reply = await transfer.forwarder.request_with_body(subject, payload, own)
        except Failure as failure:
            problem = msgspec.to_builtins(failure.problem)
            return LoadedLine(status=failure.status, object_id=object_id, problem=problem)
        outcome: Any = _outcome.decode(reply)
        return LoadedLine(status=201 if outcome == "created" else 200, object_id=object_id, outcome=outcome)

    return await asyncio.gather(*(load(number, line) for number, line in lines))


def refuse(failure: Failure) -> LoadedLine:
    """Return the result of a line that was not loaded."""
    return LoadedLine(status=failure.status, problem=msgspec.to_builtins(failure.problem))


def _subject_of(found: StoredObject, method: str, types: frozenset[str]) -> str:
    if not (subjects.is_type(found.type) and subjects.is_id(found.id)):
        raise Failure("invalid", "this is not the type and the ID of an object", field="id")
    if found.type not in types:
        raise Failure("unknown-type", "the fleet knows no such type; `aidevos types list` shows them", field="type")
    return subjects.call(found.type, found.id, method)


def _arguments(found: StoredObject) -> dict[str, Any]:
    optional = {"project": found.project, "alarms": found.alarms, "created_at": found.created_at}
    given = {name: value for name, value in optional.items() if value is not None}
    return {"state": found.state, "schema": found.schema} | given


async def migrate_objects(transfer: Transfer, type: str, wanted: MigrateBody) -> MigratedPage:
    """Let those of some objects whose states are older rewrite them, each in a turn of its own. Raises `Failure`."""
    options = transfer.forwarder.options(transfer.request)
    older = _older.decode(
        await transfer.forwarder.request_with_body(
            subjects.query(type, objects.OLDER), msgspec.json.encode(wanted), options
        )
    )
    await transfer.charges.add_items(transfer.request, max(1, len(older.ids)))
    page, free = MigratedPage(examined=older.examined, migrated=0, failed=[]), asyncio.Semaphore(MIGRATED_AT_ONCE)

    async def migrate(id: str) -> None:
        try:
            async with free:
                reply = await transfer.forwarder.request(subjects.call(type, id, objects.MIGRATE), b"{}", options)
            reached = int(reply)
            if reached != wanted.schema:
                detail = f"its host's code has schema version {reached}, not {wanted.schema}"
                raise Failure("conflict", detail)
            page.migrated += 1
        except Failure as failure:
            # It may have been deleted since.
            if failure.code != "not-found":
                page.failed.append(Unmigrated(object_id=f"{type}:{id}", code=failure.code, detail=failure.detail))

    await asyncio.gather(*map(migrate, older.ids))
    page.next_cursor = older.next_cursor
    return page
