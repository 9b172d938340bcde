"""Reactions of objects to events: a method declared with `@on` is called for each event that matches its pattern.

Promise: every matching event that was published since the type was first served reaches the object that the
method's key names. It takes effect there once, because the request ID is derived from the event and the method.
Passing failures are retried. An event that the method refuses or that can't be decoded becomes a dead letter.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

from aidevos.contracts import envelope, subjects
from aidevos.contracts.dead_letters import Letter, letter_id
from aidevos.contracts.envelope import TELL_PREFIX
from aidevos.contracts.errors import Failure
from aidevos.contracts.events import trace_of
from aidevos.durable.base.backoff import FOLLOWING
from aidevos.durable.base.clock import Clock
from aidevos.durable.bus.delivering import describe_event
from aidevos.durable.bus.port import ATTEMPTS, BusError, Delivery, EventBus, Subscription
from aidevos.durable.client.client import ObjectCaller
from aidevos.durable.delivery.dead_letters import bury
from aidevos.durable.objects.method import MethodSpec
from aidevos.durable.objects.registry import DurableObjectRegistry, ObjectType
from aidevos.observability import tracing
from aidevos.observability.metrics import REACTIONS

log = logging.getLogger(__name__)
REACT_WITHIN = 10.0


class Reactions:
    """Delivers events to the reacting methods of a registry's types. Each event is tried `attempts` times."""

    def __init__(
        self,
        registry: DurableObjectRegistry,
        bus: EventBus,
        client: ObjectCaller,
        clock: Clock,
        *,
        attempts: int = ATTEMPTS,
    ) -> None:
        self._registry = registry
        self._bus = bus
        self._client = client
        self._clock = clock
        self._attempts = attempts
        self._subscriptions: list[Subscription] = []

    async def start(self) -> None:
        """Subscribe to all patterns of the types, retrying until the bus answers."""
        for type, method in self._each():
            self._subscriptions.append(await self._subscribe(type, method))

    def works(self) -> Iterator[tuple[str, str, Callable[[], Awaitable[None]]]]:
        """Yield the type and the name of each reacting method, and a work that delivers events to it.

        The work runs until cancelled. At most one process may do it at a time, which keeps each object's events in
        order.
        """
        for type, method in self._each():
            yield type.name, method.name, partial(self._deliver, type, method)

    def _each(self) -> Iterator[tuple[ObjectType, MethodSpec]]:
        for type in self._registry.types.values():
            yield from ((type, method) for method in type.methods.values() if method.reaction is not None)

    async def _deliver(self, type: ObjectType, method: MethodSpec) -> None:
        subscription = await self._subscribe(type, method)
        try:
            await asyncio.Event().wait()
        finally:
            await subscription.close()

    async def close(self) -> None:
        await asyncio.gather(*(subscription.close() for subscription in self._subscriptions))

    async def _subscribe(self, type: ObjectType, method: MethodSpec) -> Subscription:
        assert method.reaction is not None  # noqa: S101
        pattern, pauses = method.reaction.pattern, FOLLOWING.pauses()
        while True:
            try:
                return await self._bus.subscribe(
                    pattern,
                    f"{type.name}.{method.name}",
                    partial(self._react, type, method),
                    partial(self._bury, type, method),
                    attempts=self._attempts,
                )
            except BusError as error:
                log.warning("subscribing to %s failed, trying again: %s", pattern, error)
                await pauses.wait()

    async def _react(self, type: ObjectType, method: MethodSpec, delivery: Delivery) -> None:
        payload = _arguments(delivery)
        request_id = f"{TELL_PREFIX}on.{letter_id(delivery.id, type.name, method.name)}"
        subject = subjects.call(type.name, _target(type, method, payload), method.name)
        try:
            with tracing.joining(trace_of(delivery.payload), "consumer", describe_event, delivery.subject):
                await self._client.request(subject, payload, request_id=request_id, deadline=REACT_WITHIN)
        except Failure as failure:
            REACTIONS.labels(type.name, method.name, "failed").inc()
            if failure.is_transient and not failure.retryable:
                raise Failure("unavailable", failure.detail) from failure
            raise
        REACTIONS.labels(type.name, method.name, "done").inc()

    async def _bury(self, type: ObjectType, method: MethodSpec, delivery: Delivery, failure: Failure) -> None:
        payload, source = _arguments(delivery), subjects.join_object_id(*delivery.subject.split(".")[1:3])
        try:
            target = _target(type, method, payload)
        except Failure:
            # The target is unknown. A replay reaches this object, which forwards it once the code finds the right one.
            target = delivery.subject.split(".")[2]
        letter = Letter(
            id=letter_id(delivery.id, type.name, method.name),
            kind="event",
            source=source,
            subject=subjects.call(type.name, target, method.name),
            payload=payload,
            code=failure.code,
            detail=failure.detail,
            attempts=delivery.attempt,
            at=self._clock.now(),
        )
        await bury(self._client, letter)


def _arguments(delivery: Delivery) -> bytes:
    return b'{"event":' + delivery.payload + b"}"


def _target(type: ObjectType, method: MethodSpec, payload: bytes) -> str:
    """Return the ID of the object that reacts. Raises `invalid` if the event can't be decoded or has no key."""
    assert method.reaction is not None  # noqa: S101
    arguments: dict[str, Any] = method.decode_arguments(payload, envelope.JSON)
    return method.reaction.target(type.name, arguments["event"])
