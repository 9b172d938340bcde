"""The test kit, which runs objects in one process with an in-memory store and a clock that the test moves.

All other parts are the framework's own. Only NATS and MongoDB are replaced, by adapters that pass the same contract
suites.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, overload

import msgspec

from aidevos.contracts import dead_letters, envelope, subjects
from aidevos.contracts.dead_letters import Letter
from aidevos.contracts.errors import Failure
from aidevos.contracts.events import AnyEvent
from aidevos.contracts.objects import READ
from aidevos.contracts.times import timestamp
from aidevos.durable.base.clock import ManualClock
from aidevos.durable.base.partitions import Partitions
from aidevos.durable.bus.memory import MemoryBus
from aidevos.durable.client.client import BACKOFF
from aidevos.durable.client.reference import refer, type_of
from aidevos.durable.delivery.reactions import Reactions
from aidevos.durable.hosting.peers import Peers
from aidevos.durable.objects.declaration import Event
from aidevos.durable.objects.defect import Defect
from aidevos.durable.objects.object import BaseDurableObject
from aidevos.durable.objects.registry import DurableObjectRegistry
from aidevos.durable.objects.resources import Resource, needs_of_class, open_resources
from aidevos.durable.ownership.alarm_clock import HORIZON
from aidevos.durable.store.memory import MemoryStore
from aidevos.durable.turns.environment import Limits
from aidevos.durable.turns.headers import Reply
from aidevos.observability.author_metrics import snapshot, value_since
from aidevos.process.service import Service
from aidevos.projects.gate import ProjectGate
from aidevos.security.permissions import Principal
from aidevos.settings import Settings
from aidevos.testing.committed import RecordingRuntime, Tell
from aidevos.testing.old_states import store_state
from aidevos.testing.stubs import Stub

Object = TypeVar("Object")
Emitted = TypeVar("Emitted", bound=Event)
ADMIN = Principal("admin", ("admin",), frozenset({"*"}))
_LETTERS = f"do.{dead_letters.TYPE}."
SERVICE = Principal("service:test", ("service",), frozenset({"*"}))


class ObjectKit:
    """Runs the objects of classes or whole services: `async with ObjectKit(Counter) as kit`.

    `settings` and `resources` are injected into the classes, and services open their own resources, as in a
    process. Any other keyword replaces a resource by a value. It is named after the resource's function or an
    attribute that classes inject, and the resource isn't opened: `ObjectKit(Cart, pool=FakePool())` needs no database.

    What objects send by `self.object`, `self.call` and `self.tell` has the permissions that it has in a process that
    hosts all of the kit's types: those that the types declare, those of the setting `service_permissions`, and
    `permissions`, of which `"*"` stands for all. `kit.principal` is their caller. Other types need a `stub`.

    The objects run on `kit.store`, `kit.bus` and `kit.clock`. `kit.letters` holds the dead letters by ID, unless
    their type is in the kit. `kit.catalogue`, `kit.lifecycle`, `kit.alarms` and `kit.router` are the parts of the
    process. With `kit.lease = False`, the process has lost its lease. `kit.declined` has the type and partition of each
    state whose schema is newer than the kit's classes. `kit.judge(authorization, subject, payload, request_id)` returns
    the caller of a request that carries an authorization.

    With `strict`, a mistake of an author raises `AssertionError`: a result that isn't of the declared type, or a state
    that can't be stored or was changed outside its turn. Otherwise the caller gets `internal`, as in a fleet.

    Two kits on one `store` act as two processes, of which the second takes over the objects.
    """

    def __init__(
        self,
        *hosted: type[BaseDurableObject[Any]] | Service,
        store: Any = None,
        bus: MemoryBus | None = None,
        clock: ManualClock | None = None,
        limits: Limits | None = None,
        settings: Settings | None = None,
        resources: Iterable[Resource[Any]] = (),
        permissions: Iterable[str] = (),
        strict: bool = True,
        **replaced: Any,
    ) -> None:
        self.store: Any = store or MemoryStore()
        self.bus = bus or MemoryBus()
        self.clock = clock or ManualClock()
        self.lease = True
        self.letters: dict[str, Letter] = {}
        self.declined: list[tuple[str, int]] = []
        self._defects: list[Defect] = []
        self._strict = strict

        self.judge: Callable[[str, str, bytes, str], Principal] = _judge
        own = Service("kit", [each for each in hosted if not isinstance(each, Service)], tuple(resources))
        self._services = [own, *(each for each in hosted if isinstance(each, Service))]
        self._settings = settings
        self._replaced = replaced
        self._opened = AsyncExitStack()
        self._counted_before = snapshot()
        self._stubs: dict[str, Stub] = {}
        # The subjects of tells to types that are neither hosted nor stubbed.
        self._undeliverable: set[str] = set()
        registry = DurableObjectRegistry([cls for service in self._services for cls in service.types])
        granted = registry.permissions() | {*permissions} | (_service_permissions(settings) if settings else set())
        self.principal = Principal(SERVICE.subject, SERVICE.roles, frozenset(granted))
        self._reactions = Reactions(registry, self.bus, self, self.clock)
        partitions = Partitions(subjects.PARTITIONS, lambda: self.lease)
        for name in registry.types:
            partitions.take(name, range(partitions.count))
        self.runtime = RecordingRuntime(
            registry,
            self.store,
            self.bus,
            self,
            self.clock,
            ProjectGate(self),
            principal=self.principal,
            incarnation=f"kit.{secrets.token_hex(4)}",
            partitions=partitions,
            limits=limits or Limits(),
            on_defect=self._defects.append,
            decline=lambda type, partition: self.declined.append((type, partition)),
        )
        self.registry = registry
        self.catalogue = self.runtime.catalogue
        self.lifecycle = self.runtime.lifecycle
        self.alarms = self.runtime.alarms
        self.router = self.runtime.router

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            await self._bind(opened)
            for name in self.registry.types:
                await self.store.open(name)
            opened.push_async_callback(self.runtime.close)
            await self._reactions.start()
            opened.push_async_callback(self._reactions.close)
            self._opened = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.aclose()
        if error is None:
            self._raise_defect()

    @overload
    def object(
        self,
        target: type[Object],
        id: str,
        /,
        *,
        caller: Principal = ADMIN,
        headers: Mapping[str, str] | None = None,
    ) -> Object: ...
    @overload
    def object(
        self, target: str, id: str, /, *, caller: Principal = ADMIN, headers: Mapping[str, str] | None = None
    ) -> Any: ...
    def object(
        self,
        target: str | type[Any],
        id: str,
        /,
        *,
        caller: Principal = ADMIN,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Return a reference to an object, for this caller: `await kit.object(Counter, "clicks").increment(by=2)`.

        It is as a client's: the methods of a class take the arguments and return the types that the class declares.
        `id` may be any name, as for `id_from_name`. Methods raise `Failure`.
        """
        return refer(target, id, partial(self._send, caller, headers or {}))

    async def call(
        self,
        type: str,
        id: str,
        method: str,
        /,
        *,
        caller: Principal = ADMIN,
        headers: Mapping[str, str] | None = None,
        **args: Any,
    ) -> Any:
        """Call a method by its name, and return its decoded result. Raises `Failure`."""
        reply = await self._send(caller, headers or {}, type, id, method, msgspec.json.encode(args))
        return msgspec.json.decode(reply) if reply else None

    def stub(self, target: str | type[Any], /, **answers: Any) -> Stub:
        """Answer the calls, tells and queries to a type that isn't in the kit: `kit.stub("counter", increment=5)`.

        `target` is the type's name or its class. The answers are described at `Stub`. Another stub of the same type
        replaces this one. Raises `TypeError` for a type that is in the kit.
        """
        stub = Stub(target, answers)
        if stub.type in self.registry.types:
            raise TypeError(f"this kit runs the type {stub.type} itself, so it can't be stubbed")
        self._stubs[stub.type] = stub
        self._undeliverable = {subject for subject in self._undeliverable if subject.split(".")[1] != stub.type}
        return stub

    async def load(self, target: str | type[Any], id: str, /, state: Mapping[str, Any], *, schema: int) -> None:
        """Store the state of an object as code with this schema version has left it.

        The object's next turn upcasts it. An object that exists is replaced. Raises `Failure` if the kit has no such
        type.
        """
        type, _ = self.registry.method(target if isinstance(target, str) else type_of(target), READ)
        id = subjects.id_from_name(type.name, id)
        activation = self.catalogue.get(type.name, id)
        if activation is not None:
            await self.settle()
            self.catalogue.discard(activation)
        await store_state(self.store, type.name, id, state, schema, timestamp(self.clock.now()))

    @property
    def events(self) -> list[AnyEvent]:
        """The events that this kit's objects have committed, in order, with their data as maps."""
        return [msgspec.json.decode(entry.payload, type=AnyEvent) for entry in self.runtime.entries("event")]

    def emitted(self, event: type[Emitted]) -> list[Emitted]:
        """Return the committed events of a class: `assert kit.emitted(Closed) == [Closed(winner="soup")]`."""
        name = f".{event.event_name()}"
        return [msgspec.convert(found.data, event) for found in self.events if found.type.endswith(name)]

    @property
    def tells(self) -> list[Tell]:
        """The tells that this kit's objects have committed, in order, delivered or not."""
        return [Tell.of(entry) for entry in self.runtime.entries("tell")]

    async def query(self, type: str, name: str, /, *, caller: Principal = ADMIN, **args: Any) -> Any:
        """Query a view or a search, and return its decoded answer. Raises `Failure`."""
        reply = await self._dispatch(subjects.query(type, name), msgspec.json.encode(args), caller, {})
        return msgspec.json.decode(reply)

    async def request(
        self,
        subject: str,
        payload: bytes,
        *,
        authorization: str | None = None,
        request_id: str | None = None,
        deadline: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Send a request of an object of this kit to another one, repeating it until the deadline.

        The caller is a service, or the principal that `judge` returns for the authorization. Raises `Failure`.
        """
        caller = (
            self.principal if authorization is None else self.judge(authorization, subject, payload, request_id or "")
        )
        if subject.startswith(_LETTERS) and dead_letters.TYPE not in self.registry.types:
            self._bury(payload)
            return b"null"
        sent = dict(headers or {})
        if request_id:
            sent[envelope.REQUEST_ID] = request_id
            if request_id.startswith(envelope.TELL_PREFIX) and not self._has(subject.split(".")[1]):
                self._undeliverable.add(subject)
        loop = asyncio.get_running_loop()
        end = loop.time() + (deadline or 10.0)
        while True:
            sent[envelope.DEADLINE] = envelope.encode_deadline(end - loop.time())
            try:
                return await self._dispatch(subject, payload, caller, sent)
            except Failure as failure:
                if failure.code not in ("unavailable", "moved") or loop.time() > end:
                    raise
            await asyncio.sleep(BACKOFF.first)

    def metric(self, name: str, /, **labels: Any) -> float:
        """Return what a metric of users' code has counted under these labels since this kit was made.

        Of a gauge, it is the value, and of a histogram the number of its values.
        `name` is the one that `self.metrics` or `aidevos.metric` got. Raises `KeyError` if nothing has used it.
        """
        return value_since(self._counted_before, name, labels)

    async def advance(self, seconds: float) -> None:
        """Move the clock by some seconds, ringing each alarm at its time and settling after it.

        Late alarms ring at the rate of the limits.
        """
        end = self.clock.now() + seconds
        while True:
            able = self.alarms.ring_due()
            await self.settle()
            partitions = self.runtime.environment.partitions
            await self.alarms.scan(partitions.owned(), max(end - self.clock.now(), HORIZON))
            at = self.alarms.next_at()
            if at > end or not able:
                break
            self.clock.advance(max(0.0, at - self.clock.now()))
        self.clock.advance(end - self.clock.now())

    async def settle(self) -> None:
        """Return when everything is committed, all events and tells are delivered, and all reactions have ended.

        Raises `AssertionError` for a tell to a type that is neither in the kit nor stubbed, and `TimeoutError` after 10
        seconds.
        """
        async with asyncio.timeout(10.0):
            while not (self.catalogue.idle and self.bus.is_idle):
                if self._undeliverable:
                    subject = min(self._undeliverable)
                    type, method = subject.split(".")[1], subject.rpartition(".")[2]
                    raise AssertionError(
                        f'the tell to {subject} waits: this kit needs a class of the type, or kit.stub("{type}", '
                        f"{method}=None)"
                    )
                await self.catalogue.settle(1.0)
                await asyncio.sleep(0.001)

    def _raise_defect(self) -> None:
        if self._strict and self._defects:
            defect = self._defects[0]
            self._defects.clear()
            raise AssertionError(str(defect)) from defect

    async def _bind(self, opened: AsyncExitStack) -> None:
        """Open each service's resources except the replaced ones, and inject them into its classes."""
        names = {service: _types_by_name(service) for service in self._services}
        unknown = self._replaced.keys() - {name for types in names.values() for name in types}
        if unknown:
            raise TypeError(f"no class or service in this kit needs or provides {', '.join(sorted(unknown))}")
        for service, types in names.items():
            provided: dict[Any, Any] = {Peers: Peers()}
            provided |= {types[name]: value for name, value in self._replaced.items() if name in types}
            provided |= {Settings: self._settings} if self._settings is not None else {}
            resources = await opened.enter_async_context(open_resources(service.resources, provided))
            self.registry.bind(service.types, resources)

    def _bury(self, payload: bytes) -> None:
        letter = msgspec.msgpack.decode(payload, type=dict[str, Letter])["letter"]
        self.letters[letter.id] = letter

    async def _send(
        self, caller: Principal, headers: Mapping[str, str], type: str, id: str, method: str, payload: bytes
    ) -> bytes:
        try:
            return await self._dispatch(subjects.call(type, id, method), payload, caller, dict(headers))
        finally:
            self._raise_defect()

    def _has(self, type: str) -> bool:
        return type in self.registry.types or type in self._stubs

    async def _dispatch(self, subject: str, payload: bytes, caller: Principal, headers: dict[str, str]) -> bytes:
        type, *id, method = subject.split(".", 3)[1:]
        if type in self._stubs:
            try:
                return await self._stubs[type].answer("".join(id), method, payload, caller)
            except Defect as defect:
                self._defects.append(defect)
                raise Failure("internal", str(defect)) from defect
        if type not in self.registry.types:
            detail = f"this kit has neither a class nor a stub of the type {type!r}"
            raise Failure("unknown-type", detail, field="type")
        if subject.startswith("query."):
            return await self.runtime.queries[subject].run(payload, None, caller)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        owned = f"dop.{subjects.partition(type, id[0])}.{type}.{id[0]}.{method}"
        self.router.dispatch(owned, payload, headers, caller, lambda answer: _resolve(future, answer))
        answer = await future
        if answer.failed:
            raise Failure.decode(answer.payload)
        return answer.payload


def _service_permissions(settings: Settings) -> set[str]:
    return {name.strip() for name in settings.service_permissions.split(",") if name.strip()}


def _types_by_name(service: Service) -> dict[str, Any]:
    """Return the types of a service's resources and of its classes' injected attributes, by name."""
    types = {need.name: need.type for cls in service.types for need in needs_of_class(cls)}
    return types | {each.name: each.type for each in service.resources}


def _judge(authorization: str, subject: str, payload: bytes, request_id: str) -> Principal:
    raise Failure("unauthenticated", "this kit accepts no credentials")


def _resolve(future: asyncio.Future[Reply], answer: Reply) -> None:
    if not future.done():
        future.set_result(answer)
