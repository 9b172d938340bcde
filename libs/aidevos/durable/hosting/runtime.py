"""The runtime of one process: the parts that load, run, commit and relay its objects, wired together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property, partial

from aidevos.durable.base.clock import Clock
from aidevos.durable.base.fair_share import FairShare
from aidevos.durable.base.partitions import Partitions
from aidevos.durable.base.slices import Slices
from aidevos.durable.base.tasks import BackgroundTasks
from aidevos.durable.bus.port import EventBus
from aidevos.durable.client.client import ObjectCaller
from aidevos.durable.delivery.local_caller import LocalCaller
from aidevos.durable.delivery.relay import Relay
from aidevos.durable.hosting.newer_schemas import NewerSchemas
from aidevos.durable.hosting.queries import FindActive, StoredQuery, stored_queries
from aidevos.durable.hosting.readings import hide_objects, show_objects
from aidevos.durable.objects.defect import Defect
from aidevos.durable.objects.registry import DurableObjectRegistry, ObjectType
from aidevos.durable.ownership.alarm_clock import AlarmClock
from aidevos.durable.ownership.catalogue import Catalogue
from aidevos.durable.ownership.commit import GroupCommit
from aidevos.durable.ownership.housekeeping import Housekeeping
from aidevos.durable.ownership.lifecycle import Lifecycle
from aidevos.durable.ownership.owner_ids import OwnerIds
from aidevos.durable.ownership.router import DurableObjectRouter
from aidevos.durable.ownership.turn_counter import TurnCounter
from aidevos.durable.store.port import Document, Store
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.archive import ReplyArchive
from aidevos.durable.turns.environment import Environment, Limits
from aidevos.durable.turns.execution import TurnRunner
from aidevos.durable.turns.gate import Gate
from aidevos.durable.turns.pending import PendingCommit
from aidevos.durable.turns.versions import move_versions
from aidevos.security.permissions import Principal


class Runtime:
    """Builds the parts that serve the objects of one process, and connects their events.

    `incarnation` is never reused. `partitions` are those that the process owns. `principal` is the process itself,
    which is the caller of alarms and of its objects' tells. `decline` is called once for each partition of a type that
    holds a state whose schema this process's code doesn't know.
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
        partitions: Partitions,
        limits: Limits,
        on_defect: Callable[[Defect], None] | None = None,
        decline: Callable[[str, int], None] = lambda type, partition: None,
    ) -> None:
        self.tasks = BackgroundTasks()
        self.environment = Environment(
            registry,
            store,
            client,
            clock,
            limits,
            partitions,
            self.tasks.spawn,
            Slices(),
            FairShare(limits.searches),
            lambda activation, respond, reply: self.lifecycle.hibernate(activation, respond, reply),
            on_defect,
            NewerSchemas(decline),
        )
        self.catalogue = Catalogue(self.environment, self._activate)
        # A host replaces it by one that also asks the other hosts of its service.
        self.find_active: FindActive = self._find_own_active
        self._gate = gate
        self.alarms = AlarmClock(self.environment, self.catalogue, principal)
        owner_ids = OwnerIds(incarnation)
        self._commits = {name: self._group_commit(name, owner_ids) for name in registry.types}
        self._archive = ReplyArchive(store)
        runner = TurnRunner(
            self.environment,
            gate,
            self._archive,
            requeue=self.catalogue.requeue,
            discard=self.catalogue.discard,
            rouse=self.catalogue.residents.rouse,
        )
        self.turns = TurnCounter(runner.start)
        self.lifecycle = Lifecycle(
            self.environment,
            self.catalogue,
            owner_ids,
            gate,
            turns=self.turns,
            save=self._save,
            on_loaded=self._on_loaded,
        )
        show_objects(self.catalogue.residents, self.alarms, clock)
        self.router = DurableObjectRouter(self.environment, self.catalogue, runner, gate, self.tasks.track)
        self._relay = Relay(
            bus,
            LocalCaller(self.environment, self.router, principal),
            clock,
            limits.records.tell_age,
            is_confidential=registry.is_confidential,
            on_sent=self._on_sent,
        )

    @property
    def commits_waiting(self) -> int:
        """The number of objects whose commit waits or is in progress."""
        return sum(commits.waiting for commits in self._commits.values())

    @cached_property
    def queries(self) -> dict[str, StoredQuery]:
        """The queries by subject. The registry must have been bound to its resources before the first use."""
        return stored_queries(self.environment, lambda type, ids: self.find_active(type, ids), self._gate)

    def find_bus_problem(self) -> str:
        """Return why events can't be published, or an empty string."""
        return self._relay.find_bus_problem()

    def housekeeping(self) -> Housekeeping:
        return Housekeeping(self.environment, self.catalogue, self.lifecycle)

    def _group_commit(self, type: str, owner_ids: OwnerIds) -> GroupCommit:
        return GroupCommit(
            self.environment,
            self.catalogue,
            owner_ids,
            type,
            self.environment.registry.types[type].cls.commit_interval,
            on_committed=self._on_committed,
            on_resolved=self._on_resolved,
        )

    async def _find_own_active(self, type: str, ids: Iterable[str]) -> set[str]:
        return self.catalogue.select_active(type, ids)

    async def close(self) -> None:
        """End all background work. Unsent entries stay in their outboxes."""
        hide_objects(self.catalogue.residents, self.alarms)
        await self._relay.close()
        await self.tasks.close()

    def _activate(self, type: ObjectType, id: str, partition: int, claim: bool) -> Activation:
        return self.lifecycle.activate(type, id, partition, claim)

    def _on_loaded(self, activation: Activation) -> None:
        if activation.outbox:
            self._relay.offer(activation, sorted(activation.outbox))
        if activation.alarms:
            self.alarms.ring_or_schedule(activation)
        if activation.history is not None:
            self._keep_history(activation)

    def _save(self, activation: Activation) -> None:
        self._commits[activation.type.name].add(activation)

    def _on_committed(self, activation: Activation, pending: PendingCommit) -> None:
        """Send the outbox entries of a durable commit, schedule its alarms, and archive old records."""
        if pending.entries and not activation.broken:
            self._relay.offer(activation, pending.entries)
        if pending.alarms:
            self.alarms.schedule_next(activation)
        if activation.records.needs_archiving() and not activation.broken:
            self.tasks.spawn(self._archive.move_oldest(activation))
        if activation.history is not None and not activation.broken:
            self._keep_history(activation)

    def _keep_history(self, activation: Activation) -> None:
        if activation.history is not None and activation.history.needs_moving:
            owns = partial(self.environment.owns, activation)
            self.tasks.spawn(move_versions(self.environment.store, activation, activation.history, owns))

    def _on_resolved(self, activation: Activation, document: Document) -> None:
        """Wake or schedule an object whose activation was discarded, if its document holds entries or alarms."""
        if document.outbox:
            self.catalogue.wake(activation.type.name, activation.id)
        if document.alarm_at is not None:
            self.alarms.schedule(activation.type.name, activation.id, document.alarm_at)

    def _on_sent(self, activation: Activation, number: int) -> None:
        self._commits[activation.type.name].remove_sent(activation, number)
