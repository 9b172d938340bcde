"""The filter of a live stream, from the parameters of `/events`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from aidevos.contracts import subjects
from aidevos.contracts.data import ITEM_TYPE, check_collection
from aidevos.contracts.errors import Failure
from aidevos.feeds.shown_events import ItemChange, ShownEvent

LAST_EVENT_ID, INCLUDE = "last_event_id", "include"
# What `include` may name.
DATA = "data"
MAX_VALUES = 50
# Collection names and IDs have no commas.
SEPARATOR = ","
_is_position = re.compile(r"[0-9]{1,18}").fullmatch


class EventFilter(NamedTuple):
    """The allowed values of each property; an empty set allows all.

    With `includes_items`, items come with their events.
    """

    types: frozenset[str] = frozenset()
    collections: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    includes_items: bool = False

    def matches(self, event: ShownEvent) -> bool:
        return (
            (not self.types or event.type in self.types)
            and (not self.ids or event.shown_id in self.ids)
            and (not self.names or event.name in self.names)
            and (not self.collections or self._is_in_collection(event))
        )

    def _is_in_collection(self, event: ShownEvent) -> bool:
        return isinstance(event.about, ItemChange) and event.about.collection in self.collections


def parse(parameters: Mapping[str, str]) -> EventFilter:
    """Return the filter that the parameters describe; commas separate values. Raises `invalid`."""
    collections = _parse_values(parameters, "collection", _is_collection)
    types = _parse_values(parameters, "type", subjects.is_type)
    if collections and types and types != {ITEM_TYPE}:
        raise Failure("invalid", "only items belong to collections: omit type, or set it to item", field="type")
    if parameters.get(INCLUDE, DATA) != DATA:
        raise Failure("invalid", f"this can be {DATA} only", field=INCLUDE)
    return EventFilter(
        types=frozenset({ITEM_TYPE}) if collections else types,
        collections=collections,
        ids=_parse_values(parameters, "id", subjects.is_id),
        names=_parse_values(parameters, "name", subjects.is_method),
        includes_items=INCLUDE in parameters,
    )


def parse_position(header: str | None, parameters: Mapping[str, str]) -> int | None:
    """Return the position of the last event that the reader has, or None. Raises `invalid`.

    The header wins over the URL: a browser that reconnects sends its last position there.
    """
    text = header or parameters.get(LAST_EVENT_ID)
    if text is None:
        return None
    if not _is_position(text):
        name = "Last-Event-ID" if header else LAST_EVENT_ID
        raise Failure("invalid", "this isn't the ID of an event in this stream", field=name)
    return int(text)


def _parse_values(parameters: Mapping[str, str], name: str, is_valid: Callable[[str], bool]) -> frozenset[str]:
    if name not in parameters:
        return frozenset()
    values = parameters[name].split(SEPARATOR)
    if len(values) > MAX_VALUES:
        raise Failure("invalid", f"at most {MAX_VALUES} values are allowed", field=name)
    if not all(map(is_valid, values)):
        raise Failure("invalid", f"a value isn't a valid {name}", field=name)
    return frozenset(values)


def _is_collection(name: str) -> bool:
    try:
        check_collection(name)
    except Failure:
        return False
    return True
