"""The object types that a process serves.

Everything about a type is derived from its class once: the schemas of arguments and state, the description, and how
each method runs. No message has to inspect a class again.
"""

from __future__ import annotations

import copy
import functools
import inspect
import typing
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from aidevos.contracts import subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import ALARM
from aidevos.durable.objects.alarm import Alarm
from aidevos.durable.objects.checks import check_emits, check_state, check_upcast
from aidevos.durable.objects.declaration import Declaration
from aidevos.durable.objects.defect import Defect
from aidevos.durable.objects.description import describe
from aidevos.durable.objects.loading import loading_methods
from aidevos.durable.objects.method import MethodSpec
from aidevos.durable.objects.object import BaseDurableObject
from aidevos.durable.objects.operating import operating_methods
from aidevos.durable.objects.resources import Resources
from aidevos.durable.objects.schema import Schema, nests_freely
from aidevos.durable.objects.versioned import METHODS
from aidevos.durable.objects.weight import Weight
from aidevos.durable.store import codec
from aidevos.observability.instruments import Distribution
from aidevos.observability.metrics import MAILBOX_WAIT
from aidevos.security.permissions import services


class NewerSchema(Failure):
    """Raised for a state whose schema is newer than this process's code.

    It is retryable, because a process with newer code can read the state.
    """

    def __init__(self, type: str, schema: int) -> None:
        super().__init__("moved", f"a state of {type} has schema version {schema}, newer than this process's code")


class ObjectType:
    """An object type: its class, its methods by name, and its state's schema and upcasts.

    Raises `TypeError` for a class that is declared wrongly.
    """

    def __init__(self, cls: type[BaseDurableObject[Any]]) -> None:
        self.name = cls.object_type
        self.cls = cls
        check_state(cls, cls.state_type)
        self.methods: dict[str, MethodSpec] = {}
        self.state: Schema[Any] = Schema(cls.state_type, "state")
        self.weight = Weight()
        self._nests_freely = nests_freely(msgspec.inspect.type_info(cls.state_type))
        self._upcasts: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
        for name, member in inspect.getmembers(cls):
            declaration = getattr(member, "__declaration__", None)
            if declaration is not None:
                spec = MethodSpec(member, declaration)
                if not subjects.is_method(spec.name) and getattr(BaseDurableObject, name, None) is not member:
                    raise TypeError(f"{cls.__name__}.{name}: its name must match {subjects.METHOD_PATTERN}")
                if spec.name in self.methods:
                    raise TypeError(f"{cls.__name__} has two methods {spec.name!r}")
                self.methods[spec.name] = spec
            if inspect.isfunction(member):
                check_emits(cls, member)
            if hasattr(member, "__upcast_from__"):
                self._add_upcast(name, member.__upcast_from__)
        self.methods[ALARM] = _alarm_method(cls)
        for method in METHODS if cls.kept_versions is not None else ():
            spec = MethodSpec(method, vars(method)["__declaration__"])
            self.methods[spec.name] = spec
        self.methods |= loading_methods()
        self.methods |= operating_methods()
        missing = [version for version in range(1, cls.schema_version) if version not in self._upcasts]
        if missing:
            raise TypeError(f"{cls.__name__} lacks @upcast(from_={missing[0]})")
        try:
            self.description = describe(cls, self.methods.values())
        except TypeError as error:
            raise TypeError(f"{cls.__name__} can't be described: {error}") from None

    @functools.cached_property
    def mailbox_wait(self) -> Distribution:
        """The measure of how long requests wait for their turns."""
        return MAILBOX_WAIT.labels(self.name)

    def _add_upcast(self, name: str, version: int) -> None:
        check_upcast(self.cls, name, version, self.cls.schema_version)
        if version in self._upcasts:
            raise TypeError(f"{self.cls.__name__} has two upcasts from version {version}")
        self._upcasts[version] = getattr(self.cls, name)

    def default_state(self) -> msgspec.Struct:
        """Return the state of a new object."""
        state: msgspec.Struct = self.cls.state_type()
        return state

    def encode_state(self, state: msgspec.Struct) -> bytes:
        """Encode a state for the store. Raises `Defect`, with the path, for a value that can't be stored."""
        try:
            encoded = codec.encode(state)
            if self._nests_freely and codec.may_nest_too_deep(encoded):
                codec.check_storable(msgspec.to_builtins(state, str_keys=True), "state", codec.STATE_DEPTH)
        except Failure as failure:
            detail = f"{failure.field}: {failure.detail}"
            raise Defect(f"the state of {self.cls.__name__} can't be stored: {detail}") from None
        return encoded

    def check_state(self, state: msgspec.Struct) -> None:
        """Raise `msgspec.ValidationError` if a state couldn't be loaded again after it was stored.

        BSON changes nothing that this conversion looks at, so the state is not decoded for it.
        """
        msgspec.convert(msgspec.to_builtins(state, str_keys=True), self.cls.state_type, str_keys=True)

    def convert_state(self, state: dict[str, Any]) -> msgspec.Struct:
        """Convert a caller's map to a state. Raises `invalid` with the path."""
        converted: msgspec.Struct = self.state.convert(state)
        return converted

    def check_schema(self, schema: int) -> None:
        """Raise `NewerSchema` for a schema version that this process's code doesn't know."""
        if schema > self.cls.schema_version:
            raise NewerSchema(self.name, schema)

    def load_state(self, state: dict[str, Any], schema: int) -> msgspec.Struct:
        """Load a stored state and upcast it to the current schema version.

        Raises `NewerSchema`. An upcast may raise anything, and `msgspec.ValidationError` is raised for a state that
        doesn't fit the schema.
        """
        self.check_schema(schema)
        for version in range(schema, self.cls.schema_version):
            state = self._upcasts[version](state)
        loaded: msgspec.Struct = msgspec.convert(state, self.cls.state_type, str_keys=True)
        return loaded


class DurableObjectRegistry:
    """The object types that a process serves, by name."""

    def __init__(self, classes: Iterable[type[BaseDurableObject[Any]]]) -> None:
        self.types: dict[str, ObjectType] = {}
        for cls in classes:
            if not cls.object_type:
                raise TypeError(
                    f'{cls.__name__} has no type name: write class {cls.__name__}(BaseDurableObject[…], type="…")'
                )
            if cls.object_type in self.types:
                raise TypeError(f"two classes have the type name {cls.object_type!r}")
            self.types[cls.object_type] = _object_type(cls)  # type: ignore[arg-type]

    def bind(self, classes: Iterable[type[BaseDurableObject[Any]]], resources: Resources) -> None:
        """Inject the resources into these classes. Raises `TypeError` for a need that nothing provides."""
        for cls in classes:
            # Other registries in this process may hold the same type with other resources, so bind a copy.
            type = copy.copy(self.types[cls.object_type])
            type.cls = resources.bind(cls)
            self.types[type.name] = type

    def permissions(self) -> set[str]:
        """Return the permissions that the types' own methods require."""
        specs = [spec for type in self.types.values() for spec in type.methods.values()]
        return {name for spec in specs if not spec.name.startswith("_") for name in spec.allow.permissions}

    def is_confidential(self, type: str, method: str) -> bool:
        """True if a method's arguments must not be shown, because it is confidential or unknown here."""
        found = self.types.get(type)
        spec = found.methods.get(method) if found else None
        return spec is None or spec.confidential

    def method(self, type: str, method: str) -> tuple[ObjectType, MethodSpec]:
        """Return a type and one of its methods. Raises `unknown-type` or `unknown-method`."""
        found = self.types.get(type)
        if found is None:
            raise Failure("unknown-type", f"this service has no type {type[:64]!r}", field="type")
        spec = found.methods.get(method)
        if spec is None:
            known = ", ".join(sorted(name for name in found.methods if not name.startswith("_")))
            raise Failure(
                "unknown-method",
                f"the type {type} has no method {method[:64]!r}; its methods are {known}",
                field="method",
            )
        return found, spec


@functools.cache
def _object_type(cls: type[BaseDurableObject[Any]]) -> ObjectType:
    """Derive a type once for a class, however many registries have it."""
    return ObjectType(cls)


def _alarm_method(cls: type[BaseDurableObject[Any]]) -> MethodSpec:
    if typing.get_type_hints(cls.on_alarm).get("alarm") is not Alarm:
        raise TypeError(f"{cls.__name__} must have async def on_alarm(self, alarm: Alarm)")
    return MethodSpec(cls.on_alarm, Declaration("command", services(), ALARM))
