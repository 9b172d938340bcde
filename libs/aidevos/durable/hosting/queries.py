"""Queries over all objects of a type: its list, searches and views, each at `query.<type>.<name>`.

Promises: they show only committed states. A page that would exceed the size limit of an answer is cut short, and
its cursor continues after the last item. No page reads more than about one answer's worth of stored bytes. Large pages
are assembled in slices, between which the event loop turns, and each caller gets a fair share of the reads.

A process that finds a state whose schema is newer than its code answers the retryable `moved`, because another process
may have newer code. Only lists show such a state, as it is stored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Iterable, Iterator, Sequence
from functools import cache, partial
from time import perf_counter
from typing import Any, NamedTuple, TypeVar, cast

import msgspec

from aidevos.contracts import projects, subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import EXPORT, LIST, LIST_LIMIT, OLDER, ExportPage, ObjectPage, OlderPage, SearchPage
from aidevos.durable.base.slices import Slices
from aidevos.durable.hosting import exports
from aidevos.durable.hosting.cursors import decode_cursor, encode_cursor
from aidevos.durable.hosting.exports import ExportArgs, OlderArgs
from aidevos.durable.objects.declaration import Search, View
from aidevos.durable.objects.loading import TRANSFERS, check_transfer
from aidevos.durable.objects.object import LISTS
from aidevos.durable.objects.reader import Reader, read_in_turn
from aidevos.durable.objects.registry import ObjectType
from aidevos.durable.objects.schema import Schema
from aidevos.durable.ownership.router import check_allowed
from aidevos.durable.store.conditions import EVERYTHING
from aidevos.durable.store.port import PAGE_BYTES, Match, Store, StoreError
from aidevos.durable.turns.activation import describe
from aidevos.durable.turns.environment import Environment
from aidevos.durable.turns.gate import Gate
from aidevos.observability import tracing
from aidevos.observability.metrics import SEARCH_SECONDS
from aidevos.observability.slow_log import collect_waits, slow_log
from aidevos.security.permissions import Principal, Rule

T = TypeVar("T")


class StoredQuery(NamedTuple):
    """A query over the committed states of a type.

    `answer` gets the decoded arguments and the caller. It may raise `Failure` or `StoreError`.
    """

    gate: Gate
    type: ObjectType
    name: str
    allow: Rule
    schema: Schema[Any]
    answer: Callable[[Any, Principal], Awaitable[Any]]

    async def run(self, payload: bytes, content_type: str | None, caller: Principal) -> bytes:
        """Authorize the caller, and return the encoded answer to the encoded arguments. Raises `Failure`."""
        check_allowed(caller, self.type, self.name, self.allow)
        self.gate.check_query(caller, self.type, self.name)
        args = self.schema.decode(payload or b"{}", content_type)
        began, waits = perf_counter(), collect_waits()
        try:
            return msgspec.json.encode(await self.answer(args, caller))
        except StoreError as error:
            raise Failure("unavailable", str(error)) from error
        finally:
            ended = perf_counter()
            SEARCH_SECONDS.labels(self.type.name, self.name).observe(ended - began)
            if ended - began >= slow_log.search:
                self._log(began, ended, waits)

    def _log(self, began: float, ended: float, waits: dict[str, float]) -> None:
        reasons = {f"waiting for {what}": seconds for what, seconds in waits.items()}
        reasons["in this process"] = max(0.0, ended - began - sum(waits.values()))
        trace_id = tracing.current_trace_id()
        what = f"the query {self.type.name}.{self.name}"
        slow_log.write(what, began, ended, reasons, type=self.type.name, query=self.name, trace_id=trace_id)

    def count_items(self, payload: bytes, content_type: str | None) -> int:
        """Return how many items these encoded arguments ask for, 1 if they are invalid or the query has no limit."""
        try:
            limit = getattr(self.schema.decode(payload or b"{}", content_type), "limit", 1)
        except Failure:
            return 1
        return min(limit, LIST_LIMIT) if isinstance(limit, int) else 1


class ListArgs(msgspec.Struct, forbid_unknown_fields=True):
    """The arguments of `query.<type>.list`.

    `project` limits the list to the objects of one project. `count` also asks for the number of all objects listed.
    """

    limit: int = 50
    cursor: str | None = None
    project: projects.Id | None = None
    count: bool = False


# Returns those of the objects of a type with these IDs that are in memory, in whichever process.
FindActive = Callable[[str, Iterable[str]], Awaitable[Container[str]]]


def stored_queries(environment: Environment, find_active: FindActive, gate: Gate) -> dict[str, StoredQuery]:
    """Return the queries of all types of a process, by subject."""
    types = environment.registry.types.values()
    found = (query for type in types for query in _define_queries(type, environment, find_active, gate))
    return {subjects.query(query.type.name, query.name): query for query in found}


def _define_queries(
    type: ObjectType, environment: Environment, find_active: FindActive, gate: Gate
) -> Iterator[StoredQuery]:
    yield StoredQuery(
        gate, type, LIST, LISTS, _args_schema(ListArgs), partial(_list, environment, find_active, gate, type)
    )
    export, older = partial(_export, environment, gate, type), partial(_older, environment, type)
    yield StoredQuery(gate, type, EXPORT, TRANSFERS, _args_schema(ExportArgs), export)
    yield StoredQuery(gate, type, OLDER, TRANSFERS, _args_schema(OlderArgs), older)
    for search in type.cls.searches:
        answer = partial(_search, environment, type, search)
        yield StoredQuery(gate, type, search.name, search.allow, _args_schema(search.args), answer)
    for view in type.cls.views:
        yield StoredQuery(gate, type, view.name, view.allow, _args_schema(view.args), partial(_view, environment, view))


@cache
def _args_schema(args: Any) -> Schema[Any]:
    return Schema(args, "args")


async def _list(
    environment: Environment, find_active: FindActive, gate: Gate, type: ObjectType, args: ListArgs, caller: Principal
) -> ObjectPage:
    """Return a page of existing objects in the order of their IDs. The cursor is the last ID of the page before."""
    project = await gate.visible_project(caller, args.project)
    _check_limit(args.limit, "limit")
    store, size = environment.store, environment.limits.answer
    shows_state = type.cls.management == "raw"
    documents = await read_in_turn(
        environment.searches,
        caller,
        type.name,
        lambda: store.list_page(
            type.name, args.cursor or "", args.limit + 1, project, size=size, with_state=shows_state
        ),
    )
    listed = documents[: args.limit]
    active = await find_active(type.name, [document.id for document in listed])
    shown = (describe(type, document, active=document.id in active) for document in listed)
    items = await _take_fitting(environment.slices, shown, size)
    more = _continues(documents, items, size)
    page = ObjectPage(items=cast(Any, items), next_cursor=documents[len(items) - 1].id if more else None)
    if args.count:
        page.count = await read_in_turn(
            environment.searches, caller, type.name, lambda: _count_objects(store, type, project)
        )
    return page


async def _count_objects(store: Store, type: ObjectType, project: str | None) -> int | None:
    """Return how many objects of a type belong to a project, to none or to any, or None if that takes too long."""
    try:
        if project is None:
            return await store.count(type.name, EVERYTHING)
        return await store.count_in_project(type.name, project)
    except Failure as failure:
        if failure.code == "too-slow":
            return None
        raise


async def _export(
    environment: Environment, gate: Gate, type: ObjectType, args: ExportArgs, caller: Principal
) -> ExportPage:
    check_transfer(caller, type.cls)
    project = await gate.visible_project(caller, args.project)
    _check_limit(args.limit, "args.limit")
    where, size = exports.parse_where(args.where), environment.limits.answer
    documents, moment = await read_in_turn(
        environment.searches,
        caller,
        type.name,
        lambda: environment.store.read_moment(
            type.name, where, args.after, args.limit, project, size=size, moment=args.moment
        ),
    )
    shown = (exports.show(type, document) for document in documents)
    items = await _take_fitting(environment.slices, shown, size)
    return ExportPage(items=cast(Any, items), moment=moment)


async def _older(environment: Environment, type: ObjectType, args: OlderArgs, caller: Principal) -> OlderPage:
    _check_limit(args.limit, "args.limit")
    after = args.cursor or ""
    documents = await read_in_turn(
        environment.searches,
        caller,
        type.name,
        lambda: environment.store.list_page(type.name, after, args.limit, with_state=False),
    )
    return exports.find_older(documents, args)


async def _search(
    environment: Environment, type: ObjectType, search: Search, args: Any, caller: Principal
) -> SearchPage:
    """Return a page of matching objects, at most half as large as an answer, so that an object can pass it on."""
    _check_limit(args.limit, "args.limit")
    wanted = search.find(search.restrict(caller, args))
    after = decode_cursor(args.cursor, wanted) if args.cursor is not None else None
    most = environment.limits.answer // 2
    size = min(wanted.size or PAGE_BYTES, PAGE_BYTES)
    wanted = wanted._replace(after=after, limit=args.limit + 1, size=size)
    documents = await read_in_turn(
        environment.searches, caller, type.name, lambda: environment.store.find(type.name, wanted)
    )
    shown = (
        search.show(document.id, type.load_state(document.state or {}, document.schema), document.version)
        for document in documents[: args.limit]
    )
    items = await _take_fitting(environment.slices, shown, most)
    more = _continues(documents, items, size)
    return SearchPage(items=items, next_cursor=encode_cursor(wanted, documents[len(items) - 1]) if more else None)


async def _view(environment: Environment, view: View, args: Any, caller: Principal) -> Any:
    now = environment.clock.now()
    types = environment.registry.types
    reader = Reader(environment.store, environment.client, environment.searches, caller, now, types)
    return await view.answer(reader, args)


def _check_limit(limit: int, field: str) -> None:
    if not 1 <= limit <= LIST_LIMIT:
        raise Failure("invalid", f"the limit must be from 1 to {LIST_LIMIT}", field=field)


def _continues(documents: Sequence[Match], items: Sequence[object], size: int) -> bool:
    """Return True if there may be objects after the shown items: the search found more, or stopped at `size` bytes."""
    return len(documents) > len(items) or sum(document.size for document in documents) >= size


async def _take_fitting(slices: Slices, items: Iterator[msgspec.Struct], most: int) -> list[msgspec.Raw]:
    """Return the leading items, encoded, whose size is at most `most` bytes in total, but at least one."""
    fitting: list[msgspec.Raw] = []

    def take() -> Iterator[None]:
        size = 0
        for item in items:
            encoded = msgspec.json.encode(item)
            size += len(encoded)
            if fitting and size > most:
                return
            fitting.append(msgspec.Raw(encoded))
            yield

    await slices.run(take())
    return fitting
