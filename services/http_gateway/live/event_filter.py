"""What a reader of live streams asks for, by the parameters of `/events`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from aidevos.contracts import subjects
from aidevos.contracts.data import ITEM_TYPE, check_collection
from aidevos.contracts.errors import Failure
from aidevos.feeds.shown_events import ItemChange, ShownEvent

LAST_EVENT_ID = "last_event_id"
MAX_VALUES = 50
# Collection names and IDs have no commas.
SEPARATOR = ","
_is_position = re.compile(r"[0-9]{1,18}").fullmatch


class EventFilter(NamedTuple):
    """Each set has what is let through, or is empty for anything."""

    types: frozenset[str] = frozenset()
    collections: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()

    def matches(self, event: ShownEvent) -> bool:
        return (
            (not self.types or event.type in self.types)
            and (not self.ids or event.shown_id in self.ids)
            and (not self.names or event.name in self.names)
            and (not self.collections or self._is_in(event))
        )

    def _is_in(self, event: ShownEvent) -> bool:
        return isinstance(event.about, ItemChange) and event.about.collection in self.collections


def parse(parameters: Mapping[str, str]) -> EventFilter:
    """Values are separated by commas; raises `invalid`."""
    collections = _values(parameters, "collection", _is_collection)
    types = _values(parameters, "type", subjects.is_type)
    if collections and types and types != {ITEM_TYPE}:
        raise Failure("invalid", "only items are in collections: leave type away, or set it to item", field="type")
    return EventFilter(
        types=frozenset({ITEM_TYPE}) if collections else types,
        collections=collections,
        ids=_values(parameters, "id", subjects.is_id),
        names=_values(parameters, "name", subjects.is_method),
    )


def position(header: str | None, parameters: Mapping[str, str]) -> int | None:
    """The last event that the reader has; raises `invalid`. A browser that comes back names it in the header,
    whatever its URL said at the beginning."""
    text = header or parameters.get(LAST_EVENT_ID)
    if text is None:
        return None
    if not _is_position(text):
        name = "Last-Event-ID" if header else LAST_EVENT_ID
        raise Failure("invalid", "this is not the ID of an event of this stream", field=name)
    return int(text)


def _values(parameters: Mapping[str, str], name: str, is_one: Callable[[str], bool]) -> frozenset[str]:
    if name not in parameters:
        return frozenset()
    values = parameters[name].split(SEPARATOR)
    if len(values) > MAX_VALUES:
        raise Failure("invalid", f"there are at most {MAX_VALUES} values", field=name)
    if not all(map(is_one, values)):
        raise Failure("invalid", f"a value can't be a {name}", field=name)
    return frozenset(values)


def _is_collection(name: str) -> bool:
    try:
        check_collection(name)
    except Failure:
        return False
    return True
