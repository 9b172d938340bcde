"""Methods as the host calls them, derived from declarations and signatures once per class."""

from __future__ import annotations

import dis
import inspect
import typing
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from aidevos.contracts import envelope
from aidevos.durable.objects.checks import check_type
from aidevos.durable.objects.declaration import Declaration
from aidevos.durable.objects.defect import Defect
from aidevos.durable.objects.schema import Schema
from aidevos.observability.instruments import Distribution
from aidevos.security.permissions import Rule

SUSPENDING = {"GET_AWAITABLE", "GET_AITER", "GET_ANEXT", "BEFORE_ASYNC_WITH", "YIELD_VALUE"}
SUSPENDING_OPCODES = {code for name, code in dis.opmap.items() if name in SUSPENDING}


class MethodSpec:
    """One method as the host calls it.

    `default_arguments` are the arguments of a call without a payload, or None if some are required or mutable.
    `never_suspends` is true if the method contains no `await`, so it can run without a task. `turn_timers` measure its
    turns, by their outcome.
    """

    __slots__ = (
        "allow",
        "checks_if_match",
        "confidential",
        "creates",
        "default_arguments",
        "doc",
        "function",
        "is_command",
        "keeps_version",
        "name",
        "never_suspends",
        "reaction",
        "reentrant",
        "result",
        "result_json",
        "result_msgpack",
        "schema",
        "turn_deadline",
        "turn_timers",
    )

    def __init__(self, function: Callable[..., Awaitable[Any]], declaration: Declaration) -> None:
        self.name = declaration.name or function.__name__
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"{function.__qualname__} must be async def")
        self.function = function
        self.is_command = declaration.kind == "command"
        self.reentrant = declaration.reentrant
        self.confidential = declaration.confidential
        self.checks_if_match = self.is_command and declaration.checks_if_match
        self.keeps_version = declaration.keeps_version
        self.creates = declaration.creates
        self.turn_deadline = declaration.turn_deadline
        self.reaction = declaration.reaction
        self.allow: Rule = declaration.allow
        self.doc = inspect.getdoc(function) or ""
        self.turn_timers: dict[str, Distribution] = {}
        self.never_suspends = _cannot_suspend(function)
        arguments, self.result = _signature(function)
        # Decoders that accept only the declared result; None if anything may be returned.
        self.result_json = self.result_msgpack = None
        if self.result is not Any:
            self.result_json = msgspec.json.Decoder(self.result)
            self.result_msgpack = msgspec.msgpack.Decoder(self.result)
        if self.reaction is not None and arguments.__struct_fields__ != ("event",):
            raise TypeError(f"{function.__qualname__}: a method that reacts to events must have one parameter, event")
        self.schema: Schema[Any] = Schema(arguments, "args")
        self.default_arguments: dict[str, Any] | None = _default_arguments(arguments)

    @property
    def kind(self) -> Literal["command", "query"]:
        return "command" if self.is_command else "query"

    def check_result(self, payload: bytes, content_type: str | None) -> None:
        """Raise `Defect` if an encoded result isn't of the type that the method declares."""
        decoder: Any = self.result_msgpack if content_type == envelope.MSGPACK else self.result_json
        if decoder is None:
            return
        try:
            decoder.decode(payload)
        except msgspec.ValidationError as error:
            declared = self.result.__name__ if isinstance(self.result, type) else str(self.result)
            name = self.function.__qualname__
            raise Defect(f"{name} declares to return {declared}, and returned something else: {error}") from None

    def decode_arguments(self, payload: bytes, content_type: str | None) -> dict[str, Any]:
        """Decode a payload to keyword arguments. Raises `Failure`."""
        if not payload and self.default_arguments is not None:
            return self.default_arguments
        value = self.schema.decode(payload or b"{}", content_type if payload else None)
        return {name: getattr(value, name) for name in value.__struct_fields__}


def _signature(function: Callable[..., Any]) -> tuple[type[msgspec.Struct], Any]:
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise TypeError(f"{function.__qualname__} has an unknown type in its signature: {error}") from None
    for name, hint in hints.items():
        what = "its result" if name == "return" else f"its argument {name}"
        check_type(hint, f"{function.__qualname__}: {what} has no JSON")
    fields: list[Any] = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"{function.__qualname__}: *args and **kwargs are not supported, as they have no schema")
        hint = hints.get(parameter.name, Any)
        if parameter.default is parameter.empty:
            fields.append((parameter.name, hint))
        else:
            fields.append((parameter.name, hint, parameter.default))
    name = "".join(part.capitalize() for part in function.__name__.split("_")) + "Args"
    arguments = msgspec.defstruct(name, fields, forbid_unknown_fields=True, kw_only=True)
    return arguments, hints.get("return", Any)


def _default_arguments(arguments: type[msgspec.Struct]) -> dict[str, Any] | None:
    try:
        value = arguments()
    except TypeError:
        return None
    defaults = {name: getattr(value, name) for name in value.__struct_fields__}
    mutable = any(isinstance(item, list | dict | set | msgspec.Struct) for item in defaults.values())
    return None if mutable else defaults


def _cannot_suspend(function: Callable[..., Any]) -> bool:
    """True if the coroutine has no instruction at which it could wait."""
    return SUSPENDING_OPCODES.isdisjoint(function.__code__.co_code[::2])
