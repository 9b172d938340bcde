"""The test kit: objects in one process, on a store in memory and a clock that the test moves.

The rules that run are the framework's own; only NATS and MongoDB are replaced, by adapters that
pass the same contract suites.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import msgspec

from aidevos.contracts import dead_letters, envelope, subjects
from aidevos.contracts.dead_letters import Letter
from aidevos.contracts.errors import Failure
from aidevos.durable.base.clock import ManualClock
from aidevos.durable.bus.memory import MemoryBus
from aidevos.durable.client.client import BACKOFF
from aidevos.durable.delivery.reactions import Reactions
from aidevos.durable.hosting.queries import StoredQuery, stored_queries
from aidevos.durable.hosting.runtime import Runtime
from aidevos.durable.objects.object import BaseDurableObject
from aidevos.durable.objects.registry import DurableObjectRegistry
from aidevos.durable.objects.resources import Resource, needs_of_class, open_resources
from aidevos.durable.ownership.alarm_clock import HORIZON
from aidevos.durable.store.memory import MemoryStore
from aidevos.durable.turns.environment import Limits
from aidevos.durable.turns.headers import Reply
from aidevos.process.service import Service
from aidevos.projects.gate import ProjectGate
from aidevos.security.permissions import Principal
from aidevos.settings import Settings

ADMIN = Principal("admin", ("admin",), frozenset({"*"}))
_LETTERS = f"do.{dead_letters.TYPE}."
SERVICE = Principal("service:test", ("service",), frozenset({"*"}))


class ObjectKit:
    """Runs objects of classes, or of whole services: `async with ObjectKit(Counter) as kit`.

    `settings` and `resources` are injected into the classes, and services open their own resources, as in a
    process. Any other keyword replaces a resource, which isn't opened then, by a value: it names the resource's
    function or an attribute that classes inject. `ObjectKit(Cart, pool=FakePool())` needs no database.

    `kit.store`, `kit.bus` and `kit.clock` are what the objects run on; `kit.letters` are the dead letters, by ID,
    unless their type is in the kit. `kit.catalogue`, `kit.lifecycle`, `kit.alarms` and `kit.router` are the parts of
    their process.
    Two kits on one `store` are two processes, the second of which takes the objects over.
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
        **replaced: Any,
    ) -> None:
        self.store: Any = store or MemoryStore()
        self.bus = bus or MemoryBus()
        self.clock = clock or ManualClock()
        self.lease = True
        self.letters: dict[str, Letter] = {}
        # Who calls with this authorization: of (authorization, subject, payload, request ID).
        self.judge: Callable[[str, str, bytes, str], Principal] = _judge
        own = Service("kit", [each for each in hosted if not isinstance(each, Service)], tuple(resources))
        self._services = [own, *(each for each in hosted if isinstance(each, Service))]
        self._settings = settings
        self._replaced = replaced
        self._opened = AsyncExitStack()
        registry = DurableObjectRegistry([cls for service in self._services for cls in service.types])
        self._reactions = Reactions(registry, self.bus, self, self.clock)
        gate = ProjectGate(self)
        self.runtime = Runtime(
            registry,
            self.store,
            self.bus,
            self,
            self.clock,
            gate,
            principal=SERVICE,
            incarnation=f"kit.{secrets.token_hex(4)}",
            may_answer=lambda: self.lease,
            limits=limits or Limits(),
        )
        self.registry = registry
        self.catalogue = self.runtime.catalogue
        self.lifecycle = self.runtime.lifecycle
        self.alarms = self.runtime.alarms
        self.router = self.runtime.router
        self._gate = gate
        self._queries: dict[str, StoredQuery] = {}

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            await self._bind(opened)
            self._queries = stored_queries(self.runtime.environment, self.catalogue, self._gate)
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

    async def call(
        self,
        type: str,
        id: str,
        method: str,
        args: Mapping[str, Any] | None = None,
        *,
        caller: Principal = ADMIN,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The decoded result of a call; raises `Failure`."""
        reply = await self._dispatch(
            subjects.call(type, id, method), msgspec.json.encode(args or {}), caller, dict(headers or {})
        )
        return msgspec.json.decode(reply) if reply else None

    async def query(
        self, type: str, name: str, args: Mapping[str, Any] | None = None, *, caller: Principal = ADMIN
    ) -> Any:
        """The decoded answer of a view or a search; raises `Failure`."""
        reply = await self._dispatch(subjects.query(type, name), msgspec.json.encode(args or {}), caller, {})
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
        """How the objects of this kit call each other: as a service, or as `judge` says, repeated until answered."""
        caller = SERVICE if authorization is None else self.judge(authorization, subject, payload, request_id or "")
        if subject.startswith(_LETTERS) and dead_letters.TYPE not in self.registry.types:
            self._bury(payload)
            return b"null"
        sent = dict(headers or {})
        if request_id:
            sent[envelope.REQUEST_ID] = request_id
        loop = asyncio.get_running_loop()
        end = loop.time() + (deadline or 10.0)
        while True:
            sent[envelope.DEADLINE] = str(max(1, int((end - loop.time()) * 1000)))
            try:
                return await self._dispatch(subject, payload, caller, sent)
            except Failure as failure:
                if failure.code not in ("unavailable", "moved") or loop.time() > end:
                    raise
            await asyncio.sleep(BACKOFF.first)

    async def advance(self, seconds: float) -> None:
        """Move the clock, and settle whenever alarms ring on the way: each at its time, late ones at the rate
        of the limits."""
        end = self.clock.now() + seconds
        while True:
            able = self.alarms.ring_due()
            await self.settle()
            await self.alarms.scan(self.registry.types, max(end - self.clock.now(), HORIZON))
            at = self.alarms.next_at()
            if at > end or not able:
                break
            self.clock.advance(max(0.0, at - self.clock.now()))
        self.clock.advance(end - self.clock.now())

    async def settle(self) -> None:
        """Return when everything is committed, every event and tell was delivered, and every reaction has ended.
        Raises `TimeoutError` when that takes longer than 10 seconds, as where a tell goes to a type that isn't in
        the kit."""
        async with asyncio.timeout(10.0):
            while not (self.catalogue.idle and self.bus.is_idle):
                await self.catalogue.settle(1.0)
                await asyncio.sleep(0.001)

    async def _bind(self, opened: AsyncExitStack) -> None:
        """Open each service's resources, except those that are replaced, and inject them into its classes."""
        names = {service: _types_by_name(service) for service in self._services}
        unknown = self._replaced.keys() - {name for types in names.values() for name in types}
        if unknown:
            raise TypeError(f"nothing in this kit needs or provides {', '.join(sorted(unknown))}")
        for service, types in names.items():
            given = {types[name]: value for name, value in self._replaced.items() if name in types}
            given |= {Settings: self._settings} if self._settings is not None else {}
            resources = await opened.enter_async_context(open_resources(service.resources, given))
            self.registry.bind(service.types, resources)

    def _bury(self, payload: bytes) -> None:
        letter = msgspec.msgpack.decode(payload, type=dict[str, Letter])["letter"]
        self.letters[letter.id] = letter

    async def _dispatch(self, subject: str, payload: bytes, caller: Principal, headers: dict[str, str]) -> bytes:
        if subject.startswith("query."):
            return await self._queries[subject].run(payload, None, caller)
        future: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        _, type, id, method = subject.split(".", 3)
        owned = f"dop.{subjects.partition(type, id)}.{type}.{id}.{method}"
        self.router.dispatch(owned, payload, headers, caller, lambda answer: _resolve(future, answer))
        answer = await future
        if answer is None:
            raise Failure("moved", "this kit has lost its lease")
        if answer.failed:
            raise Failure.decode(answer.payload)
        return answer.payload


def _types_by_name(service: Service) -> dict[str, Any]:
    """The types of a service's resources, and those that its classes inject, by the names that tests know."""
    types = {need.name: need.type for cls in service.types for need in needs_of_class(cls)}
    return types | {each.name: each.type for each in service.resources}


def _judge(authorization: str, subject: str, payload: bytes, request_id: str) -> Principal:
    raise Failure("unauthenticated", "this kit knows no credential")


def _resolve(future: asyncio.Future[Reply | None], answer: Reply | None) -> None:
    if not future.done():
        future.set_result(answer)
