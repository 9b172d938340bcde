"""What the objects of one process share: what they run on, within which bounds, and the right to answer."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from aidevos.durable.base.clock import Clock
from aidevos.durable.client.client import ObjectCaller
from aidevos.durable.objects.registry import DurableObjectRegistry
from aidevos.durable.store.port import Store
from aidevos.durable.turns.completion import Bounds


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


class Environment(NamedTuple):
    """Everything that the objects of one process share; it never changes.

    `client` calls other objects as this process. `may_answer` is true while the process holds its lease: only then
    may it activate, execute and answer anything. `spawn` runs a coroutine beside the turns and logs its failure.
    """

    registry: DurableObjectRegistry
    store: Store
    client: ObjectCaller
    clock: Clock
    limits: Limits
    may_answer: Callable[[], bool]
    spawn: Callable[[Coroutine[Any, Any, None]], None]
