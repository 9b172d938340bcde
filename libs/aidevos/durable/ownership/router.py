"""The way to an object in this process: from a call to the one activation of its object.

Promises: new calls of an object come to one activation, which one flight loads. A process that
doesn't hold its lease activates nothing, executes nothing, and answers nothing. One that does lets
nobody wait for an activation that has ended: they are told, or go to its successor.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, NamedTuple

from aidevos.contracts import envelope, subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import CREATE, DELETE, LIST, READ, REPLACE
from aidevos.durable.base.clock import Clock
from aidevos.durable.bus.port import EventBus
from aidevos.durable.client.client import Outside
from aidevos.durable.delivery.relay import Relay
from aidevos.durable.objects.registry import DurableObjectRegistry, ObjectType
from aidevos.durable.ownership.alarm_clock import AlarmClock
from aidevos.durable.ownership.commit import GroupCommit, drop_all, fail_all, moved, unknown
from aidevos.durable.ownership.lifecycle import Lifecycle
from aidevos.durable.store.port import Store
from aidevos.durable.turns.activation import Activation, Pending
from aidevos.durable.turns.archive import ReplyArchive
from aidevos.durable.turns.completion import Bounds
from aidevos.durable.turns.execution import run_turn, start_turn
from aidevos.durable.turns.mailbox import Mailbox
from aidevos.durable.turns.request import Answer, Request, call_chain, fingerprint, remaining, request_key
from aidevos.projects.gate import ProjectGate
from aidevos.security.permissions import ANONYMOUS, Principal, Rule

log = logging.getLogger(__name__)
OWN = frozenset({CREATE, READ, REPLACE, DELETE, LIST})
SCAN_PAGE = 1000


class Limits(NamedTuple):
    """Bounds of one object and of all objects of a process; seconds and bytes."""

    records: Bounds = Bounds()
    state: int = 1024 * 1024
    mailbox: int = 1024
    pending: int = 20_000
    answer: int = 4 * 1024 * 1024
    outbox: int = 1000
    alarms: int = 100
    alarm_rate: float = 500.0
    alarm_deadline: float = 60.0
    idle_after: float = 300.0
    memory: int = 512 * 1024 * 1024
    default_deadline: float = 10.0
    max_deadline: float = 300.0


class DurableObjectRouter:
    """Owns the activations of one process. `incarnation` is never used again; `lease_valid` says
    whether this process may answer from memory, `principal` who it is where nobody calls."""

    def __init__(
        self,
        registry: DurableObjectRegistry,
        store: Store,
        bus: EventBus,
        outside: Outside,
        clock: Clock,
        *,
        incarnation: str,
        principal: Principal,
        lease_valid: Callable[[], bool],
        limits: Limits | None = None,
    ) -> None:
        self.registry = registry
        self.store = store
        self.clock = clock
        self.outside = outside
        self.incarnation = incarnation
        self.principal = principal
        self.lease_valid = lease_valid
        self.limits = limits or Limits()
        self._activations: dict[tuple[str, str], Activation] = {}
        self._commits = {name: GroupCommit(self, name) for name in registry.types}
        self._lifecycle = Lifecycle(self)
        self.archive = ReplyArchive(self)
        self.gate = ProjectGate(self)
        self.alarms = AlarmClock(self)
        self._owners = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.relay = Relay(
            bus,
            outside,
            clock,
            tell_age=self.limits.records.tell_age,
            hides=registry.hides,
            settled=self._settled,
        )

    def dispatch(
        self,
        subject: str,
        payload: bytes,
        headers: Mapping[str, str],
        principal: Principal,
        respond: Callable[[Answer | None], None],
        *,
        stored: bool = False,
    ) -> None:
        """Take a call that came to `dop.<partition>.<type>.<id>.<method>`; `respond` gets its answer
        once, now or later, or None if the lease is lost. The headers are believed. The outcome of one that
        a stream has `stored` is kept for as long as it may come again. Raises `Failure`."""
        partition, type_name, id, method_name = subjects.parse_owned(subject)
        type, method = self.registry.method(type_name, method_name)
        if not subjects.is_id(id):
            raise Failure("invalid", f"an ID matches {subjects.ID_PATTERN}", field="id")
        if principal.narrowed:
            principal = principal.at(id)
        check_allowed(principal, type, method_name, method.allow)
        left = remaining(headers, self.limits.default_deadline, self.limits.max_deadline)
        chain = call_chain(headers)
        content_type = headers.get(envelope.CONTENT_TYPE)
        key = request_key(principal, headers) if method.is_command else None
        if key is not None and stored:
            key = key._replace(tell=True)
        fleeting = ""
        if key is not None and method.confidential:
            fleeting, key = key.key, None
        if_match = headers.get(envelope.IF_MATCH)
        request = Request(
            type,
            id,
            method,
            principal,
            method.arguments(payload, content_type),
            key=key,
            fingerprint=fingerprint(method_name, payload, if_match) if key or fleeting else b"",
            if_match=if_match,
            deadline=asyncio.get_running_loop().time() + left,
            chain=chain,
            content_type=content_type,
            respond=respond,
            fleeting=fleeting,
            address=headers.get(envelope.CLIENT_ADDRESS, ""),
        )
        if chain and subjects.join_object_id(type_name, id) in chain:
            self._reenter(request)
        else:
            self.route(request, partition)

    def is_open(self, subject: str) -> bool:
        """Whether a call that came to this subject needs no credential."""
        try:
            _, type, _, method = subjects.parse_owned(subject)
            return self.registry.method(type, method)[1].allow.check(ANONYMOUS)
        except Failure:
            return False

    def route(self, request: Request, partition: str | None = None) -> None:
        """Put a request into the mailbox of its object, which is activated if it isn't. Raises `Failure`."""
        key = (request.type.name, request.id)
        activation = self._activations.get(key)
        if activation is None:
            activation = self._activate(request.type, request.id)
        if partition is not None and partition != str(activation.partition):
            raise Failure("invalid", f"{request.id} is not in partition {partition}", field="subject")
        activation.mailbox.put(request)

    def wake(self, type_name: str, id: str, *, alarm: bool = False) -> None:
        """Activate an object because something is due, though nobody has called it: an alarm may ring."""
        activation = self.activation(type_name, id)
        if activation is None and self.lease_valid():
            activation = self._activate(self.registry.types[type_name], id, claim=True)
        if activation is not None and alarm:
            activation.woken = True

    def activation(self, type_name: str, id: str) -> Activation | None:
        """The object in memory, if it is there or on its way."""
        return self._activations.get((type_name, id))

    def activations(self) -> list[Activation]:
        """All objects in memory, those on their way included."""
        return list(self._activations.values())

    def withdraw(self, activation: Activation) -> None:
        """Let an activation serve who waits for it, and nobody else: the next call makes another."""
        key = (activation.type.name, activation.id)
        if self._activations.get(key) is activation:
            del self._activations[key]

    def forget(self, activation: Activation) -> None:
        """Withdraw an activation that begins, commits and answers nothing any more."""
        activation.broken = True
        self.withdraw(activation)

    def commit(self, activation: Activation) -> None:
        self._commits[activation.type.name].add(activation)

    def committed(self, activation: Activation, pending: Pending) -> None:
        """Called when a commit is durable: its outbox entries may leave now, and its alarms ring."""
        if pending.entries and not activation.broken:
            self.relay.offer(activation, pending.entries)
        if pending.alarms:
            self.alarms.note(activation)
        if activation.records.crowded() and not activation.broken:
            self.spawn(self.archive.take(activation))

    def discard(self, activation: Activation) -> None:
        """Forget an activation that may not answer any more; what it has not started goes to its successor."""
        if activation.broken:
            return
        self.forget(activation)
        if activation.pending is not None:
            fail_all(activation.pending, moved())
        for request in activation.mailbox.close():
            self.route_again(request)

    def start_over(self, activation: Activation) -> None:
        """The object was there when it was thought not to be: nothing that this activation has done
        counts, and whoever waits for it is served by one that has claimed the document."""
        self.forget(activation)
        requests: list[Request] = []
        for pending in (activation.in_flight, activation.pending):
            if pending is not None:
                released, callbacks = pending.release()
                requests += released
                for callback in callbacks:
                    callback(moved())
        for request in (*requests, *activation.mailbox.close()):
            request.again = True
            self.route_again(request)

    def route_again(self, request: Request) -> None:
        request.archived, request.looked_up = None, -1
        try:
            self.route(request)
        except Failure as refused:
            request.fail(refused)

    def drop_all(self) -> None:
        """Forget everything at once, without an answer: the lease is lost."""
        for activation in self.activations():
            self.forget(activation)
            for request in activation.mailbox.close():
                request.drop()
            for pending in (activation.pending, activation.in_flight):
                if pending is not None:
                    drop_all(pending)

    async def settle(self, within: float) -> None:
        """Return when nothing waits or is uncommitted any more, or after `within` seconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + within
        while loop.time() < end and not all(item.settled for item in self._activations.values()):
            for activation in self.activations():
                if activation.pending is not None:
                    self.commit(activation)
            await asyncio.sleep(0.01)

    async def give_up(self) -> None:
        """Answer what is left with `unavailable`: its callers repeat it elsewhere."""
        for activation in self.activations():
            self.forget(activation)
            if activation.in_flight is not None:
                fail_all(activation.in_flight, unknown())
            if activation.pending is not None:
                fail_all(activation.pending, moved())
            for request in activation.mailbox.close():
                request.fail(moved())
        await asyncio.sleep(0)

    async def close(self) -> None:
        await self.relay.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the turns; its failure is logged."""
        self._track(asyncio.get_running_loop().create_task(work))

    def next_owner(self) -> str:
        """An owner ID that is never used again: the fencing token of one activation."""
        self._owners += 1
        return f"{self.incarnation}.{self._owners}"

    def sweep(self) -> None:
        """Let idle objects leave memory."""
        self._lifecycle.sweep()

    async def scan(self, types: Iterable[str]) -> None:
        """Wake the objects whose outboxes hold something that nobody is sending."""
        for type_name in types:
            last = ""
            while ids := await self.store.pending(type_name, last, SCAN_PAGE):
                for id in ids:
                    self.wake(type_name, id)
                last = ids[-1]

    @property
    def idle(self) -> bool:
        """Whether everything is answered, committed and sent."""
        return all(item.idle for item in self._activations.values())

    def _activate(self, type: ObjectType, id: str, *, claim: bool = False) -> Activation:
        if not self.lease_valid():
            raise Failure("moved", "this process doesn't own the object")
        activation: Activation

        def start(request: Request) -> asyncio.Task[None] | None:
            return start_turn(self, activation, request)

        activation = Activation(type, id, Mailbox(self.limits.mailbox, start))
        self._activations[type.name, id] = activation
        self.spawn(self._lifecycle.load(activation, claim=claim))
        return activation

    def _reenter(self, request: Request) -> None:
        """A call of an object that waits for it: only a query on the last committed state can answer."""
        activation = self._activations.get((request.type.name, request.id))
        if not request.method.reentrant or activation is None or not activation.loaded:
            raise Failure("deadlock", f"{request.type.name}:{request.id} waits for this call")
        if activation.project is not None and not request.principal.is_service:
            raise Failure("deadlock", f"{request.type.name}:{request.id} waits for this call")
        committed = Activation(request.type, request.id, _closed_mailbox())
        committed.load(None, self.limits.records, claimed=False)
        if activation.committed:
            committed.restore(activation.committed)
        committed.exists = activation.exists
        committed.version = activation.version
        task = run_turn(self, committed, request)
        if task is not None:
            self._track(task)

    def _settled(self, activation: Activation, number: int) -> None:
        """An outbox entry was delivered: it leaves the document with the next commit."""
        entry = activation.outbox.pop(number)
        activation.outbox_size -= len(entry["payload"])
        fresh = activation.pending is None
        activation.open_pending().changes.drop(f"outbox.{number}")
        if fresh:
            self._commits[activation.type.name].clear_later(activation)

    def _track(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a background task failed", exc_info=task.exception())


def check_allowed(caller: Principal, type: ObjectType, name: str, allow: Rule) -> None:
    """Raises `forbidden` for who may not call a method of the type. What the framework itself has of an object of
    a type that judges projects is for no key that counts in one alone."""
    if not allow.check(caller):
        raise Failure("forbidden", f"{type.name}.{name} needs {allow}")
    if caller.project and type.cls.judges_projects and name in OWN:
        raise Failure("forbidden", "this API key counts in its project alone")


def _closed_mailbox() -> Mailbox:
    return Mailbox(0, lambda request: None)
