"""Resources that the objects of a process share, such as a database pool, an HTTP client or a secret.

Promise: each resource opens once per process, after the resources it needs and before the first object. It closes in
the reverse order after the last object, whatever fails. Nothing is stored on the classes that users write, so several
processes, test kits and configurations can coexist in one interpreter.
"""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import cached_property, partial
from types import SimpleNamespace, new_class
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

import msgspec

from aidevos.durable.objects.declaration import View
from aidevos.durable.objects.object import BaseDurableObject

Value = TypeVar("Value")
Parameters = ParamSpec("Parameters")
# The number of parameters that a view's function gets from its caller: the reader and the arguments.
VIEW_PARAMETERS = 2


class Need(NamedTuple):
    """A value to inject: the name of its owner, for error messages, the attribute or parameter, and its type."""

    owner: str
    name: str
    type: Any

    def missing(self) -> TypeError:
        """Return the error for a need that nothing provides."""
        return TypeError(f"{self.owner} needs a {_type_name(self.type)} as {self.name!r}, but no resource provides one")


class Resource(Generic[Value]):
    """A function decorated with `resource`. `name` is the function's name."""

    def __init__(self, function: Callable[..., AsyncIterator[Value]]) -> None:
        if not inspect.isasyncgenfunction(function):
            raise TypeError(f"{function.__qualname__} must be an async generator function that yields once")
        self.name = function.__name__
        self._function = function
        self._open = asynccontextmanager(function)

    @cached_property
    def type(self) -> Any:
        """The type under which the value is injected."""
        returned = typing.get_type_hints(self._function).get("return")
        arguments = typing.get_args(returned)
        if not arguments:
            raise TypeError(f"{self._function.__qualname__} must be annotated: -> AsyncIterator[…]")
        return arguments[0]

    @cached_property
    def needs(self) -> list[Need]:
        """The function's parameters."""
        return needs_of(self._function)

    def open(self, arguments: Mapping[str, Any]) -> AbstractAsyncContextManager[Value]:
        """Return a context manager that opens and closes the resource."""
        return self._open(**arguments)


def resource(function: Callable[Parameters, AsyncIterator[Value]]) -> Resource[Value]:
    """Declare what a process opens for its objects: an async generator function that yields one value.

    @resource
    async def database(settings: Settings) -> AsyncIterator[Pool]:
        async with create_pool(...) as pool:
            yield pool

    The code after the `yield` runs when the process ends, for whatever reason. The value is injected by its annotated
    type wherever an object has `pool: Pool = inject()`. The function's parameters are injected in the same way: other
    resources, and the `Settings`, `DurableObjectClient`, `EventBus` and `Peers` that every process has. Use
    `typing.NewType` to distinguish several values of one type.
    """
    return Resource(function)


class Injected:
    """The placeholder that `inject` puts on a class. A process replaces it when it binds the class to its resources."""

    owner: type[Any]
    name: str

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self.owner, self.name = owner, name

    def __get__(self, instance: object, owner: type[Any]) -> Any:
        raise AttributeError(
            f"{owner.__name__}.{self.name} is available only in a process or test kit that provides it"
        )

    @cached_property
    def type(self) -> Any:
        """The attribute's annotated type."""
        annotations = inspect.get_annotations(self.owner)
        if self.name not in annotations:
            raise TypeError(f"{self.owner.__name__}.{self.name} needs an annotation: {self.name}: … = inject()")
        annotated = SimpleNamespace(__annotations__={self.name: annotations[self.name]})
        return typing.get_type_hints(annotated, vars(sys.modules[self.owner.__module__]))[self.name]


def inject() -> Any:
    """Declare that a class needs a resource: `pool: Pool = inject()`. The annotated type selects it."""
    return Injected()


class Resources:
    """The open resources of a process, by type."""

    def __init__(self, values: Mapping[Any, Any]) -> None:
        self._values = values

    def arguments(self, needs: Iterable[Need]) -> dict[str, Any]:
        """Return the values for these needs, by name. Raises `TypeError` for a need that nothing provides."""
        return {need.name: self._value_for(need) for need in needs}

    def bind(self, cls: type[BaseDurableObject[Any]]) -> type[BaseDurableObject[Any]]:
        """Return a subclass with everything that the class and its views need, or the class itself if it needs nothing.

        Raises `TypeError` for a need that nothing provides.
        """
        values = self.arguments(_attributes_of(cls))
        views = tuple(self._bind_view(view) for view in cls.views)
        if views != cls.views:
            values["views"] = views
        if not values:
            return cls
        names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
        return new_class(cls.__name__, (cls,), exec_body=lambda body: body.update(names | values))

    def _bind_view(self, view: View) -> View:
        values = self.arguments(needs_of(view.answer, VIEW_PARAMETERS))
        return msgspec.structs.replace(view, answer=partial(view.answer, **values)) if values else view

    def _value_for(self, need: Need) -> Any:
        try:
            return self._values[need.type]
        except KeyError:
            raise need.missing() from None


@asynccontextmanager
async def open_resources(resources: Iterable[Resource[Any]], provided: Mapping[Any, Any]) -> AsyncIterator[Resources]:
    """Open the resources in the order of their needs. A value in `provided` replaces the resource of its type.

    Raises `TypeError` for a need that nothing provides, for resources that need each other, and for two resources of
    one type.
    """
    values = dict(provided)
    async with AsyncExitStack() as stack:
        for each in opening_order(resources, provided):
            arguments = Resources(values).arguments(each.needs)
            opened = each.open(arguments)
            values[each.type] = await opened.__aenter__()
            # Errors elsewhere are not thrown into the resource, so the code after its `yield` always runs.
            stack.push_async_callback(opened.__aexit__, None, None, None)
        yield Resources(values)


def opening_order(resources: Iterable[Resource[Any]], provided: Iterable[Any]) -> list[Resource[Any]]:
    """Return the resources sorted so that each follows those it needs. Raises `TypeError` like `open_resources`."""
    known = set(provided)
    sources: dict[Any, Resource[Any]] = {}
    for each in resources:
        if sources.setdefault(each.type, each) is not each:
            raise TypeError(
                f"the resources {sources[each.type].name} and {each.name} are both a {_type_name(each.type)}"
            )
    order: dict[Any, Resource[Any]] = {}

    def add(type: Any, dependants: tuple[str, ...]) -> None:
        source = sources[type]
        if source.name in dependants:
            raise TypeError(f"resources need each other: {' -> '.join((*dependants, source.name))}")
        for need in source.needs:
            if need.type not in known and need.type not in order:
                if need.type not in sources:
                    raise need.missing()
                add(need.type, (*dependants, source.name))
        order[type] = source

    for type in sources:
        if type not in known and type not in order:
            add(type, ())
    return list(order.values())


def check_needs(needs: Iterable[Need], resources: Iterable[Resource[Any]], provided: Iterable[Any]) -> None:
    """Raise `TypeError` unless resources and provided types satisfy these needs and those of the resources."""
    available = {*provided, *(each.type for each in resources)}
    opening_order(resources, provided)
    for need in needs:
        if need.type not in available:
            raise need.missing()


def needs_of(function: Callable[..., Any], skip: int = 0) -> list[Need]:
    """Return the needs of a function's parameters without defaults, after the first `skip` ones.

    A callable object may state its needs itself, in an attribute `needs`.
    """
    stated: list[Need] | None = getattr(function, "needs", None)
    if stated is not None:
        return stated
    parameters = list(inspect.signature(function).parameters.values())[skip:]
    parameters = [each for each in parameters if each.default is each.empty]
    hints = typing.get_type_hints(function) if parameters else {}
    owner = getattr(function, "__qualname__", repr(function))
    return [Need(owner, each.name, hints.get(each.name, Any)) for each in parameters]


def needs_of_class(cls: type[BaseDurableObject[Any]]) -> list[Need]:
    """Return the needs of a class and its views."""
    views = (needs_of(view.answer, VIEW_PARAMETERS) for view in cls.views)
    return [*_attributes_of(cls), *(need for needs in views for need in needs)]


def _attributes_of(cls: type[Any]) -> list[Need]:
    marks = {name: mark for each in reversed(cls.__mro__) for name, mark in vars(each).items()}
    return [Need(cls.__name__, name, mark.type) for name, mark in marks.items() if isinstance(mark, Injected)]


def _type_name(type: Any) -> str:
    return str(getattr(type, "__name__", type))
