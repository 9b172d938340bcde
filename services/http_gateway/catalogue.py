"""The object types of the running fleet, as their hosts announce them in the key-value bucket `types`.

The bucket is watched, so a type that joins is known within moments. After every reconnect the watch
starts anew and replaces all that was known, since a watch may have died with the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, NamedTuple

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.kv import KeyValue

from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import MethodDescription, TypeDescription
from aidevos.contracts.subjects import TYPES_BUCKET, is_type
from aidevos.feeds import FOLLOWING

CHECK_EVERY = 1.0

log = logging.getLogger(__name__)
Json = dict[str, Any]
DEFS = "#/$defs/"


class Method(NamedTuple):
    """What a type says of one of its methods; the schemas refer to `defs`."""

    described: MethodDescription
    defs: Json

    @property
    def is_query(self) -> bool:
        return self.described.kind == "query"

    @property
    def properties(self) -> Json:
        """The arguments' schemas by name."""
        properties: Json = self._resolved(self.described.args).get("properties", {})
        return properties

    @property
    def required(self) -> list[str]:
        """The arguments that must be given."""
        required: list[str] = self._resolved(self.described.args).get("required", [])
        return required

    def value(self, name: str, text: str) -> Any:
        """An argument that came as text, in a path or a query: as the number or truth value that it is
        declared to be, if it reads as one."""
        if not self._kinds(self.properties.get(name, {})) & {"integer", "number", "boolean"}:
            return text
        try:
            value = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return text
        return value if isinstance(value, int | float) else text

    def _kinds(self, schema: Json) -> set[str]:
        """The JSON types of a value; none where text would do as well as another."""
        schema = self._resolved(schema)
        found: set[str] = set()
        for option in (schema, *map(self._resolved, schema.get("anyOf", ()))):
            kinds = option.get("type", ())
            found |= {kinds} if isinstance(kinds, str) else set(kinds)
        return set() if "string" in found else found

    def _resolved(self, schema: Json) -> Json:
        for _ in range(len(self.defs)):
            if "$ref" not in schema:
                break
            schema = self.defs.get(schema["$ref"].removeprefix(DEFS), {})
        return schema


class TypeCatalogue:
    """The known types; `generation` grows with every change."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection
        self._types: dict[str, TypeDescription] = {}
        self._loaded = asyncio.Event()
        self.generation = 0

    @property
    def descriptions(self) -> list[TypeDescription]:
        """The descriptions of all types, by name."""
        return [self._types[name] for name in self.names(internal=True)]

    def names(self, internal: bool = False) -> list[str]:
        """The names of the types, with or without internal ones."""
        return sorted(name for name, type in self._types.items() if internal or not type.internal)

    def check(self, type: str, internal: bool = True) -> None:
        """Raise `unknown-type` unless there is such a type; the message names those that aren't internal."""
        found = self._types.get(type)
        if found is None or (found.internal and not internal):
            known = ", ".join(self.names()) or "none yet"
            raise Failure("unknown-type", f"no such type of object; known are: {known}", field="type")

    def method(self, type: str, name: str) -> Method | None:
        """What is known of a method."""
        return method_of(self._types.get(type), name)

    async def loaded(self) -> None:
        """Return once the bucket has been read."""
        await self._loaded.wait()

    async def follow(self) -> None:
        """Keep up with the bucket until cancelled."""
        pauses = FOLLOWING.pauses()
        while True:
            try:
                await self._watch()
            except NatsError as error:
                log.warning("the announced types can't be read: %r", error)
                await pauses.wait()

    async def _watch(self) -> None:
        reconnects = self._connection.stats["reconnects"]
        bucket = await self._connection.jetstream().key_value(TYPES_BUCKET)
        watcher = await bucket.watchall()
        found: dict[str, TypeDescription] = {}
        try:
            while self._connection.stats["reconnects"] == reconnects:
                try:
                    entry = await watcher.updates(timeout=CHECK_EVERY)  # type: ignore[no-untyped-call]
                except NatsTimeout:
                    continue
                if entry is None:
                    self._types = found
                    self._loaded.set()
                else:
                    _apply(entry, found)
                self.generation += 1
        finally:
            with contextlib.suppress(NatsError):
                await watcher.stop()  # type: ignore[no-untyped-call]


def method_of(described: TypeDescription | None, name: str) -> Method | None:
    """What a type says of a method; None when it has no such."""
    if described is None:
        return None
    return next((Method(method, described.defs) for method in described.methods if method.name == name), None)


def _apply(entry: KeyValue.Entry, types: dict[str, TypeDescription]) -> None:
    if entry.operation is not None:
        types.pop(entry.key, None)
        return
    try:
        described = msgspec.json.decode(entry.value or b"", type=TypeDescription)
    except msgspec.DecodeError as error:
        log.warning("the announcement of the type %r can't be read: %s", entry.key, error)
        return
    if is_type(entry.key) and described.type == entry.key:
        types[entry.key] = described
