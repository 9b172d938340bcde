"""The pending work of an object, as operators see it: its alarms and its outbox, without what they hold."""

from __future__ import annotations

from itertools import islice
from typing import Any

from aidevos.contracts.objects import PendingAlarm, PendingMessage, PendingWork
from aidevos.contracts.times import rfc3339_of
from aidevos.durable.objects.alarm import Scheduled
from aidevos.durable.turns.activation import Activation

SHOWN = 100


def describe_pending(activation: Activation) -> PendingWork:
    """Describe the alarms and the outbox of a loaded object."""
    alarms = sorted(activation.alarms.items(), key=lambda named: named[1].at)
    return PendingWork(
        alarms=[_describe_alarm(name, alarm) for name, alarm in alarms],
        outbox=[_describe_entry(activation.outbox[number]) for number in islice(sorted(activation.outbox), SHOWN)],
        outbox_count=len(activation.outbox),
    )


def _describe_alarm(name: str, alarm: Scheduled) -> PendingAlarm:
    return PendingAlarm(
        name=name, at=rfc3339_of(alarm.at), due=rfc3339_of(alarm.due), every=alarm.every, failed=alarm.failed
    )


def _describe_entry(entry: dict[str, Any]) -> PendingMessage:
    return PendingMessage(
        kind=entry["kind"], subject=entry["subject"], at=rfc3339_of(entry["at"]), size=len(entry["payload"])
    )
