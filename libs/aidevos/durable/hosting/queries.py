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
from aidevos.durable.hosting.search import decode_place, encode_place
from aidevos.durable.objects.object import LISTS, Search, View
from aidevos.durable.objects.reader import Reader
from aidevos.durable.objects.registry import ObjectType
from aidevos.durable.objects.schema import Schema
from aidevos.durable.ownership.router import DurableObjectRouter, check_allowed
from aidevos.durable.store.port import StoreError
from aidevos.durable.turns.activation import show
from aidevos.security.permissions import Principal, Rule

Item = TypeVar("Item", bound=msgspec.Struct)


class Question(NamedTuple):
    """`answer` gets the decoded arguments and the caller; it raises `Failure` and `StoreError`."""

    type: ObjectType
    name: str
    allow: Rule
    schema: Schema[Any]
    answer: Callable[[Any, Principal], Awaitable[Any]]

    async def ask(self, payload: bytes, content_type: str | None, caller: Principal) -> bytes:
        """The encoded answer to the arguments in a payload; raises `Failure`."""
        check_allowed(caller, self.type, self.name, self.allow)
        if caller.project and self.name != LIST and not self.type.cls.judges_projects:
            raise Failure("forbidden", "this API key counts in its project alone")
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


def questions(router: DurableObjectRouter) -> dict[str, Question]:
    """What can be asked about the types that a process knows, by subject."""
    types = router.registry.types.values()
    return {subjects.query(type.name, each.name): each for type in types for each in _about(router, type)}


def _about(router: DurableObjectRouter, type: ObjectType) -> Iterator[Question]:
    yield Question(type, LIST, LISTS, Schema(ListArgs, "args"), partial(_list, router, type))
    for search in type.cls.searches:
        answer = partial(_search, router, type, search)
        yield Question(type, search.name, search.allow, Schema(search.args, "args"), answer)
    for view in type.cls.views:
        yield Question(type, view.name, view.allow, Schema(view.args, "args"), partial(_view, router, view))


async def _list(router: DurableObjectRouter, type: ObjectType, args: ListArgs, caller: Principal) -> ObjectPage:
    """Existing objects in the order of their IDs; the cursor is the last ID seen."""
    project = await router.gate.place_of(caller, args.project)
    _check_limit(args.limit, "limit")
    documents = await router.store.page(type.name, args.cursor or "", args.limit + 1, project)
    shown = (
        show(type, document, active=router.activation(type.name, document.id) is not None)
        for document in documents[: args.limit]
    )
    items = _fitting(shown, router.limits.answer)
    page = ObjectPage(items=items, next_cursor=items[-1].id if len(documents) > len(items) else None)
    if args.count and project:
        page.count = await _count_of(router, type, project)
    return page


async def _count_of(router: DurableObjectRouter, type: ObjectType, project: str) -> int | None:
    """How many objects of a type belong to a project; None where that can't be counted in time."""
    try:
        return await router.store.count_of(type.name, project)
    except Failure as failure:
        if failure.code == "too-slow":
            return None
        raise


async def _search(
    router: DurableObjectRouter, type: ObjectType, search: Search, args: Any, caller: Principal
) -> SearchPage:
    """One page, of half the size that an answer may have: an object can pass it on."""
    _check_limit(args.limit, "args.limit")
    wanted = search.find(search.restrict(caller, args))
    after = decode_place(args.cursor, wanted) if args.cursor is not None else None
    documents = await router.store.find(type.name, wanted._replace(after=after, limit=args.limit + 1))
    shown = (
        search.show(document.id, type.load_state(document.state or {}, document.schema), document.version)
        for document in documents[: args.limit]
    )
    items = _fitting(shown, router.limits.answer // 2)
    more = len(documents) > len(items)
    return SearchPage(items=items, next_cursor=encode_place(wanted, documents[len(items) - 1]) if more else None)


async def _view(router: DurableObjectRouter, view: View, args: Any, caller: Principal) -> Any:
    return await view.answer(Reader(router.store, router.outside, caller, router.clock.now()), args)


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
