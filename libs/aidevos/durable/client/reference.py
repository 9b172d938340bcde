"""References to objects elsewhere, whose methods are called as their class declares them.

`refer(Counter, "clicks", send)` is typed as a `Counter`, so that a type checker knows the arguments and the result of
each method. The reference takes arguments by position and by name, refuses wrong ones before anything is sent, and
returns a value of the declared type. A reference to a type by name, `refer("counter", "clicks", send)`, knows no
signatures. It takes arguments by name only, and returns decoded JSON.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, TypeVar, overload

import msgspec

from aidevos.contracts import subjects
from aidevos.contracts.errors import Failure

T = TypeVar("T")
# Sends a call's type, ID, method and encoded arguments, and returns the encoded result. Raises `Failure`.
Send = Callable[[str, str, str, bytes], Awaitable[bytes]]


@overload
def refer(target: type[T], id: str, send: Send) -> T: ...
@overload
def refer(target: str, id: str, send: Send) -> Any: ...
def refer(target: str | type[Any], id: str, send: Send) -> Any:
    """Return a reference to an object of a class, or of a type by name.

    `id` is the object's ID, or any other name, as `id_from_name` takes it. Raises `invalid` for an impossible type or
    name, and `TypeError` for a class without a type.
    """
    return Reference(target, id, send)


class Reference:
    """An object elsewhere. Its attributes are functions that call its methods and return awaitables."""

    __slots__ = ("_id", "_send", "_target", "_type")

    def __init__(self, target: str | type[Any], id: str, send: Send) -> None:
        self._target = target
        self._type = target if isinstance(target, str) else type_of(target)
        if not subjects.is_type(self._type):
            raise Failure("invalid", f"{self._type!r} is not the name of a type", field="type")
        self._id = subjects.id_from_name(self._type, id)
        self._send = send

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        target: Any = self._target
        method = _method_by_name(target, name) if isinstance(target, str) else _method_of_class(target, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            payload = method.encode(args, kwargs)
            return method.decode(await self._send(self._type, self._id, method.name, payload))

        return call

    def __repr__(self) -> str:
        return f"<reference to {self._type}:{self._id}>"


class _Method:
    """A method by its name on the wire."""

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self._path = path

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Return the payload of a call. Raises `TypeError` for arguments that the method doesn't take."""
        if args:
            raise TypeError(f"{self._path} takes arguments by name: pass the class to pass them by position")
        return msgspec.json.encode(kwargs) if kwargs else b""

    def decode(self, reply: bytes) -> Any:
        return msgspec.json.decode(reply) if reply else None


class _DeclaredMethod(_Method):
    """A method with its signature and the type of its result."""

    def __init__(self, name: str, path: str, function: Callable[..., Any]) -> None:
        super().__init__(name, path)
        self._signature = inspect.signature(function)
        self._result = typing.get_type_hints(function, include_extras=True).get("return", Any)
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(self._result)

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        try:
            # The first parameter is the object itself.
            bound = self._signature.bind(None, *args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{self._path}(): {error}") from None
        return super().encode((), dict(list(bound.items())[1:]))

    def decode(self, reply: bytes) -> Any:
        try:
            return self._decoder.decode(reply or b"null")
        except msgspec.ValidationError as error:
            raise TypeError(
                f"{self._path} declares {self._result}, and the object returned other data: {error}"
            ) from None


def type_of(cls: type[Any]) -> str:
    """Return the name of a class's type. Raises `TypeError` if it has none."""
    type = getattr(cls, "object_type", "")
    if not type:
        raise TypeError(f"{cls.__name__} isn't the class of a type of objects")
    return str(type)


@lru_cache(maxsize=4096)
def _method_by_name(type: str, name: str) -> _Method:
    # The management methods begin with an underscore. Names that also end with one are those of Python and its tools.
    if not subjects.is_method(name.removeprefix("_")) or name.endswith("_"):
        raise AttributeError(f"{name!r} is not the name of a method")
    return _Method(name, f"{type}.{name}")


@lru_cache(maxsize=4096)
def _method_of_class(cls: type[Any], name: str) -> _Method:
    function = getattr(cls, name, None)
    declaration = getattr(function, "__declaration__", None)
    if function is None or declaration is None:
        raise AttributeError(f"{cls.__name__} has no command or query {name!r}")
    return _DeclaredMethod(declaration.name or name, f"{cls.__name__}.{name}", function)
