"""Questions about all objects of a type: its list, its searches and its views, each at `query.<type>.<name>`.

Promises: they are answered from committed states alone. A page that would get larger than
an answer may be is cut short, and its cursor says where it goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec

from aidevos.contracts import projects, subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import LIST, LIST_LIMIT, ObjectPage, SearchPage
from aidevos.durable.hosting.cursors import decode_cursor, encode_cursor
from aidevos.durable.objects.declaration import Search, View
from aidevos.durable.objects.object import LISTS
from aidevos.durable.objects.reader import Reader
from aidevos.durable.objects.registry import ObjectType
from aidevos.durable.objects.schema import Schema
from aidevos.durable.ownership.catalogue import Catalogue
from aidevos.durable.ownership.router import check_allowed
from aidevos.durable.store.port import Store, StoreError
from aidevos.durable.turns.activation import show
from aidevos.durable.turns.environment import Environment
from aidevos.durable.turns.gate import Gate
from aidevos.security.permissions import Principal, Rule

Item = TypeVar("Item", bound=msgspec.Struct)


class StoredQuery(NamedTuple):
    """A query over the committed states of a type. `answer` gets the decoded arguments and the caller; it raises
    `Failure` and `StoreError`."""

    gate: Gate
    type: ObjectType
    name: str
    allow: Rule
    schema: Schema[Any]
    answer: Callable[[Any, Principal], Awaitable[Any]]

    async def run(self, payload: bytes, content_type: str | None, caller: Principal) -> bytes:
        """Return the encoded answer to the arguments in a payload; raises `Failure`."""
        check_allowed(caller, self.type, self.name, self.allow)
        self.gate.check_query(caller, self.type, self.name)
        args = self.schema.decode(payload or b"{}", content_type)
        try:
            return msgspec.json.encode(await self.answer(args, caller))
        except StoreError as error:
            raise Failure("unavailable", str(error)) from error


class ListArgs(msgspec.Struct, forbid_unknown_fields=True):
    """The arguments of `query.<type>.list`. With a `project` only its objects are shown; `count` asks how many
    they are."""

    limit: int = 50
    cursor: str | None = None
    project: projects.Id | None = None
    count: bool = False


def stored_queries(environment: Environment, catalogue: Catalogue, gate: Gate) -> dict[str, StoredQuery]:
    """Return the queries over the types that a process knows, by subject."""
    types = environment.registry.types.values()
    found = (query for type in types for query in _queries_of(type, environment, catalogue, gate))
    return {subjects.query(query.type.name, query.name): query for query in found}


def _queries_of(type: ObjectType, environment: Environment, catalogue: Catalogue, gate: Gate) -> Iterator[StoredQuery]:
    yield StoredQuery(
        gate, type, LIST, LISTS, Schema(ListArgs, "args"), partial(_list, environment, catalogue, gate, type)
    )
    for search in type.cls.searches:
        answer = partial(_search, environment, type, search)
        yield StoredQuery(gate, type, search.name, search.allow, Schema(search.args, "args"), answer)
    for view in type.cls.views:
        yield StoredQuery(
            gate, type, view.name, view.allow, Schema(view.args, "args"), partial(_view, environment, view)
        )


async def _list(
    environment: Environment, catalogue: Catalogue, gate: Gate, type: ObjectType, args: ListArgs, caller: Principal
) -> ObjectPage:
    """Return existing objects in the order of their IDs; the cursor is the last ID seen."""
    project = await gate.visible_project(caller, args.project)
    _check_limit(args.limit, "limit")
    documents = await environment.store.list_page(type.name, args.cursor or "", args.limit + 1, project)
    shown = (
        show(type, document, active=catalogue.get(type.name, document.id) is not None)
        for document in documents[: args.limit]
    )
    items = _fitting(shown, environment.limits.answer)
    page = ObjectPage(items=items, next_cursor=items[-1].id if len(documents) > len(items) else None)
    if args.count and project:
        page.count = await _count_of(environment.store, type, project)
    return page


async def _count_of(store: Store, type: ObjectType, project: str) -> int | None:
    """How many objects of a type belong to a project; None where that can't be counted in time."""
    try:
        return await store.count_in_project(type.name, project)
    except Failure as failure:
        if failure.code == "too-slow":
            return None
        raise


async def _search(
    environment: Environment, type: ObjectType, search: Search, args: Any, caller: Principal
) -> SearchPage:
    """One page, of half the size that an answer may have: an object can pass it on."""
    _check_limit(args.limit, "args.limit")
    wanted = search.find(search.restrict(caller, args))
    after = decode_cursor(args.cursor, wanted) if args.cursor is not None else None
    documents = await environment.store.find(type.name, wanted._replace(after=after, limit=args.limit + 1))
    shown = (
        search.show(document.id, type.load_state(document.state or {}, document.schema), document.version)
        for document in documents[: args.limit]
    )
    items = _fitting(shown, environment.limits.answer // 2)
    more = len(documents) > len(items)
    return SearchPage(items=items, next_cursor=encode_cursor(wanted, documents[len(items) - 1]) if more else None)


async def _view(environment: Environment, view: View, args: Any, caller: Principal) -> Any:
    return await view.answer(Reader(environment.store, environment.client, caller, environment.clock.now()), args)


def _check_limit(limit: int, field: str) -> None:
    if not 1 <= limit <= LIST_LIMIT:
        raise Failure("invalid", f"limit is from 1 to {LIST_LIMIT}", field=field)


def _fitting(items: Iterable[Item], most: int) -> list[Item]:
    """The first items that have no more bytes together, and at least one."""
    fitting: list[Item] = []
    size = 0
    for item in items:
        size += len(msgspec.json.encode(item))
        if fitting and size > most:
            break
        fitting.append(item)
    return fitting
