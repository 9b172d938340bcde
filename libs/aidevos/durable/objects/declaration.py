"""How an author declares what an object does: commands, queries, reactions, events, searches, views, upcasts."""

from __future__ import annotations

import functools
import re
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar, cast

import msgspec

from aidevos.contracts import subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.events import CloudEvent, is_pattern
from aidevos.durable.store.port import Find
from aidevos.security.permissions import Principal, Rule, services

Method = TypeVar("Method", bound=Callable[..., Any])
Management = Literal["raw", "lifecycle", "read_only"]


class Event(msgspec.Struct):
    """Base of events. `class Incremented(Event)` is published as `event.<type>.<id>.incremented`."""

    @classmethod
    def event_name(cls) -> str:
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()


class Reaction(msgspec.Struct, frozen=True):
    """Which events a method is called for, and what names the object that it is called on."""

    pattern: str
    key: Callable[[CloudEvent[Any]], str]

    def target(self, type: str, event: CloudEvent[Any]) -> str:
        """The ID of the object of this type that reacts; raises `invalid`."""
        try:
            return subjects.id_from_name(type, self.key(event))
        except Failure:
            raise
        except Exception as error:
            raise Failure("invalid", f"the event's key can't be told: {error!r}", field="args.event") from error


class Declaration(msgspec.Struct, frozen=True):
    """How a method was declaration; `declare_methods` makes it callable from outside."""

    kind: Literal["command", "query"]
    allow: Rule
    name: str | None = None
    reentrant: bool = False
    confidential: bool = False
    matches: bool = True
    keeps_version: bool = False
    creates: bool = False
    reaction: Reaction | None = None


def _declare(declaration: Declaration) -> Callable[[Method], Method]:
    def mark(method: Method) -> Method:
        method.__declaration__ = declaration  # type: ignore[attr-defined]
        return method

    return mark


def command(
    *,
    allow: Rule,
    name: str | None = None,
    confidential: bool = False,
    matches: bool = True,
    keeps_version: bool = False,
    creates: bool = False,
) -> Callable[[Method], Method]:
    """A method that may change the state, emit events, set alarms, and call or tell other objects.

    `allow` says whose calls are accepted; `name` is the name on the wire, by default the method's.
    The outcome of a `confidential` one, whose arguments or result hold secrets, is never stored: a
    repeat gets it from memory, and after a crash it runs the method again. Where `matches` is false
    the method compares `If-Match` itself, by `check_if_match`, once it knows that the caller may see
    the object. One that `keeps_version` changes only what nobody is shown. One that `creates` is usually
    an object's first: it runs at once, as if there were none, and its commit makes the document; where
    there is one already, the method runs again on what is there. It must not change its arguments.
    """
    declaration = Declaration(
        "command",
        allow,
        name,
        confidential=confidential,
        matches=matches,
        keeps_version=keeps_version,
        creates=creates,
    )
    return _declare(declaration)


def _emitter_id(event: CloudEvent[Any]) -> str:
    return subjects.split_object_id(event.object_id)[1]


def on(pattern: str, *, key: Callable[[CloudEvent[Any]], str] = _emitter_id) -> Callable[[Method], Method]:
    """A command that is called for each event of a pattern (`event.<type>.<id>.<name>`, with `*` for any), on the
    object that `key` names: `async def added(self, event: CloudEvent[Added]) -> None`.

    `key` gets the event and returns an ID or any other name; by default it is the ID of the object that has
    emitted the event. Each event takes effect once. Events of one object come in their order; only one that
    failed and is tried again may be overtaken. What raises a `Failure` that isn't retryable becomes a dead letter,
    and so does what has failed `AIDEVOS_EVENT_ATTEMPTS` times.
    """
    if not is_pattern(pattern):
        raise TypeError(f"{pattern!r} is no pattern of events: event.<type>.<id>.<name>, with * for any part")

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


def query(*, allow: Rule, name: str | None = None, reentrant: bool = False) -> Callable[[Method], Method]:
    """A method that only reads. A `reentrant` one answers from the last committed state even while
    a command of the object waits for the caller."""
    return _declare(Declaration("query", allow, name, reentrant))


def _unrestricted(caller: Principal, args: Any) -> Any:
    return args


class Search(msgspec.Struct, frozen=True):
    """A search over the committed states of all objects of a type: `query.<type>.<name>`.

    `args` is a struct of the caller's arguments, with `limit` and `cursor` among them. `find` makes of
    them what the store is asked, with `after` None and any `limit`; `show` makes of an ID, a state and
    its version what the caller gets. `indexes` are the paths in the state, in their order, by which the
    store finds and sorts: every order that `find` asks for ends one, after what it compares before.
    `restrict` makes of the arguments those that the caller may ask with.
    """

    name: str
    allow: Rule
    args: type[msgspec.Struct]
    find: Callable[[Any], Find]
    show: Callable[[str, Any, int], msgspec.Struct]
    indexes: tuple[tuple[str, ...], ...] = ()
    restrict: Callable[[Principal, Any], Any] = _unrestricted


class View(msgspec.Struct, frozen=True):
    """A question about the committed states of objects that a function answers: `query.<type>.<name>`.

    Any replica answers. `args` is a struct of the caller's arguments. `answer` gets a `Reader` and them; any
    further parameters are injected by their types, like attributes declaration with `inject`.
    """

    name: str
    allow: Rule
    args: type[msgspec.Struct]
    answer: Callable[..., Awaitable[Any]]


def upcast(*, from_: int) -> Callable[[Method], Method]:
    """A static method that turns the state of schema version `from_`, a map, into the next version's."""

    def mark(method: Method) -> Method:
        target = method.__func__ if isinstance(method, staticmethod) else method
        target.__upcast_from__ = from_  # type: ignore[attr-defined]
        return method

    return mark
