"""The turn that a running method acts through.

Promises: the events, tells, alarms and deletions of a command are gathered here. They take effect with a commit of
its turn, or never. A query can do none of them. A call to another object is sent at once, but only after the
commits of all earlier turns of its own object, and while its host holds its lease. The calls of a query reach only
queries.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, cast

import msgspec

from aidevos.contracts import envelope, subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import DurableObject, PendingWork
from aidevos.durable.client.client import describe_call
from aidevos.durable.objects.alarm import EXPIRY, Scheduled, check_alarm_bounds
from aidevos.durable.objects.declaration import Event
from aidevos.durable.objects.defect import Defect
from aidevos.durable.objects.object import BaseDurableObject
from aidevos.durable.store.port import StoreError
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.effects import Effects
from aidevos.durable.turns.entries import event_entry, next_number, tell_entry
from aidevos.durable.turns.environment import Environment
from aidevos.durable.turns.failures import moved_during_turn, service_refused
from aidevos.durable.turns.headers import digest
from aidevos.durable.turns.pending_work import describe_pending
from aidevos.durable.turns.request import Request
from aidevos.durable.turns.versions import TurnVersions
from aidevos.observability import request_ids
from aidevos.observability.slow_log import waiting
from aidevos.security.permissions import Principal

# Assigns the object that a turn creates to a project: `Gate.join`.
Join = Callable[["Turn", str | None], Awaitable[None]]


class Turn:
    """The turn of one request. It implements `RunningTurn` for the object's methods."""

    def __init__(self, environment: Environment, join: Join, activation: Activation, request: Request) -> None:
        self.environment = environment
        self.activation = activation
        self.request = request
        self.now = environment.clock.now()
        self.effects = Effects(activation, environment.limits, self.now, request)
        self.alarm_key = ""
        # True for an alarm whose earlier attempt may have killed its process.
        self.counts_attempt_first = False
        self.returns_view = False
        self.holder: object | None = activation.object
        self._join = join
        self._calls = 0
        self._id = ""
        self._last_number = activation.outbox_last

    @property
    def open(self) -> bool:
        """True until the turn has ended."""
        return self.holder is not None

    def close(self) -> None:
        """End the turn: code that still runs can neither use the state nor do anything more."""
        self.holder = None

    @property
    def name(self) -> str:
        """The type and the method."""
        return f"{self.activation.type.name}.{self.request.method.name}"

    def report(self, defect: Defect) -> None:
        # What a turn that was left behind does to a discarded activation is without effect.
        if self.environment.on_defect is not None and not self.activation.broken:
            self.environment.on_defect(defect)

    @property
    def id(self) -> str:
        if not self._id:
            key = self.request.key
            seed = (key.former or key.key) if key else self.request.ephemeral or self.alarm_key or secrets.token_hex(16)
            self._id = digest(self.activation.object_id, seed)
        return self._id

    @property
    def caller(self) -> Principal:
        return self.request.principal

    @property
    def client_address(self) -> str:
        return self.request.address

    @property
    def if_match(self) -> str | None:
        return self.request.if_match

    @property
    def version(self) -> int:
        return self.activation.version

    @property
    def exists(self) -> bool:
        return self.activation.exists

    @property
    def project(self) -> str | None:
        return self.activation.project

    @property
    def versions(self) -> TurnVersions:
        return TurnVersions(self.activation, self.effects, self.environment.store, self._only_in_command)

    async def join(self, project: str | None) -> None:
        """Assign the object that this turn creates to a project, or to none. Raises `Failure`."""
        await self._join(self, project)

    def view(self) -> DurableObject:
        """Make the management view after this turn the answer. The method must return this placeholder."""
        self.returns_view = True
        return cast(DurableObject, None)

    def pending_work(self) -> PendingWork:
        return describe_pending(self.activation)

    def hibernate(self) -> None:
        """Let the object leave memory once this turn has ended. The answer waits for that, or says why it stays."""
        self.request.defer(partial(self.environment.hibernate, self.activation))

    def convert_state(self, state: dict[str, Any]) -> msgspec.Struct:
        return self.activation.type.convert_state(state)

    def load_state(self, state: dict[str, Any], schema: int) -> msgspec.Struct:
        return self.activation.type.load_state(state, schema)

    def establish(self, project: str | None, made_at: datetime | None) -> None:
        """Give the object that this turn creates a project and the time of its creation."""
        self.effects.project, self.effects.made_at = project, made_at

    def emit(self, event: Event) -> None:
        self._only_in_command("emit")
        activation = self.activation
        if not isinstance(event, Event):
            method = f"{activation.type.cls.__name__}.{self.request.method.function.__name__}"
            raise TypeError(f"{method} emits {event!r:.80}: an event is an instance of a class that extends Event")
        project = activation.project or self.effects.project
        self.effects.entries.append(
            event_entry(activation.type.name, activation.id, self.next_number(), event, self.now, project, self._trace)
        )

    def tell(self, type: str, id: str, method: str, args: Mapping[str, Any]) -> None:
        self._only_in_command("tell")
        subjects.split_object_id(f"{type}:{id}")
        self.effects.entries.append(tell_entry(self.next_number(), type, id, method, args, self.now, self._trace))

    def next_number(self) -> int:
        """Return the number of the next outbox entry of this turn."""
        self._last_number = next_number(self._last_number, self.environment.clock.now())
        return self._last_number

    def set_alarm(self, name: str, alarm: Scheduled) -> None:
        """Set an alarm with this turn's commit. Raises `too-large` past the bounds of an object."""
        self._only_in_command("set alarms")
        cls = self.activation.type.cls
        if cls.on_alarm is BaseDurableObject.on_alarm:
            raise RuntimeError(f"{cls.__name__} has no on_alarm")
        others = (self.alarm(other) for other in self.alarm_names() if other not in (name, EXPIRY))
        check_alarm_bounds([alarm, *filter(None, others)], self.environment.limits.alarms)
        self.effects.alarms[name] = alarm.caused_by(self._trace, self.now, by_alarm=bool(self.request.alarm))

    def cancel_alarm(self, name: str) -> bool:
        there = self.alarm(name) is not None
        if there:
            self.effects.alarms[name] = None
        return there

    def alarm(self, name: str) -> Scheduled | None:
        """Return an alarm as this turn leaves it, or None."""
        self._only_in_command("look at alarms")
        if name in self.effects.alarms:
            return self.effects.alarms[name]
        if self.effects.ringing is not None and name == self.request.alarm:
            return self.effects.ringing.advance()
        return self.activation.alarms.get(name)

    def alarm_names(self) -> Iterable[str]:
        return [name for name in {**self.activation.alarms, **self.effects.alarms} if self.alarm(name) is not None]

    async def call(self, type: str, id: str, method: str, payload: bytes) -> bytes:
        """Call another object after the commits of all earlier turns, and return its encoded result.

        A repeat of this turn sends the same request ID for the same arguments. The arguments are part of the ID,
        because a repeat may find another state and therefore call something else.
        """
        subjects.split_object_id(f"{type}:{id}")
        self._calls += 1
        request_id = digest(self.id, str(self._calls), hashlib.sha256(payload).hexdigest())
        subject = subjects.call(type, id, method)
        headers = self._headers() | {envelope.CLIENT_ADDRESS: self.request.address}
        return await self._send(subject, payload, request_id=request_id, headers=headers)

    async def forward(
        self, subject: str, payload: bytes, *, request_id: str, content_type: str, authorization: str | None
    ) -> bytes:
        """Send an encoded request unchanged, after the commits of all earlier turns, and return the reply."""
        headers = self._headers() | {envelope.CONTENT_TYPE: content_type}
        return await self._send(subject, payload, request_id=request_id, headers=headers, authorization=authorization)

    async def ask(self, type: str, view: str, args: Mapping[str, Any]) -> Any:
        """Query a view or search, whose committed states include those of all earlier turns."""
        return msgspec.json.decode(await self._send(subjects.query(type, view), msgspec.json.encode(args)))

    def delete(self) -> None:
        """Delete the object with this turn's commit."""
        self._only_in_command("delete")
        self.effects.deleted = True

    def rewrite(self) -> None:
        """Write the state with this turn's commit, also if it is unchanged."""
        self._only_in_command("rewrite the state")
        self.effects.rewrites = True

    async def checkpoint(self, *, keeps_version: bool) -> None:
        """Commit the effects of the turn so far, and return when they are durable."""
        self._only_in_command("checkpoint")
        activation, effects = self.activation, self.effects
        encoded = activation.type.encode_state(activation.state)
        activation.type.check_state(activation.state)
        effects.check_bounds(encoded, effects.entries)
        effects.check_document(encoded, b"")
        changed = encoded != activation.snapshot or not activation.exists
        if changed:
            effects.advance(encoded, keeps_version=keeps_version)
        if changed or effects.entries or effects.alarms:
            effects.gather(changed=changed).urgent = True
            activation.request_commit()
        committed = activation.wait_committed()
        if committed is not None:
            with waiting("a checkpoint"):
                await committed
        if activation.broken or not self.environment.owns(activation):
            raise moved_during_turn()

    async def forget_outcomes(self) -> None:
        """Erase all recorded outcomes of the object.

        The records in memory are erased first and reach the document with the next commit. Only erased records can
        therefore enter the archive after it is cleared.
        """
        self._only_in_command("forget_outcomes")
        activation = self.activation
        activation.records.erase_outcomes()
        activation.ephemeral = None
        if activation.archiving:
            raise Failure("unavailable", "records are being moved to the archive; try again")
        try:
            await self.environment.store.delete_archived(activation.type.name, activation.id)
        except StoreError as error:
            raise Failure("unavailable", str(error)) from error

    @property
    def _trace(self) -> str:
        """The `traceparent` of what this turn causes, or an empty string."""
        trace = self.request.trace
        return "" if trace is None else trace.header()

    def _headers(self) -> dict[str, str]:
        headers = {envelope.CALL_CHAIN: ",".join((*self.request.chain, self.activation.object_id))}
        if not self.request.method.is_command:
            headers[envelope.QUERY_ONLY] = "true"
        if request_ids.is_acceptable(self.request.request_id):
            headers[envelope.HTTP_REQUEST_ID] = self.request.request_id
        return headers

    async def _send(self, subject: str, payload: bytes, **options: Any) -> bytes:
        earlier = self.activation.wait_committed()
        if earlier is not None:
            with waiting("earlier commits"):
                await earlier
        if self.activation.broken or not self.environment.owns(self.activation):
            raise moved_during_turn()
        left = self.request.deadline - asyncio.get_running_loop().time()
        try:
            with waiting(describe_call(subject)[0]):
                return await self.environment.client.request(subject, payload, deadline=max(left, 0.001), **options)
        except Failure as failure:
            if failure.code == "query-only" and not self.request.method.is_command:
                raise RuntimeError(f"a query can call only queries: {failure.detail}") from failure
            refused = None
            if options.get("authorization") is None:
                refused = service_refused(failure, self.name)
            if refused is not None:
                raise refused from failure
            raise

    def _only_in_command(self, what: str) -> None:
        if not self.request.method.is_command:
            raise RuntimeError(f"a query can't {what}")
