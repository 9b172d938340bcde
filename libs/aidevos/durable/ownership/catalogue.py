"""The catalogue of activations: at most one current activation of each object.

Promises: all new calls of an object reach its one current activation, which is loaded once. A process activates only
objects whose partition it owns. While it owns one, no request waits for an activation that has ended: the request
fails or moves to the successor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from aidevos.contracts.errors import Failure
from aidevos.durable.objects.registry import ObjectType
from aidevos.durable.ownership.residents import Residents
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.environment import Environment
from aidevos.durable.turns.failures import moved, not_applied, outcome_unknown
from aidevos.durable.turns.pending import fail_waiting
from aidevos.durable.turns.request import Request

# A type and one of its partitions.
Place = tuple[str, int]
# Seconds between two looks at the first activation that isn't settled, during a handover.
SETTLE_EVERY = 0.002


class Catalogue:
    """The activations of one process.

    `activate(type, id, partition, claim)` creates an activation and starts to load it; with `claim` it always claims
    the document.
    """

    def __init__(self, environment: Environment, activate: Callable[[ObjectType, str, int, bool], Activation]) -> None:
        self._environment = environment
        self._activate = activate
        self._activations: dict[tuple[str, str], Activation] = {}
        self._members: dict[Place, dict[Activation, None]] = {}
        self.residents = Residents(environment.limits.memory, environment.limits.rest_after)

    def get(self, type_name: str, id: str) -> Activation | None:
        """Return the activation of an object, which may still be loading, or None."""
        return self._activations.get((type_name, id))

    def select_active(self, type_name: str, ids: Iterable[str]) -> set[str]:
        """Return those of these objects that are in memory."""
        return {id for id in ids if (type_name, id) in self._activations}

    def has_any(self, place: Place) -> bool:
        """Return True if objects of a partition are in memory."""
        return bool(self._members.get(place))

    def all(self) -> list[Activation]:
        """Return all activations, including those that are still loading."""
        return list(self._activations.values())

    def __len__(self) -> int:
        return len(self._activations)

    @property
    def idle(self) -> bool:
        """True if everything is answered, committed and sent."""
        return all(activation.idle for activation in self._activations.values())

    def enqueue(self, request: Request, partition: str | None = None) -> None:
        """Put a request into the mailbox of its object, activating the object if necessary.

        Raises `moved` if this process doesn't own the object, `overloaded`, and `invalid` if the object is not in the
        partition.
        """
        activation = self._activations.get((request.type.name, request.id))
        if activation is None:
            activation = self._create(request.type, request.id, claim=False)
        if partition is not None and partition != str(activation.partition):
            raise Failure("invalid", f"{request.id} is not in partition {partition}", field="subject")
        self.put(activation, request)

    def put(self, activation: Activation, request: Request) -> None:
        """Put a request into the mailbox of an activation. Raises `overloaded`."""
        activation.mailbox.put(request)

    def requeue(self, request: Request) -> None:
        """Put a request into its object's mailbox again; if that fails, answer with the failure."""
        request.archived_record, request.archive_generation = None, -1
        try:
            self.enqueue(request)
        except Failure as refused:
            request.fail(refused)

    def wake(self, type_name: str, id: str, *, alarm: bool = False) -> None:
        """Activate an object without a call, because its outbox or (with `alarm`) an alarm needs attention."""
        activation = self.get(type_name, id)
        if activation is None and self._environment.partitions.serves(
            type_name, self._environment.partitions.of(type_name, id)
        ):
            activation = self._create(self._environment.registry.types[type_name], id, claim=True)
        if activation is not None and alarm:
            activation.woken_for_alarm = True

    def withdraw(self, activation: Activation) -> None:
        """Remove an activation that still serves its waiting requests. The next call creates another one."""
        key = (activation.type.name, activation.id)
        if self._activations.get(key) is activation:
            del self._activations[key]
        members = self._members.get((activation.type.name, activation.partition), {})
        members.pop(activation, None)
        self.residents.remove(activation)

    def forget(self, activation: Activation) -> None:
        """Remove an activation, and mark it as broken: it starts, commits and answers nothing more."""
        activation.broken = True
        self.withdraw(activation)

    def discard(self, activation: Activation) -> None:
        """Forget an activation that may no longer answer, and pass its unstarted requests to a successor."""
        if activation.broken:
            return
        self.forget(activation)
        if activation.pending is not None:
            fail_waiting(activation.pending, not_applied())
        for request in activation.mailbox.close():
            self.requeue(request)

    def start_over(self, activation: Activation) -> None:
        """Replace an activation that wrongly assumed its object to be absent.

        Nothing that it did counts. All its requests go to a successor, which claims the document.
        """
        self.forget(activation)
        requests: list[Request] = []
        for pending in (activation.in_flight, activation.pending):
            if pending is not None:
                released, callbacks = pending.release()
                requests += released
                for callback in callbacks:
                    callback(not_applied())
        for request in (*requests, *activation.mailbox.close()):
            request.restarted = True
            self.requeue(request)

    def drop_all(self) -> None:
        """Forget all activations at once and refuse all waiting requests, because the lease is lost."""
        for activation in self.all():
            self.forget(activation)
            for request in activation.mailbox.close():
                request.fail(moved())
            if activation.pending is not None:
                fail_waiting(activation.pending, moved())
            if activation.in_flight is not None:
                fail_waiting(activation.in_flight, outcome_unknown())

    async def settle(self, within: float, place: Place | None = None) -> None:
        """Return when no request waits and everything is committed, or after `within` seconds.

        With a `place`, only that partition counts. No new requests may arrive meanwhile.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + within
        while (unsettled := await self._commit_unsettled(place)) is not None and loop.time() < end:
            while not (unsettled.settled or unsettled.broken) and loop.time() < end:
                if unsettled.pending is not None:
                    unsettled.request_commit()
                await asyncio.sleep(SETTLE_EVERY)

    async def _commit_unsettled(self, place: Place | None) -> Activation | None:
        """Commit what is pending. Return one of the activations that aren't settled."""
        found: Activation | None = None

        def look(activation: Activation) -> None:
            nonlocal found
            if activation.settled or activation.broken:
                return
            found = activation
            if activation.pending is not None:
                activation.request_commit()

        await self._environment.slices.map(look, self._in(place))
        return found

    async def give_up(self, place: Place | None = None) -> None:
        """Answer all remaining requests with `unavailable`, so that their callers repeat them elsewhere.

        With a `place`, only those in that partition.
        """
        await self._environment.slices.map(self._give_up, self._in(place))
        await asyncio.sleep(0)

    def _in(self, place: Place | None) -> list[Activation]:
        return self.all() if place is None else list(self._members.get(place, ()))

    def _give_up(self, activation: Activation) -> None:
        self.forget(activation)
        if activation.in_flight is not None:
            fail_waiting(activation.in_flight, outcome_unknown())
        if activation.pending is not None:
            fail_waiting(activation.pending, not_applied())
        for request in activation.mailbox.close():
            request.fail(not_applied())

    def _create(self, type: ObjectType, id: str, *, claim: bool) -> Activation:
        partition = self._environment.partitions.of(type.name, id)
        if not self._environment.partitions.owns(type.name, partition):
            raise moved()
        activation = self._activations[type.name, id] = self._activate(type, id, partition, claim)
        self._members.setdefault((type.name, partition), {})[activation] = None
        return activation
