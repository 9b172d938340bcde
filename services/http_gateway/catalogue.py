"""The object types of the running fleet, as their hosts announce them in the key-value bucket `types`.

A watch on the bucket shows a new type within moments. After every reconnect the watch starts again and
replaces everything that was known, since a watch may have died with the server. A type that no host has
announced for a day is left out, as if it had never been served.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple, cast

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.kv import KeyValue

from aidevos.contracts.errors import Failure
from aidevos.contracts.fleet import AnnouncedType
from aidevos.contracts.objects import MethodDescription, TypeDescription
from aidevos.contracts.subjects import TYPES_BUCKET, is_type
from aidevos.contracts.times import rfc3339_of
from aidevos.durable.client.types import FORGOTTEN_AFTER, UNSERVED_AFTER
from aidevos.feeds import FOLLOWING

CHECK_EVERY = 1.0

log = logging.getLogger(__name__)
Json = dict[str, Any]
DEFS = "#/$defs/"
# The values of each JSON type that text in a path or query can stand for.
VALUES: dict[str, Any] = dict.fromkeys(("integer", "number", "boolean"), int | float) | {"array": list, "object": dict}


class Method(NamedTuple):
    """A method as its type announces it; the schemas refer to `defs`."""

    description: MethodDescription
    defs: Json

    @property
    def is_query(self) -> bool:
        return self.description.kind == "query"

    @property
    def properties(self) -> Json:
        """The schemas of the arguments, by name."""
        properties: Json = self._resolve(self.description.args).get("properties", {})
        return properties

    @property
    def required(self) -> list[str]:
        """The names of the required arguments."""
        required: list[str] = self._resolve(self.description.args).get("required", [])
        return required

    def takes_json(self, name: str) -> bool:
        """True if an argument is a list or a map, which is JSON in a query string."""
        return bool(self._json_types(self.properties.get(name, {})) & {"array", "object"})

    def convert(self, name: str, text: str) -> Any:
        """Return an argument that came as text in a path or query, converted to its declared type.

        The text becomes a number, a boolean, a list or a map if the schema declares one and the text is one in JSON;
        otherwise it stays text.
        """
        kinds = self._json_types(self.properties.get(name, {})) & VALUES.keys()
        if not kinds:
            return text
        try:
            value = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return text
        return value if any(isinstance(value, VALUES[kind]) for kind in kinds) else text

    def _json_types(self, schema: Json) -> set[str]:
        """Return the JSON types that a value may have; none if text is one of them."""
        schema = self._resolve(schema)
        found: set[str] = set()
        for option in (schema, *map(self._resolve, schema.get("anyOf", ()))):
            kinds = option.get("type", ())
            found |= {kinds} if isinstance(kinds, str) else set(kinds)
        return set() if "string" in found else found

    def _resolve(self, schema: Json) -> Json:
        for _ in range(len(self.defs)):
            if "$ref" not in schema:
                break
            schema = self.defs.get(schema["$ref"].removeprefix(DEFS), {})
        return schema


class Announced(NamedTuple):
    """A type as a host announced it at a time, in seconds since the epoch."""

    description: TypeDescription
    at: float


class TypeCatalogue:
    """The known types; `generation` grows with every change."""

    def __init__(self, connection: Client, now: Callable[[], float] = time.time) -> None:
        self._connection = connection
        self._now = now
        self._announced: dict[str, Announced] = {}
        # The descriptions of those that are served, or were within the last day.
        self._types: dict[str, TypeDescription] = {}
        # Of each type, the names of the methods that need no credential.
        self._open: dict[str, frozenset[str]] = {}
        self._loaded = asyncio.Event()
        self.generation = 0

    @property
    def descriptions(self) -> list[TypeDescription]:
        """The descriptions of all types, sorted by name."""
        return [self._types[name] for name in self.names(internal=True)]

    def names(self, internal: bool = False) -> list[str]:
        """Return the sorted names of the types, with or without internal ones."""
        return sorted(name for name, type in self._types.items() if internal or not type.internal)

    def announced(self) -> list[AnnouncedType]:
        """Return all types that hosts have announced and nobody has forgotten, sorted by name."""
        served_since = self._now() - UNSERVED_AFTER
        return [
            AnnouncedType(type=name, announced_at=rfc3339_of(found.at), served=found.at > served_since)
            for name, found in sorted(self._announced.items())
        ]

    def is_announced(self, type: str) -> bool:
        """True if a host has announced the type and nobody has forgotten it."""
        return type in self._announced

    async def forget(self, type: str) -> None:
        """Drop the announcement of a type. A host that serves it announces it again."""
        try:
            bucket = await self._connection.jetstream().key_value(TYPES_BUCKET)
            await bucket.delete(type)
        except (NatsError, OSError) as error:
            raise Failure("unavailable", "NATS can't be reached") from error

    def check(self, type: str, internal: bool = True) -> None:
        """Raise `unknown-type` if the type is unknown; the message lists the types that aren't internal."""
        found = self._types.get(type)
        if found is None or (found.internal and not internal):
            known = ", ".join(self.names()) or "none yet"
            raise Failure("unknown-type", f"no host serves this object type; known types: {known}", field="type")

    def find_method(self, type: str, name: str) -> Method | None:
        """Return a method's description, or None if it is unknown."""
        return find_method(self._types.get(type), name)

    def find_query(self, type: str, name: str) -> Method | None:
        """Return a search or view as a method of its type, or None if it is unknown."""
        found = self._types.get(type)
        return next((each for each in queries_of(found) if each.description.name == name), None) if found else None

    def is_open(self, type: str, method: str | None = None) -> bool:
        """True if a method of the type, or a certain one, needs no credential."""
        found = self._open.get(type)
        return bool(found) if found is None or method is None else method in found

    async def wait_until_loaded(self) -> None:
        """Return once the bucket has been read."""
        await self._loaded.wait()

    async def follow(self) -> None:
        """Follow the bucket until cancelled."""
        pauses = FOLLOWING.pauses()
        while True:
            try:
                await self._watch()
            except NatsError as error:
                log.warning("can't read the announced types: %r", error)
                await pauses.wait()

    async def _watch(self) -> None:
        reconnects = self._connection.stats["reconnects"]
        bucket = await self._connection.jetstream().key_value(TYPES_BUCKET)
        watcher = await bucket.watchall()
        found: dict[str, Announced] = {}
        try:
            while self._connection.stats["reconnects"] == reconnects:
                try:
                    entry = await watcher.updates(timeout=CHECK_EVERY)  # type: ignore[no-untyped-call]
                except NatsTimeout:
                    self._refresh()
                    continue
                if entry is None:
                    self._announced = found
                else:
                    _apply(entry, found)
                self._refresh()
                if entry is None:
                    self._loaded.set()
        finally:
            with contextlib.suppress(NatsError):
                await watcher.stop()  # type: ignore[no-untyped-call]

    def _refresh(self) -> None:
        """Take over what has been announced, without the types that no host has served for long."""
        since = self._now() - FORGOTTEN_AFTER
        before = self._types
        self._types = {name: found.description for name, found in self._announced.items() if found.at > since}
        if self._types != before:
            self.generation += 1
            self._open = {name: _open_methods(type) for name, type in self._types.items()}


def _open_methods(description: TypeDescription) -> frozenset[str]:
    return frozenset(each.name for each in description.methods if not each.needs_credential)


def find_method(description: TypeDescription | None, name: str) -> Method | None:
    """Return the description of a type's method, or None if there is none."""
    if description is None:
        return None
    return next((Method(method, description.defs) for method in description.methods if method.name == name), None)


def queries_of(description: TypeDescription) -> list[Method]:
    """Return the searches and views of a type as methods."""
    return [
        Method(MethodDescription(kind="query", doc="", **msgspec.structs.asdict(each)), description.defs)
        for each in description.queries
    ]


def _apply(entry: KeyValue.Entry, types: dict[str, Announced]) -> None:
    if entry.operation is not None:
        types.pop(entry.key, None)
        return
    try:
        description = msgspec.json.decode(entry.value or b"", type=TypeDescription)
    except msgspec.DecodeError as error:
        log.warning("can't read the announcement of type %r: %s", entry.key, error)
        return
    if is_type(entry.key) and description.type == entry.key:
        types[entry.key] = Announced(description, cast(datetime, entry.created).timestamp())
