"""The description of a type that a host publishes to the fleet: methods, queries and events, with JSON schemas."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Iterator
from types import CodeType
from typing import Any

import msgspec

from aidevos.contracts.objects import (
    EventDescription,
    MethodDescription,
    QueryDescription,
    ReactionDescription,
    TypeDescription,
)
from aidevos.durable.objects.declaration import Event, Search, View
from aidevos.durable.objects.method import MethodSpec
from aidevos.durable.objects.object import BaseDurableObject
from aidevos.security.permissions import ANONYMOUS


def describe(cls: type[BaseDurableObject[Any]], specs: Iterable[MethodSpec]) -> TypeDescription:
    """Describe a class with these methods. Raises `TypeError` for a type that has no JSON schema."""
    shown = [spec for spec in specs if not spec.name.startswith("_")]
    queries: list[Search | View] = [*cls.searches, *cls.views]
    events = list(_emitted_events(cls))
    types = [cls.state_type] + [type for spec in shown for type in (spec.schema.type, spec.result)]
    types += [type for query in queries for type in (query.args, _return_type(_answering_function(query)))] + events
    schemas, defs = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    found = iter(schemas)
    return TypeDescription(
        type=cls.object_type,
        doc=inspect.cleandoc(cls.__doc__ or ""),
        management=cls.management,
        internal=cls.internal,
        history=cls.kept_versions is not None,
        state=next(found),
        methods=[
            MethodDescription(
                name=spec.name,
                kind=spec.kind,
                doc=spec.doc,
                allow=str(spec.allow),
                args=next(found),
                result=next(found),
                needs_credential=not spec.allow.check(ANONYMOUS),
            )
            for spec in shown
        ],
        queries=[
            QueryDescription(
                name=query.name,
                allow=str(query.allow),
                args=next(found),
                result=next(found) if isinstance(query, View) else _page_schema(next(found)),
                needs_credential=not query.allow.check(ANONYMOUS),
            )
            for query in queries
        ],
        events=[
            EventDescription(name=event.event_name(), doc=inspect.cleandoc(event.__doc__ or ""), data=next(found))
            for event in events
        ],
        reactions=[
            ReactionDescription(pattern=spec.reaction.pattern, method=spec.name, doc=spec.doc)
            for spec in shown
            if spec.reaction is not None
        ],
        defs=defs,
    )


def _emitted_events(cls: type[BaseDurableObject[Any]]) -> Iterator[type[Event]]:
    """Yield the events that the class's methods refer to by name, since only those can be emitted."""
    seen = set()
    for base in cls.__mro__:
        if base is BaseDurableObject:
            return
        for member in vars(base).values():
            if not inspect.isfunction(member):
                continue
            function = inspect.unwrap(member)
            for name in _names_in(function.__code__):
                named = function.__globals__.get(name)
                if isinstance(named, type) and issubclass(named, Event) and named not in seen:
                    seen.add(named)
                    yield named


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)


def _answering_function(query: Search | View) -> Callable[..., Any]:
    return query.answer if isinstance(query, View) else query.show


def _return_type(function: Callable[..., Any]) -> Any:
    return typing.get_type_hints(function, include_extras=True).get("return", Any)


def _page_schema(item: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"items": {"type": "array", "items": item}, "next_cursor": {"type": ["string", "null"]}},
        "required": ["items", "next_cursor"],
    }
