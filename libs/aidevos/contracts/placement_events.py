"""The events `event.fleet.<service>.<name>`, which tell operators how hosts come and go, how partitions move, and which
processes died.

They are for people and monitoring. Some of hosts and partitions may be missing, because a host doesn't wait for the
bus. `GET /fleet` shows the present placement.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from aidevos.contracts.objects import EventDescription, TypeDescription

# It takes the place of an object's type in these events, so no type of objects has this name.
TYPE = "fleet"


class HostJoined(msgspec.Struct, kw_only=True):
    """A host of the service has joined the fleet."""

    incarnation: str
    replica: int
    version: str


class HostLeft(msgspec.Struct, kw_only=True):
    """A host of the service has left the fleet, or its lease was `lost`."""

    incarnation: str
    reason: Literal["left", "lost"]


class PartitionsTaken(msgspec.Struct, kw_only=True):
    """A host has become the owner of partitions of a type."""

    incarnation: str
    type: str
    partitions: list[int]


class PartitionsReleased(msgspec.Struct, kw_only=True):
    """A host owns partitions of a type no more."""

    incarnation: str
    type: str
    partitions: list[int]


class ProcessDied(msgspec.Struct, kw_only=True):
    """A process of the service, or of a server such as `nats`, has ended unexpectedly. It is started again.

    `signal` is what killed it, and `status` is its exit status; both are unknown where a platform restarts processes.
    `seconds` is how long it had lived, and `deaths` how often this replica has died so far.
    """

    replica: int
    signal: str
    status: int | None
    seconds: float | None
    deaths: int


PlacementEvent = HostJoined | HostLeft | PartitionsTaken | PartitionsReleased
FleetEvent = PlacementEvent | ProcessDied
NAMES: dict[type[FleetEvent], str] = {
    ProcessDied: "process_died",
    HostJoined: "host_joined",
    HostLeft: "host_left",
    PartitionsTaken: "partitions_taken",
    PartitionsReleased: "partitions_released",
}


def describe() -> TypeDescription:
    """Return the events as the description of a type that has nothing else."""
    schemas, defs = msgspec.json.schema_components(NAMES, ref_template="#/$defs/{name}")
    events = [
        EventDescription(name=name, doc=event.__doc__ or "", data=schema)
        for (event, name), schema in zip(NAMES.items(), schemas, strict=True)
    ]
    return TypeDescription(
        type=TYPE,
        doc="Hosts, the partitions that they own, and deaths of processes. `{id}` is the service. Readers need "
        "`fleet:read`.",
        management="read_only",
        state={},
        methods=[],
        queries=[],
        events=events,
        reactions=[],
        defs=defs,
    )
