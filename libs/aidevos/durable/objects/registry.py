"""The types of objects that a process knows, and what is derived from their classes once.

From a method's signature come its arguments' schema, its description and its way of running; none
of it is looked at again when a message arrives.
"""

from __future__ import annotations

import dis
import inspect
import typing
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal

import msgspec

from aidevos.contracts import subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import ALARM
from aidevos.durable.objects.alarms import Alarm
from aidevos.durable.objects.description import describe
from aidevos.durable.objects.object import BaseDurableObject, Declaration
from aidevos.durable.objects.resources import Resources
from aidevos.durable.objects.schema import Schema, nests_freely
from aidevos.durable.store import codec
from aidevos.security.permissions import Rule, services

SUSPENDING = {"GET_AWAITABLE", "GET_AITER", "GET_ANEXT", "BEFORE_ASYNC_WITH", "YIELD_VALUE"}


class MethodSpec:
    """One method as the host calls it."""

    __slots__ = (
        "allow",
        "confidential",
        "doc",
        "empty",
        "founds",
        "function",
        "inline",
        "is_command",
        "keeps_version",
        "matches",
        "name",
        "reaction",
        "reentrant",
        "result",
        "schema",
    )

    def __init__(self, function: Callable[..., Awaitable[Any]], declaration: Declaration) -> None:
        self.name = declaration.name or function.__name__
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"{function.__qualname__} must be async def")
        if declaration.name is None and not subjects.is_method(self.name):
            raise TypeError(f"{function.__qualname__}: a method's name must match {subjects.METHOD_PATTERN}")
        self.function = function
        self.is_command = declaration.kind == "command"
        self.reentrant = declaration.reentrant
        self.confidential = declaration.confidential
        self.matches = self.is_command and declaration.matches
        self.keeps_version = declaration.keeps_version
        self.founds = declaration.founds
        self.reaction = declaration.reaction
        self.allow: Rule = declaration.allow
        self.doc = inspect.getdoc(function) or ""
        self.inline = _never_suspends(function)
        arguments, self.result = _signature(function)
        if self.reaction is not None and arguments.__struct_fields__ != ("event",):
            raise TypeError(f"{function.__qualname__}: a method that reacts to events has one parameter, event")
        self.schema: Schema[Any] = Schema(arguments, "args")
        self.empty: dict[str, Any] | None = _defaults(arguments)

    @property
    def kind(self) -> Literal["command", "query"]:
        return "command" if self.is_command else "query"

    def arguments(self, payload: bytes, content_type: str | None) -> dict[str, Any]:
        """The keyword arguments in a payload; raises `Failure`."""
        if not payload and self.empty is not None:
            return self.empty
        value = self.schema.decode(payload or b"{}", content_type if payload else None)
        return {name: getattr(value, name) for name in value.__struct_fields__}


class ObjectType:
    """A type of objects: its class, its methods by name, and its state's schema and upcasters."""

    def __init__(self, cls: type[BaseDurableObject[Any]]) -> None:
        self.name = cls.object_type
        self.cls = cls
        self.methods: dict[str, MethodSpec] = {}
        self.state: Schema[Any] = Schema(cls.state_type, "state")
        self._nests_freely = nests_freely(msgspec.inspect.type_info(cls.state_type))
        self._upcasts: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
        for name, member in inspect.getmembers(cls):
            declaration = getattr(member, "__declaration__", None)
            if declaration is not None:
                spec = MethodSpec(member, declaration)
                if spec.name in self.methods:
                    raise TypeError(f"{cls.__name__} has two methods {spec.name!r}")
                self.methods[spec.name] = spec
            if hasattr(member, "__upcast_from__"):
                self._upcasts[member.__upcast_from__] = getattr(cls, name)
        self.methods[ALARM] = _alarm_method(cls)
        missing = [version for version in range(1, cls.schema_version) if version not in self._upcasts]
        if missing:
            raise TypeError(f"{cls.__name__} lacks @upcast(from_={missing[0]})")
        try:
            self.default_state()
        except TypeError:
            raise TypeError(f"every field of {cls.state_type.__name__} needs a default") from None

        try:
            self.description = describe(cls, self.methods.values())
        except TypeError as error:
            raise TypeError(f"{cls.__name__} can't be described: {error}") from None

    def default_state(self) -> msgspec.Struct:
        state: msgspec.Struct = self.cls.state_type()
        return state

    def encode_state(self, state: msgspec.Struct) -> bytes:
        """A state as it is stored; raises `invalid` with the path of what can't be."""
        encoded = codec.encode(state)
        if self._nests_freely and codec.may_nest_too_deep(encoded):
            codec.check(msgspec.to_builtins(state, str_keys=True), "state")
        return encoded

    def check_state(self, encoded: bytes) -> None:
        """Raises `msgspec.ValidationError` for a state that nobody could read again."""
        msgspec.convert(codec.decode(encoded), self.cls.state_type, str_keys=True)

    def convert_state(self, state: dict[str, Any]) -> msgspec.Struct:
        """A state from a caller's map; raises `invalid` with the path."""
        converted: msgspec.Struct = self.state.convert(state)
        return converted

    def load_state(self, state: dict[str, Any], schema: int) -> msgspec.Struct:
        """A stored state, upgraded to today's schema; raises `internal` or `unavailable`."""
        if schema > self.cls.schema_version:
            raise Failure("unavailable", f"the state has schema {schema}, which this process doesn't know yet")
        for version in range(schema, self.cls.schema_version):
            state = self._upcasts[version](state)
        loaded: msgspec.Struct = msgspec.convert(state, self.cls.state_type, str_keys=True)
        return loaded


class DurableObjectRegistry:
    """The types that a process serves, by name."""

    def __init__(self, classes: Iterable[type[BaseDurableObject[Any]]]) -> None:
        self.types: dict[str, ObjectType] = {}
        for cls in classes:
            if not cls.object_type:
                raise TypeError(f'{cls.__name__} has no type: class {cls.__name__}(BaseDurableObject[…], type="…")')
            if cls.object_type in self.types:
                raise TypeError(f"two classes have the type {cls.object_type!r}")
            self.types[cls.object_type] = ObjectType(cls)

    def bind(self, classes: Iterable[type[BaseDurableObject[Any]]], resources: Resources) -> None:
        """Inject the resources into these classes. Raises `TypeError` for a need that nothing provides."""
        for cls in classes:
            self.types[cls.object_type].cls = resources.bind(cls)

    def permissions(self) -> set[str]:
        """The permissions that the types' own methods ask for."""
        specs = [spec for type in self.types.values() for spec in type.methods.values()]
        return {name for spec in specs if not spec.name.startswith("_") for name in spec.allow.permissions}

    def hides(self, type: str, method: str) -> bool:
        """Whether what a method is called with must not be shown: it is confidential, or isn't known here."""
        found = self.types.get(type)
        spec = found.methods.get(method) if found else None
        return spec is None or spec.confidential

    def method(self, type: str, method: str) -> tuple[ObjectType, MethodSpec]:
        """The type and the method; raises `unknown-type` or `unknown-method`."""
        found = self.types.get(type)
        if found is None:
            raise Failure("unknown-type", f"there is no type {type[:64]!r} here", field="type")
        spec = found.methods.get(method)
        if spec is None:
            known = ", ".join(sorted(name for name in found.methods if not name.startswith("_")))
            raise Failure("unknown-method", f"{type} has no method {method[:64]!r}; it has {known}", field="method")
        return found, spec


def _alarm_method(cls: type[BaseDurableObject[Any]]) -> MethodSpec:
    if typing.get_type_hints(cls.on_alarm).get("alarm") is not Alarm:
        raise TypeError(f"{cls.__name__} must have async def on_alarm(self, alarm: Alarm)")
    return MethodSpec(cls.on_alarm, Declaration("command", services(), ALARM))


def _signature(function: Callable[..., Any]) -> tuple[type[msgspec.Struct], Any]:
    hints = typing.get_type_hints(function, include_extras=True)
    fields: list[Any] = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"{function.__qualname__}: *args and **kwargs have no schema")
        hint = hints.get(parameter.name, Any)
        if parameter.default is parameter.empty:
            fields.append((parameter.name, hint))
        else:
            fields.append((parameter.name, hint, parameter.default))
    name = "".join(part.capitalize() for part in function.__name__.split("_")) + "Args"
    arguments = msgspec.defstruct(name, fields, forbid_unknown_fields=True, kw_only=True)
    return arguments, hints.get("return", Any)


def _defaults(arguments: type[msgspec.Struct]) -> dict[str, Any] | None:
    try:
        value = arguments()
    except TypeError:
        return None
    defaults = {name: getattr(value, name) for name in value.__struct_fields__}
    mutable = any(isinstance(item, list | dict | set | msgspec.Struct) for item in defaults.values())
    return None if mutable else defaults


def _never_suspends(function: Callable[..., Any]) -> bool:
    """Whether the coroutine has no point at which it could wait: then it runs without a task."""
    return not any(instruction.opname in SUSPENDING for instruction in dis.get_instructions(function))
