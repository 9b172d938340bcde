"""Refusal of object classes that are declared wrongly.

Promise: an author's mistake is refused when the class is made or served, in a sentence that names the class and the
field or method. It doesn't wait for the first request that meets it.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import typing
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

# What a class may define anew. Everything else in the base class is the framework's own.
HOOKS = frozenset({"on_activate", "on_hibernate", "on_delete", "on_restore", "on_alarm"})
OPTIONS = frozenset({"searches", "views", "indexes", "sparse_indexes"})
OPTIONS |= {"state_limit", "project_aware", "expires_after", "commit_interval"}
# Attributes of the base class that are options in the class's own head.
HEAD_OPTIONS = {name: name for name in ("schema_version", "management", "internal")} | {"object_type": "type"}
HEAD_OPTIONS |= {"kept_versions": "history"}
INSTANCE = frozenset({"id", "state"})
LITERALS = (ast.Dict, ast.DictComp, ast.Constant, ast.JoinedStr, ast.List, ast.Tuple)


def check_names(cls: type, base: type) -> None:
    """Raise `TypeError` for an attribute of a new class that would replace one of the framework's own."""
    for name in _own_names(cls, base):
        if name in HEAD_OPTIONS:
            option = HEAD_OPTIONS[name]
            raise TypeError(f"{cls.__name__}.{name} is an option: write class {cls.__name__}(…, {option}=…)")
        if name in HOOKS and not inspect.iscoroutinefunction(getattr(cls, name)):
            raise TypeError(f"{cls.__name__}.{name} must be async def")
        if name in INSTANCE or (name in vars(base) and name not in HOOKS | OPTIONS and not name.startswith("__")):
            raise TypeError(
                f"{cls.__name__}.{name} would replace the framework's own {name}: rename it, "
                f'and give a method its name on the wire by @command(name="{name}")'
            )


def check_init(cls: type, base: type) -> None:
    """Raise `TypeError` if the framework can't make objects of a class, because of its `__init__`."""
    if cls.__init__ is base.__init__:  # type: ignore[misc]
        return
    try:
        inspect.signature(cls).bind(id="", state=None)
    except TypeError:
        raise TypeError(
            f"{cls.__name__}.__init__ must take id and state only, because the framework makes the objects: "
            "declare what it shares with others by inject(), and build the rest in on_activate"
        ) from None


def find_state_type(cls: type, base: type) -> type[msgspec.Struct] | None:
    """Return the state that a class names in brackets, or None. Raises `TypeError` if it isn't a struct."""
    for origin in getattr(cls, "__orig_bases__", ()):
        if not issubclass(typing.get_origin(origin) or origin, base):
            continue
        for argument in typing.get_args(origin):
            if isinstance(argument, type) and issubclass(argument, msgspec.Struct):
                return argument
            if not isinstance(argument, typing.TypeVar):
                state = f"{cls.__name__}State"
                raise TypeError(
                    f"{cls.__name__}: its state must be a struct, as in class {state}(msgspec.Struct), not {argument}"
                )
    return None


def check_state(cls: type, state: type[msgspec.Struct]) -> None:
    """Raise `TypeError` for a field of a state that has no default or can't be stored."""
    if state.__struct_config__.array_like:
        raise TypeError(f"{cls.__name__}: its state {state.__name__} is stored as a map, so it can't be array_like")
    try:
        fields = msgspec.structs.fields(state)
    except NameError as error:
        raise TypeError(f"{cls.__name__}: a field of {state.__name__} has an unknown type: {error}") from None
    for field in fields:
        where = f"{cls.__name__}: {state.__name__}.{field.name}"
        if field.required:
            raise TypeError(f"{where} needs a default, which is its value in a new object")
        check_type(field.type, f"{where} can't be stored")


def check_type(type: Any, problem: str) -> None:
    """Raise `TypeError`, which begins with `problem`, for a type whose values can't be sent or stored."""
    try:
        msgspec.json.Decoder(type)
        msgspec.json.schema(type)
    except (TypeError, NameError) as error:
        raise TypeError(f"{problem}: {str(error).splitlines()[-1]}") from None


def check_upcast(cls: type, name: str, version: int, latest: int) -> None:
    """Raise `TypeError` for an upcast from `version` that can't be called with a state, or never would be."""
    method = f"{cls.__name__}.{name}"
    static = isinstance(inspect.getattr_static(cls, name), staticmethod)
    if not static or inspect.iscoroutinefunction(getattr(cls, name)):
        raise TypeError(f"{method} must be a static method: write @upcast(from_={version}), @staticmethod and def")
    if not 1 <= version < latest:
        raise TypeError(f"{method} converts from version {version}, but the class has schema_version={latest}")


def check_emits(cls: type, function: Callable[..., Any]) -> None:
    """Raise `TypeError` for a method that emits a literal instead of an event."""
    for literal in _emitted_literals(inspect.unwrap(function)):
        raise TypeError(
            f"{cls.__name__}.{function.__name__} emits {ast.unparse(literal)}: an event is an instance of a class, "
            "as in class Added(Event) and self.emit(Added(…))"
        )


def _emitted_literals(function: Callable[..., Any]) -> Iterator[ast.expr]:
    if "emit" not in function.__code__.co_names:
        return
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError):
        # Without its source, the turn finds out.
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "self.emit":
            yield from (item for item in node.args if isinstance(item, LITERALS))


def _own_names(cls: type, base: type) -> Iterator[str]:
    """Yield the attributes of a class and of its mixins; other object classes have been checked when they were made."""
    for owner in cls.__mro__[: cls.__mro__.index(base)]:
        if owner is cls or not issubclass(owner, base):
            yield from vars(owner)
