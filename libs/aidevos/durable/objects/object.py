"""What a user writes: a class with a typed state, commands and queries.

Promise: commands of one object run one after another; a command that raises leaves no trace in the
state; nothing that a command did is seen by anyone before it is committed. A query sees the state
between commands and may not change it.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar, cast

import msgspec

from aidevos.contracts import envelope, objects, projects, subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import DurableObject
from aidevos.durable.objects.alarm import Alarm
from aidevos.durable.objects.alarms import Alarms
from aidevos.durable.objects.declaration import Event, Management, Search, View, command, query
from aidevos.durable.objects.if_match import check_if_match
from aidevos.durable.objects.running import RunningTurn, current_turn
from aidevos.security.permissions import Principal, permission, services

State = TypeVar("State", bound=msgspec.Struct)
MANAGE = permission("objects:manage")
# A project finds its objects by the lists of their types.
LISTS = MANAGE | services()


class BaseDurableObject(Generic[State]):
    """Base of all durable objects: `class Counter(BaseDurableObject[CounterState], type="counter")`.

    Class options: `type`, the name on the wire; `schema_version` of the state, with an `@upcast` for
    each earlier one; `management`, what the management endpoints may do: `"raw"` reads and writes the
    state, `"lifecycle"` creates and deletes but shows no state, `"read_only"` only reads; `internal`, True for
    machinery that people needn't know: documents and lists leave the type out.
    """

    object_type: ClassVar[str] = ""
    state_type: ClassVar[type[msgspec.Struct]]
    schema_version: ClassVar[int] = 1
    management: ClassVar[Management] = "lifecycle"
    internal: ClassVar[bool] = False
    searches: ClassVar[tuple[Search, ...]] = ()
    views: ClassVar[tuple[View, ...]] = ()
    # Paths in the state by which views look for objects; a sparse one has only the objects in whose
    # states something stands at its last path.
    indexes: ClassVar[tuple[tuple[str, ...], ...]] = ()
    sparse_indexes: ClassVar[tuple[tuple[str, ...], ...]] = ()
    # The largest state in bytes; None for what the settings say.
    state_limit: ClassVar[int | None] = None
    # Whether the type's own methods, searches and views judge themselves what an API key reaches that counts
    # in one project alone. Where they don't, it reaches nothing.
    project_aware: ClassVar[bool] = False
    # Seconds after the last turn that changed the state at which the object deletes itself; None for never.
    # One that was last changed when this was None has no end until it is changed again.
    expires_after: ClassVar[float | None] = None

    state: State
    id: str

    def __init_subclass__(
        cls,
        *,
        type: str = "",
        schema_version: int = 1,
        management: Management = "lifecycle",
        internal: bool = False,
        **options: Any,
    ) -> None:
        super().__init_subclass__(**options)
        if not type:
            return
        if not subjects.is_type(type):
            raise TypeError(f"{type!r} is no type name: it must match {subjects.TYPE_PATTERN}")
        cls.object_type = type
        cls.schema_version = schema_version
        cls.management = management
        cls.internal = internal
        cls.state_type = _state_type(cls)

    def __init__(self, id: str, state: State) -> None:
        self.id = id
        self.state = state

    async def on_activate(self) -> None:
        """Called before the first turn in this process; changes of the state are not kept."""

    async def on_hibernate(self) -> None:
        """Called before the object leaves memory; changes of the state are not kept."""

    async def on_delete(self) -> None:
        """Called in the turn that deletes the object; it may emit and tell."""

    async def on_alarm(self, alarm: Alarm) -> None:
        """Called when an alarm rings, as a command by the object's own service: it may do what a command may.

        It is called at least once: after a crash it runs again, on a state that shows nothing of the first time.
        What it raises undoes the turn, and another one follows as `retry` of the alarm says.
        """
        raise NotImplementedError(f"{type(self).__name__} has no on_alarm")

    @property
    def alarms(self) -> Alarms:
        """The object's alarms, in a command."""
        return Alarms(self._running())

    @property
    def caller(self) -> Principal:
        """Who called the running method."""
        return self._running().caller

    @property
    def client_address(self) -> str:
        """The IP address from which the running method's caller, or the caller of its caller, came to the
        gateway; empty for those who came over NATS."""
        return self._running().client_address

    @property
    def request_id(self) -> str:
        """An ID of the running turn: the same for every attempt of one request."""
        return self._running().id

    @property
    def version(self) -> int:
        """The object's version as the running turn has found it; a command that changes the state
        leaves the next one."""
        return self._running().version

    @property
    def if_match(self) -> str | None:
        """The condition that the caller has put on the version."""
        return self._running().if_match

    def check_if_match(self) -> None:
        """Raises `precondition-failed` where the object has another version than the caller named."""
        turn = self._running()
        check_if_match(turn.if_match, turn.exists, turn.version)

    @property
    def now(self) -> float:
        """Seconds since the epoch, on the host's clock."""
        return self._running().now

    def emit(self, event: Event) -> None:
        """Publish an event after the commit of this turn, and only then."""
        self._running().emit(event)

    def tell(self, type: str, id: str, method: str, /, **args: Any) -> None:
        """Call a method of another object after the commit of this turn, exactly once, without a reply."""
        self._running().tell(type, id, method, args)

    async def call(self, type: str, id: str, method: str, /, **args: Any) -> Any:
        """Call a method of another object now, with what is left of the caller's deadline.

        The callee's effect stays if this turn fails later: an effect on two objects is a saga of
        commits and tells. Raises `Failure`: the callee's, `deadlock` or `unavailable`.
        """
        return await self._running().call(type, id, method, args)

    async def forward(
        self,
        subject: str,
        payload: bytes,
        *,
        request_id: str,
        content_type: str = envelope.JSON,
        authorization: str | None = None,
    ) -> bytes:
        """Send a request as it stands to `do.<type>.<id>.<method>`, now, and return the payload of its answer.

        `request_id` is what makes a repeat of this turn repeat no effect; an `authorization` lets somebody
        else than the service be its caller. Raises `Failure`, as `call` does.
        """
        return await self._running().forward(
            subject, payload, request_id=request_id, content_type=content_type, authorization=authorization
        )

    async def ask(self, type: str, view: str, /, **args: Any) -> Any:
        """What a view or a search answers now, from committed states: this turn's changes are not among them."""
        return await self._running().ask(type, view, args)

    async def checkpoint(self, *, keeps_version: bool = False) -> None:
        """Commit what this turn has done so far, and return when everybody may see it.

        If the turn fails later, it goes back to here and no further. After a crash a repeat of the
        request runs the method again, on the state of the checkpoint.
        """
        await self._running().checkpoint(keeps_version=keeps_version)

    async def delete(self) -> None:
        """Delete this object with the commit of this turn; the next command starts anew."""
        self._running().delete()
        await self.on_delete()

    async def forget_outcomes(self) -> None:
        """Erase what earlier requests of this object were answered, for data that must be gone. A repeat of
        one is refused as `stale`, or, when it was in the archive, runs again. Call it in a turn of its own
        that a tell brings about: it raises `unavailable` when it has to be tried again."""
        await self._running().forget_outcomes()

    @command(allow=MANAGE, name=objects.CREATE)
    async def create_object(
        self, state: dict[str, Any] | None = None, project: projects.Id | None = None
    ) -> DurableObject:
        """Make the object, with this state or the default one; `exists` if it is there already. With a `project`,
        whose maintainer or owner the caller is, it belongs to that, and ends with it."""
        turn = self._running()
        if turn.exists:
            raise Failure("exists", f"{self.object_type}:{self.id} exists already")
        self._allow_management("raw", "lifecycle")
        if state is not None:
            self._replace_state(state)
        await turn.join(project)
        return turn.view()

    @query(allow=MANAGE, name=objects.READ)
    async def read_object(self) -> DurableObject:
        """The object as management shows it."""
        turn = self._running()
        if not turn.exists:
            raise Failure("not-found", f"there is no object {self.object_type}:{self.id}")
        return turn.view()

    @command(allow=MANAGE, name=objects.REPLACE)
    async def replace_object(self, state: dict[str, Any]) -> DurableObject:
        """Replace the state of an object that exists."""
        turn = self._running()
        self._allow_management("raw")
        if not turn.exists:
            raise Failure("not-found", f"there is no object {self.object_type}:{self.id}")
        self._replace_state(state)
        return turn.view()

    @command(allow=MANAGE, name=objects.DELETE)
    async def delete_object(self) -> None:
        """Delete an object that exists."""
        turn = self._running()
        if not turn.exists:
            raise Failure("not-found", f"there is no object {self.object_type}:{self.id}")
        self._allow_management("raw", "lifecycle")
        await self.delete()

    @command(allow=services(), name=objects.EXPIRE)
    async def expire_object(self) -> None:
        """End an object whose time is over."""
        await self.delete()

    @command(allow=services(), name=objects.VANISH)
    async def vanish_object(self, project: str) -> None:
        """Go with the project, if the object still belongs to it."""
        turn = self._running()
        if not turn.exists or turn.project == project:
            await self.delete()

    def _replace_state(self, state: dict[str, Any]) -> None:
        self._allow_management("raw")
        self.state = self._running().convert_state(state)

    def _allow_management(self, *modes: Management) -> None:
        if self.management not in modes:
            raise Failure("forbidden", f"the type {self.object_type} doesn't allow this through management")

    def _running(self) -> RunningTurn:
        turn = current_turn.get(None)
        if turn is None or not turn.open:
            raise RuntimeError("this is possible in a turn only")
        return turn


def _state_type(cls: type[BaseDurableObject[Any]]) -> type[msgspec.Struct]:
    for base in getattr(cls, "__orig_bases__", ()):
        for argument in getattr(base, "__args__", ()):
            if isinstance(argument, type) and issubclass(argument, msgspec.Struct):
                return argument
    inherited = getattr(cls, "state_type", None)
    if inherited is None:
        raise TypeError(f"{cls.__name__} must name its state: BaseDurableObject[{cls.__name__}State]")
    return cast(type[msgspec.Struct], inherited)
