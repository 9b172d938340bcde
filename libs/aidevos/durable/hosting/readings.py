"""The metrics of a host that are read when they are shown: its objects, outboxes, alarms, partitions and lease."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aidevos.durable.base.clock import Clock
from aidevos.durable.base.partitions import Partitions
from aidevos.durable.client.client import issued_at
from aidevos.durable.hosting.lease import Lease
from aidevos.durable.ownership.alarm_clock import AlarmClock
from aidevos.durable.ownership.residents import Residents, Tally
from aidevos.observability import metrics

ByType = Mapping[tuple[str, ...], float]


def show_objects(residents: Residents, alarms: AlarmClock, clock: Clock) -> None:
    """Show the objects of a process and what waits in them, until they are hidden."""
    metrics.ACTIVE_OBJECTS.read_from(residents, lambda each: _by_type(each, lambda tally: tally.objects))
    metrics.ACTIVE_BYTES.read_from(residents, lambda each: _by_type(each, lambda tally: tally.memory))
    metrics.OUTBOX_ENTRIES.read_from(residents, lambda each: _by_type(each, lambda tally: tally.entries))
    metrics.OUTBOX_OLDEST.read_from(residents, lambda each: _by_type(each, lambda tally: _oldest(tally, clock.now())))
    metrics.ALARMS_WAITING.read_from(alarms, lambda each: {(): each.waiting})


def hide_objects(residents: Residents, alarms: AlarmClock) -> None:
    for reading in (metrics.ACTIVE_OBJECTS, metrics.ACTIVE_BYTES, metrics.OUTBOX_ENTRIES, metrics.OUTBOX_OLDEST):
        reading.forget(residents)
    metrics.ALARMS_WAITING.forget(alarms)


def show_host(partitions: Partitions, lease: Lease) -> None:
    """Show what a host owns, until it is hidden."""
    metrics.PARTITIONS_OWNED.read_from(
        partitions, lambda each: {(type,): len(owned) for type, owned in each.owned().items()}
    )
    metrics.LEASE_AGE.read_from(partitions, lambda _: {(): lease.age})


def hide_host(partitions: Partitions) -> None:
    metrics.PARTITIONS_OWNED.forget(partitions)
    metrics.LEASE_AGE.forget(partitions)


def _by_type(residents: Residents, count: Callable[[Tally], float]) -> ByType:
    return {(type,): count(tally) for type, tally in residents.tallies.items()}


def _oldest(tally: Tally, now: float) -> float:
    """Return the age of the oldest outbox entry. The first entry of an object is its oldest one."""
    first = min((next(iter(each.outbox)) for each in tally.senders if each.outbox), default=None)
    return 0.0 if first is None else max(0.0, now - issued_at(first))
