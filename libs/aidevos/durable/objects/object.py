"""The base class of durable objects. A user's class adds a typed state, commands and queries.

Promise: the commands of one object run one at a time. A command that raises leaves no trace in the state. Nothing that
a command did is visible to anyone before it is committed. A query sees the state between commands and can't change it.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar, overload

import msgspec

from aidevos.contracts import envelope, objects, projects, subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import DurableObject
from aidevos.durable.client.reference import refer
from aidevos.durable.objects.alarm import Alarm
from aidevos.durable.objects.alarms import Alarms
from aidevos.durable.objects.checks import check_init, check_names, find_state_type
from aidevos.durable.objects.declaration import Event, Management, Search, View, command, query
from aidevos.durable.objects.history import Kept, Option, Versions, parse_history
from aidevos.durable.objects.if_match import check_if_match
from aidevos.durable.objects.running import RunningTurn, current_turn, refuse_state
from aidevos.observability.author_metrics import ObjectMetrics
from aidevos.security.permissions import Principal, permission, services

State = TypeVar("State", bound=msgspec.Struct)
Other = TypeVar("Other")
MANAGE = permission("objects:manage")
# Services may list objects, because a project finds its objects by listing their types.
LISTS = MANAGE | services()


class BaseDurableObject(Generic[State]):
    """Base of all durable objects: `class Counter(BaseDurableObject[CounterState], type="counter")`.

    The class option `type` is the name on the wire. `schema_version` is the version of the state's schema, from 1; each
    earlier version needs an `@upcast`. `management` says what the management endpoints may do: `"raw"` reads and writes
    the state, `"lifecycle"` creates and deletes but shows no state, and `"read_only"` only reads. An `internal` type is
    an implementation detail that documentation and lists omit. `history` keeps versions of each object: the
    newest ones up to a number, those up to an age such as `"30d"`, or both.
    """

    object_type: ClassVar[str] = ""
    state_type: ClassVar[type[msgspec.Struct]]
    schema_version: ClassVar[int] = 1
    management: ClassVar[Management] = "lifecycle"
    internal: ClassVar[bool] = False
    kept_versions: ClassVar[Kept | None] = None
    searches: ClassVar[tuple[Search, ...]] = ()
    views: ClassVar[tuple[View, ...]] = ()
    # Paths in the state by which views search. A sparse index covers only states that have a value at its last path.
    indexes: ClassVar[tuple[tuple[str, ...], ...]] = ()
    sparse_indexes: ClassVar[tuple[tuple[str, ...], ...]] = ()
    # The largest size of the state in bytes. None means the limit in the settings.
    state_limit: ClassVar[int | None] = None
    # True if the type's methods, searches and views check themselves what an API key of a single project may reach.
    # Otherwise, such a key reaches nothing.
    project_aware: ClassVar[bool] = False
    # Seconds after the last change of the state until the object deletes itself. None means never. An object that was
    # last changed while this was None doesn't expire until it is changed again.
    expires_after: ClassVar[float | None] = None
    # The least time in seconds between two bulk writes of the type's commits in one process. Commits that come in
    # between share the next one. So many of them cost less, and their callers wait for up to this time.
    commit_interval: ClassVar[float] = 0.0

    id: str

    def __init_subclass__(
        cls,
        *,
        type: str = "",
        schema_version: int = 1,
        management: Management = "lifecycle",
        internal: bool = False,
        history: Option | None = None,
        **options: Any,
    ) -> None:
        super().__init_subclass__(**options)
        check_names(cls, BaseDurableObject)
        check_init(cls, BaseDurableObject)
        if not type:
            return
        if not subjects.is_type(type):
            raise TypeError(f"{type!r} is not a type name: it must match {subjects.TYPE_PATTERN}")
        cls.object_type = type
        cls.schema_version = schema_version
        cls.management = management
        cls.internal = internal
        cls.kept_versions = parse_history(history, cls.__name__)
        cls.state_type = _state_type(cls)

    def __init__(self, id: str, state: State) -> None:
        self.id = id
        self._state = state
        # True once the framework runs turns on it; an object that is only constructed has no turns.
        self._guarded = False

    @property
    def state(self) -> State:
        """The object's state. Only a running turn of this object may use it.

        Code that a method has started and not awaited, such as a task, gets `Defect`: what it changed would be
        committed by another turn.
        """
        if self._guarded:
            turn = current_turn.get(None)
            if turn is None or turn.holder is not self:
                raise refuse_state(turn, f"{self.object_type}:{self.id}")
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        if self.state is not state:
            self._state = state

    async def on_activate(self) -> None:
        """Run before the object's first turn in this process. Changes to the state are discarded."""

    async def on_hibernate(self) -> None:
        """Run before the object leaves memory. Changes to the state are discarded."""

    async def on_delete(self) -> None:
        """Run in the turn that deletes the object. It may emit and tell."""

    async def on_restore(self, version: int) -> None:
        """Run in the turn in which a caller has restored this version of the state. It may change the state and emit.

        The state is restored already. Alarms are as they were before.
        """

    async def on_alarm(self, alarm: Alarm) -> None:
        """Handle an alarm that rings. This is a command, called by the object's own service.

        It is called at least once. After a crash it runs again, on a state without any trace of the first run. An
        exception undoes the turn, and the call is repeated according to the alarm's `retry`.
        """
        raise NotImplementedError(f"{type(self).__name__} doesn't implement on_alarm")

    @property
    def alarms(self) -> Alarms:
        """The object's alarms. Only a command may change them."""
        return Alarms(self._running())

    @property
    def caller(self) -> Principal:
        """The caller of the running method."""
        return self._running().caller

    @property
    def client_address(self) -> str:
        """The IP address from which the original caller reached the gateway, or "" if it came over NATS."""
        return self._running().client_address

    @property
    def request_id(self) -> str:
        """The ID of the running request. It is the same for every attempt."""
        return self._running().id

    @property
    def version(self) -> int:
        """The object's version at the start of the running turn. A command that changes the state increments it."""
        return self._running().version

    @property
    def versions(self) -> Versions:
        """The kept versions of this object, whose type must have the option `history`."""
        return self._running().versions

    @property
    def if_match(self) -> str | None:
        """The caller's `If-Match` condition on the version, or None."""
        return self._running().if_match

    def check_if_match(self) -> None:
        """Raise `precondition-failed` if the object's version isn't the one that the caller named."""
        turn = self._running()
        check_if_match(turn.if_match, turn.exists, turn.version)

    @property
    def now(self) -> float:
        """The time of the turn in seconds since the epoch, by the host's clock."""
        return self._running().now

    @property
    def metrics(self) -> ObjectMetrics:
        """Metrics of the object's type, which operators see as `app_<name>` with the label `type`.

        They count at once, also in a query, and in a command that is undone later.
        """
        return ObjectMetrics(self.object_type)

    def emit(self, event: Event) -> None:
        """Publish an event once this turn is committed, and only then."""
        self._running().emit(event)

    def tell(self, type: str, id: str, method: str, /, **args: Any) -> None:
        """Call a method of another object once this turn is committed.

        It takes effect exactly once and has no reply.
        """
        self._running().tell(type, id, method, args)

    @overload
    def object(self, target: type[Other], id: str, /) -> Other: ...
    @overload
    def object(self, target: str, id: str, /) -> Any: ...
    def object(self, target: str | type[Any], id: str, /) -> Any:
        """Return a reference to another object: `await self.object(Counter, "clicks").increment(by=2)`.

        `target` is the object's class, whose methods take the arguments that it declares, or a type by name, whose
        methods take arguments by name. `id` may be any name, as for `id_from_name`. The methods call the object now,
        within the caller's deadline, and return its result.

        The callee's effect stays even if this turn fails later, so an effect on two objects needs a saga of commits and
        tells. Methods raise `Failure`: the callee's own, `deadlock` or `unavailable`.
        """
        return refer(target, id, self._call)

    async def call(self, type: str, id: str, method: str, /, **args: Any) -> Any:
        """Call a method of another object by its name, like `object`, and return its decoded result."""
        reply = await self._call(type, id, method, msgspec.json.encode(args))
        return msgspec.json.decode(reply) if reply else None

    async def forward(
        self,
        subject: str,
        payload: bytes,
        *,
        request_id: str,
        content_type: str = envelope.JSON,
        authorization: str | None = None,
    ) -> bytes:
        """Send a request unchanged to `do.<type>.<id>.<method>` now and return the payload of its reply.

        Pass the same `request_id` if this turn is repeated, so that the request takes effect only once. `authorization`
        names another caller than this service. Raises `Failure` like `call`.
        """
        return await self._running().forward(
            subject, payload, request_id=request_id, content_type=content_type, authorization=authorization
        )

    async def ask(self, type: str, view: str, /, **args: Any) -> Any:
        """Ask a view or a search now and return its result. It sees committed states, without this turn's changes.

        Raises `Failure`.
        """
        return await self._running().ask(type, view, args)

    async def checkpoint(self, *, keeps_version: bool = False) -> None:
        """Commit what this turn has done so far, and return once it is visible to everyone.

        If the turn fails later, only what follows the checkpoint is undone. After a crash, a repeated request runs the
        method again on the state of the checkpoint.
        """
        await self._running().checkpoint(keeps_version=keeps_version)

    async def delete(self) -> None:
        """Delete this object with the commit of this turn. The next command starts with a new state."""
        self._running().delete()
        await self.on_delete()

    async def forget_outcomes(self) -> None:
        """Erase the recorded outcomes of this object's earlier requests, to remove personal data.

        A repeat of such a request is refused as `stale`; if its record was archived, it runs again. Call this in a turn
        of its own, started by a tell: it raises `unavailable` when it has to be retried.
        """
        await self._running().forget_outcomes()

    @command(allow=MANAGE, name=objects.CREATE)
    async def create_object(
        self, state: dict[str, Any] | None = None, project: projects.Id | None = None
    ) -> DurableObject:
        """Create the object with this state or the default one. Raises `exists` if it exists already.

        With a `project`, the object belongs to the project and is deleted with it. The caller must be a maintainer or
        owner of the project.
        """
        turn = self._running()
        if turn.exists:
            raise Failure("exists", f"the object {self.object_type}:{self.id} exists already")
        self._allow_management("raw", "lifecycle")
        if state is not None:
            self._replace_state(state)
        await turn.join(project)
        return turn.view()

    @query(allow=MANAGE, name=objects.READ)
    async def read_object(self) -> DurableObject:
        """Return the object as the management endpoints show it. Raises `not-found`."""
        turn = self._running()
        if not turn.exists:
            raise Failure("not-found", f"there is no object {self.object_type}:{self.id}")
        return turn.view()

    @command(allow=MANAGE, name=objects.REPLACE)
    async def replace_object(self, state: dict[str, Any]) -> DurableObject:
        """Replace the state of an existing object. Raises `not-found`."""
        turn = self._running()
        self._allow_management("raw")
        if not turn.exists:
            raise Failure("not-found", f"there is no object {self.object_type}:{self.id}")
        self._replace_state(state)
        return turn.view()

    @command(allow=MANAGE, name=objects.DELETE)
    async def delete_object(self) -> None:
        """Delete an existing object. Raises `not-found`."""
        turn = self._running()
        if not turn.exists:
            raise Failure("not-found", f"there is no object {self.object_type}:{self.id}")
        self._allow_management("raw", "lifecycle")
        await self.delete()

    @command(allow=services(), name=objects.EXPIRE)
    async def expire_object(self) -> None:
        """Delete an object that has expired."""
        await self.delete()

    @command(allow=services(), name=objects.VANISH)
    async def vanish_object(self, project: str) -> None:
        """Delete the object with its project, if it still belongs to it."""
        turn = self._running()
        if not turn.exists or turn.project == project:
            await self.delete()

    async def _call(self, type: str, id: str, method: str, payload: bytes) -> bytes:
        return await self._running().call(type, id, method, payload)

    def _replace_state(self, state: dict[str, Any]) -> None:
        self._allow_management("raw")
        self.state = self._running().convert_state(state)

    def _allow_management(self, *modes: Management) -> None:
        if self.management not in modes:
            raise Failure("forbidden", f"the type {self.object_type} doesn't allow this management operation")

    def _running(self) -> RunningTurn:
        turn = current_turn.get(None)
        if turn is None or not turn.open:
            raise RuntimeError("this is possible only while a turn is running")
        return turn


def _state_type(cls: type[BaseDurableObject[Any]]) -> type[msgspec.Struct]:
    found = find_state_type(cls, BaseDurableObject) or getattr(cls, "state_type", None)
    if found is None:
        raise TypeError(f"{cls.__name__} must name its state: BaseDurableObject[{cls.__name__}State]")
    return found
