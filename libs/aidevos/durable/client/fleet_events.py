"""The publication of the fleet's own events, `event.fleet.<service>.<name>`."""

from __future__ import annotations

import msgspec

from aidevos.contracts import placement_events as contract
from aidevos.contracts import subjects
from aidevos.contracts.events import CloudEvent
from aidevos.contracts.placement_events import FleetEvent
from aidevos.contracts.times import rfc3339_of
from aidevos.durable.bus.port import EventBus


async def publish_fleet_event(
    bus: EventBus, service: str, event: FleetEvent, *, origin: str, number: int, at: float
) -> None:
    """Publish an event of a service, after those that it has already.

    `origin` and the event's `number` make its ID. Raises `OrderConflict` if another process was faster, and `BusError`.
    Raises nothing if the event is the last one already.
    """
    name, scope = contract.NAMES[type(event)], subjects.events_of(contract.TYPE, service)
    id = f"{contract.TYPE}:{origin}:{number}"
    source = f"/durable-objects/{contract.TYPE}:{service}"
    document = CloudEvent(id=id, source=source, type=f"{contract.TYPE}.{name}", time=rfc3339_of(at), data=event)
    last, its_number = await bus.read_last(scope)
    if its_number != number:
        subject = subjects.event(contract.TYPE, service, name)
        await bus.publish(subject, msgspec.json.encode(document), id, number=number, scope=scope, after=last)
