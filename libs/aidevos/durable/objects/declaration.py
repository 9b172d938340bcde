"""Declarations of an object's commands, queries, reactions, events, searches, views and upcasts."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Concatenate, Generic, Literal, ParamSpec, Protocol, TypeVar, cast, overload

import msgspec

from aidevos.contracts import subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.events import CloudEvent, is_pattern
from aidevos.durable.store.port import Find
from aidevos.security.permissions import Principal, Rule, services

P = ParamSpec("P")
R = TypeVar("R")
Awaited_co = TypeVar("Awaited_co", covariant=True)
Blocking_co = TypeVar("Blocking_co", covariant=True)
Method = TypeVar("Method", bound=Callable[..., Any])
Decorator = TypeVar("Decorator", bound=Callable[..., Any])
Management = Literal["raw", "lifecycle", "read_only"]


class Event(msgspec.Struct):
    """Base of events. `class Incremented(Event)` is published as `event.<type>.<id>.incremented`."""

    @classmethod
    def event_name(cls) -> str:
        """Return the event's name on the wire: the class name in snake case."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()


class Reaction(msgspec.Struct, frozen=True):
    """The pattern of the events that a method reacts to, and the function that names the object to call."""

    pattern: str
    key: Callable[[CloudEvent[Any]], str]

    def target(self, type: str, event: CloudEvent[Any]) -> str:
        """Return the ID of the object of this type that reacts to an event. Raises `invalid`."""
        try:
            return subjects.id_from_name(type, self.key(event))
        except Failure:
            raise
        except Exception as error:
            raise Failure("invalid", f"the event's key can't be determined: {error!r}", field="args.event") from error


class Declaration(msgspec.Struct, frozen=True):
    """The declaration of a method, as its decorator stores it."""

    kind: Literal["command", "query"]
    allow: Rule
    name: str | None = None
    reentrant: bool = False
    confidential: bool = False
    checks_if_match: bool = True
    keeps_version: bool = False
    creates: bool = False
    reaction: Reaction | None = None
    turn_deadline: float | None = None


class Declared(Generic[Awaited_co, Blocking_co]):
    """The type of a command or query for type checkers; when the program runs, it is the method itself.

    Read from an object, it is a coroutine function, as it was written. Read from the class, it blocks and returns the
    result: that is how a client without an event loop types its references, which are no objects of the class either.
    """

    @overload
    def __get__(self, instance: None, owner: type[Any], /) -> Blocking_co: ...
    @overload
    def __get__(self, instance: object, owner: type[Any], /) -> Awaited_co: ...
    def __get__(self, instance: object, owner: type[Any], /) -> Any:
        raise NotImplementedError


class Declare(Protocol):
    """The decorator of a coroutine method."""

    def __call__(
        self, method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /
    ) -> Declared[Callable[P, Coroutine[Any, Any, R]], Callable[P, R]]: ...


def _declare(declaration: Declaration) -> Callable[[Method], Method]:
    def mark(method: Method) -> Method:
        if not isinstance(declaration.allow, Rule):
            example = f'@{declaration.kind}(allow=permission("…"))'
            raise TypeError(f"{_name_of(method)}: allow must be a rule, as in {example}, not {declaration.allow!r}")
        limit = declaration.turn_deadline
        if limit is not None and not (isinstance(limit, int | float) and 0 < limit < math.inf):
            raise TypeError(f"{_name_of(method)}: turn_deadline must be a positive number of seconds, not {limit!r}")
        method.__declaration__ = declaration  # type: ignore[attr-defined]
        return method

    return mark


def _with_options(required: str, example: str) -> Callable[[Decorator], Decorator]:
    """Make a decorator refuse a method, by its name, that it is put on without its required option."""

    def explain(decorator: Decorator) -> Decorator:
        def refuse(method: Any) -> Any:
            raise TypeError(f"{_name_of(method)}: @{decorator.__name__} needs {required}: write {example}")

        @functools.wraps(decorator)
        def checked(*methods: Any, **options: Any) -> Any:
            if methods:
                refuse(methods[0])
            return decorator(**options) if required in options else refuse

        return cast(Decorator, checked)

    return explain


def _name_of(method: Any) -> str:
    return getattr(method, "__qualname__", repr(method))


@_with_options("allow", '@command(allow=permission("…"))')
def command(
    *,
    allow: Rule,
    name: str | None = None,
    confidential: bool = False,
    checks_if_match: bool = True,
    keeps_version: bool = False,
    creates: bool = False,
    turn_deadline: float | None = None,
) -> Declare:
    """Declare a method that may change the state, emit events, set alarms, and call or tell other objects.

    `allow` says which callers are accepted. `name` is the name on the wire, by default the method's name.

    A `confidential` method has secrets in its arguments or result, so its outcome is never stored. A repeated request
    gets the outcome from memory; after a crash it runs the method again. With `checks_if_match=False`, the framework
    doesn't compare `If-Match`, and the method calls `check_if_match` itself once it knows that the caller may see the
    object. A method that `keeps_version` changes only parts of the state that no caller sees.

    A method that `creates` is usually an object's first. It runs without reading the store, as if there were no object,
    and its commit creates the document. If one exists, the method runs again on the stored state, so it must not change
    its arguments.

    A method may return its result as `msgspec.Raw`, in JSON. It is passed on as it is, and only the test kit checks it.

    `turn_deadline` is the number of seconds that the method may take, by default `AIDEVOS_TURN_DEADLINE`. Past it, the
    method is cancelled and undone, and the caller gets `turn-timeout`.
    """
    declaration = Declaration(
        "command",
        allow,
        name,
        confidential=confidential,
        checks_if_match=checks_if_match,
        keeps_version=keeps_version,
        creates=creates,
        turn_deadline=turn_deadline,
    )
    return cast(Declare, _declare(declaration))


def _emitter_id(event: CloudEvent[Any]) -> str:
    return subjects.split_object_id(event.object_id)[1]


def on(pattern: str, *, key: Callable[[CloudEvent[Any]], str] = _emitter_id) -> Callable[[Method], Method]:
    """Declare a command that is called for each event of a pattern: `event.<type>.<id>.<name>`, with `*` for any part.

    The method has one parameter: `async def added(self, event: CloudEvent[Added]) -> None`. It is called on the object
    that `key` names. `key` gets the event and returns an ID or any other name; by default, the ID of the object that
    emitted the event.

    Each event takes effect exactly once. Events of one object come in order; only a retried event may be overtaken. An
    event becomes a dead letter if the method raises a `Failure` that isn't retryable, or after it has failed
    `AIDEVOS_EVENT_ATTEMPTS` times.
    """
    if not isinstance(pattern, str):
        raise TypeError(f'{_name_of(pattern)}: @on needs a pattern: write @on("event.<type>.<id>.<name>")')
    if not is_pattern(pattern):
        raise TypeError(f"{pattern!r} is not an event pattern: write event.<type>.<id>.<name>, with * for any part")

    def mark(method: Method) -> Method:
        reaction = Reaction(pattern, key)

        @functools.wraps(method)
        async def react(self: Any, event: CloudEvent[Any]) -> None:
            target = reaction.target(self.object_type, event)
            if target == self.id:
                await method(self, event)
            else:
                self.tell(self.object_type, target, method.__name__, event=event)

        return _declare(Declaration("command", services(), reaction=reaction))(cast(Method, react))

    return mark


@_with_options("allow", '@query(allow=permission("…"))')
def query(
    *, allow: Rule, name: str | None = None, reentrant: bool = False, turn_deadline: float | None = None
) -> Declare:
    """Declare a method that only reads.

    A `reentrant` query doesn't wait for commands of the object, but answers from the last committed state. So it also
    answers a call that a command waits for. `turn_deadline` is as for commands.
    """
    return cast(Declare, _declare(Declaration("query", allow, name, reentrant, turn_deadline=turn_deadline)))


def _unrestricted(caller: Principal, args: Any) -> Any:
    return args


class Search(msgspec.Struct, frozen=True):
    """A search over the committed states of all objects of a type: `query.<type>.<name>`.

    `args` is a struct of the caller's arguments, which include `limit` and `cursor`. `restrict` narrows the arguments
    to what the caller may see. `find` turns them into a store search; its `limit` and `after` are ignored. `show` turns
    an ID, a state and its version into the item that the caller gets.

    Each of `indexes` is a tuple of paths in the state: first those that `find` compares, last the one that it sorts by.
    """

    name: str
    allow: Rule
    args: type[msgspec.Struct]
    find: Callable[[Any], Find]
    show: Callable[[str, Any, int], msgspec.Struct]
    indexes: tuple[tuple[str, ...], ...] = ()
    restrict: Callable[[Principal, Any], Any] = _unrestricted


class View(msgspec.Struct, frozen=True):
    """A function over the committed states of objects: `query.<type>.<name>`. Any replica of the service answers.

    `args` is a struct of the caller's arguments. `answer` gets a `Reader` and the arguments. Further parameters are
    injected by type, like attributes declared with `inject`.
    """

    name: str
    allow: Rule
    args: type[msgspec.Struct]
    answer: Callable[..., Awaitable[Any]]


@_with_options("from_", "@upcast(from_=1)")
def upcast(*, from_: int) -> Callable[[Method], Method]:
    """Declare a static method that converts a state, as a map, from schema version `from_` to the next version."""

    def mark(method: Method) -> Method:
        target = method.__func__ if isinstance(method, staticmethod | classmethod) else method
        target.__upcast_from__ = from_  # type: ignore[attr-defined]
        return method

    return mark
