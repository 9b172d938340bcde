"""The objects of one process, put together: what commits, alarms, deliveries and turns need of each other."""

from __future__ import annotations

from collections.abc import Callable

from aidevos.durable.base.clock import Clock
from aidevos.durable.base.tasks import BackgroundTasks
from aidevos.durable.bus.port import EventBus
from aidevos.durable.client.client import ObjectCaller
from aidevos.durable.delivery.relay import Relay
from aidevos.durable.objects.registry import DurableObjectRegistry, ObjectType
from aidevos.durable.ownership.alarm_clock import AlarmClock
from aidevos.durable.ownership.catalogue import Catalogue
from aidevos.durable.ownership.commit import GroupCommit
from aidevos.durable.ownership.lifecycle import Lifecycle
from aidevos.durable.ownership.owner_ids import OwnerIds
from aidevos.durable.ownership.router import DurableObjectRouter
from aidevos.durable.store.port import Document, Store
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.archive import ReplyArchive
from aidevos.durable.turns.environment import Environment, Limits
from aidevos.durable.turns.execution import TurnRunner
from aidevos.durable.turns.gate import Gate
from aidevos.durable.turns.pending import Pending
from aidevos.security.permissions import Principal


class Runtime:
    """Builds the parts that serve the objects of one process, and passes on what one part has done to the others.

    `incarnation` is never used again; `may_answer` is true while the process holds its lease; `principal` is the
    process itself, the caller of alarms.
    """

    def __init__(
        self,
        registry: DurableObjectRegistry,
        store: Store,
        bus: EventBus,
        client: ObjectCaller,
        clock: Clock,
        gate: Gate,
        *,
        incarnation: str,
        principal: Principal,
        may_answer: Callable[[], bool],
        limits: Limits,
    ) -> None:
        self.tasks = BackgroundTasks()
        self.environment = Environment(registry, store, client, clock, limits, may_answer, self.tasks.spawn)
        self.catalogue = Catalogue(self.environment, self._activate)
        owner_ids = OwnerIds(incarnation)
        self._archive = ReplyArchive(store, self.catalogue.discard)
        runner = TurnRunner(self.environment, gate, self._archive, self.catalogue.requeue)
        self.alarms = AlarmClock(self.environment, self.catalogue, principal)
        self._commits = {
            name: GroupCommit(
                self.environment,
                self.catalogue,
                owner_ids,
                name,
                committed=self._committed,
                resolved=self._resolved,
            )
            for name in registry.types
        }
        self.lifecycle = Lifecycle(
            self.environment,
            self.catalogue,
            owner_ids,
            gate,
            start=runner.start,
            save=self._save,
            loaded=self._loaded,
        )
        self._relay = Relay(
            bus,
            client,
            clock,
            tell_age=limits.records.tell_age,
            hides=registry.is_confidential,
            settled=self._sent,
        )
        self.router = DurableObjectRouter(self.environment, self.catalogue, runner, gate, self.tasks.track)

    async def close(self) -> None:
        """End what runs beside the turns; what is left in outboxes stays there."""
        await self._relay.close()
        await self.tasks.close()

    def _activate(self, type: ObjectType, id: str, claim: bool) -> Activation:
        return self.lifecycle.activate(type, id, claim)

    def _loaded(self, activation: Activation) -> None:
        if activation.outbox:
            self._relay.offer(activation, sorted(activation.outbox))
        if activation.alarms:
            self.alarms.begin(activation)

    def _save(self, activation: Activation) -> None:
        self._commits[activation.type.name].add(activation)

    def _committed(self, activation: Activation, pending: Pending) -> None:
        """Send the outbox entries of a commit that is durable now, and expect its alarms."""
        if pending.entries and not activation.broken:
            self._relay.offer(activation, pending.entries)
        if pending.alarms:
            self.alarms.note(activation)
        if activation.records.crowded() and not activation.broken:
            self.tasks.spawn(self._archive.take(activation))

    def _resolved(self, activation: Activation, document: Document) -> None:
        """See to what an object has left in its document, which no activation holds any more."""
        if document.outbox:
            self.catalogue.wake(activation.type.name, activation.id)
        if document.alarm_at is not None:
            self.alarms.expect(activation.type.name, activation.id, document.alarm_at)

    def _sent(self, activation: Activation, number: int) -> None:
        self._commits[activation.type.name].sent(activation, number)
