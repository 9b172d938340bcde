"""The environment that the objects of one process share: store, client, clock, limits and partitions."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from aidevos.durable.base.clock import Clock
from aidevos.durable.base.fair_share import FairShare
from aidevos.durable.base.partitions import Partitions
from aidevos.durable.base.slices import Slices
from aidevos.durable.client.client import ObjectCaller
from aidevos.durable.objects.defect import Defect
from aidevos.durable.objects.registry import DurableObjectRegistry
from aidevos.durable.store.port import Store
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.completion import Bounds
from aidevos.durable.turns.headers import Reply


class Limits(NamedTuple):
    """The bounds of one object and of one process. Times are in seconds, sizes in bytes."""

    records: Bounds = Bounds()
    state: int = 1024 * 1024
    mailbox: int = 1024
    pending: int = 20_000
    answer: int = 4 * 1024 * 1024
    outbox: int = 1000
    alarms: int = 100
    alarm_rate: float = 500.0
    alarm_deadline: float = 60.0
    turn_deadline: float = 30.0
    rest_after: float = 10.0
    idle_after: float = 300.0
    memory: int = 512 * 1024 * 1024
    searches: int = 16
    default_deadline: float = 10.0
    max_deadline: float = 300.0


class Environment(NamedTuple):
    """Everything that the objects of one process share. It never changes.

    `client` calls other objects on behalf of this process. `partitions` are those that it owns: only for their objects
    may it activate, execute and answer. `spawn` runs a coroutine in the background and logs its failure. `slices` runs
    long work without holding up the loop. `searches` bounds the reads that callers ask for, by the caller's ID.
    `on_defect` is called with each mistake of an author. With it, each turn begins with a look for changes of the state
    that no turn has made, which would cost too much in a fleet.
    `hibernate` lets an object leave memory, and then sends a reply: its own, or the reason why the object stays.
    `on_newer_schema` is called with the type and partition of each object whose state has a newer schema than this
    process's code.
    """

    registry: DurableObjectRegistry
    store: Store
    client: ObjectCaller
    clock: Clock
    limits: Limits
    partitions: Partitions
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    slices: Slices
    searches: FairShare
    hibernate: Callable[[Activation, Callable[[Reply], None], Reply], None]
    on_defect: Callable[[Defect], None] | None = None
    on_newer_schema: Callable[[str, int], None] = lambda type, partition: None

    def owns(self, activation: Activation) -> bool:
        """Return True if this process may answer now for an object."""
        return self.partitions.owns(activation.type.name, activation.partition)
