"""The hosts of a fleet, as they describe themselves to operators."""

from __future__ import annotations

from typing import Literal

import msgspec

from aidevos.contracts.health import PartProblem

READ = "fleet:read"
# The payload of a request at `subjects.FLEET_METRICS` for `ProcessFigures`.
FIGURES = b"figures"
HostState = Literal["serving", "unhealthy", "draining"]


class HostInfo(msgspec.Struct, kw_only=True):
    """A process that hosts objects.

    `incarnation` is its present life, which began at `since`. `partitions` are those that it owns, by type. `objects`
    is how many it has in memory, and `memory` the bytes that they take. `detail` says why it is unhealthy, or is empty.
    `problems` says so of each of its parts, and since when. `now` is the time on its clock.
    """

    service: str
    replica: int
    incarnation: str
    version: str
    since: str
    state: HostState
    detail: str
    partitions: dict[str, list[int]]
    objects: int
    memory: int
    problems: list[PartProblem] = []
    now: str = ""


class MetricShare(msgspec.Struct, array_like=True):
    """The share of a metric that one process has: the lines that describe it, and those of its samples."""

    name: str
    head: str
    samples: str


class ProcessMetrics(msgspec.Struct, array_like=True):
    """The metrics of a process. `host` is the name of its lease, or empty if it hosts no objects."""

    host: str
    shares: list[MetricShare]


class BusyObject(msgspec.Struct):
    """An object with many turns, and how many of them it has per second."""

    object_id: str
    turns: float


class ProcessFigures(msgspec.Struct, array_like=True):
    """The figures of a process. `process` is its service and replica.

    `requests` over HTTP, their `seconds`, `failures` and `dead_letters` are counted since its start. `problems` are
    those of its health. `busiest` is empty until it has been asked for some seconds.
    """

    process: str
    requests: float
    seconds: float
    failures: float
    dead_letters: float
    objects: float
    memory: float
    problems: int
    busiest: list[BusyObject]


class ProcessLoad(msgspec.Struct):
    """The load of a process: the objects that it has in memory, the bytes that they take, and its problems."""

    process: str
    objects: int
    memory: int
    problems: int


class FleetFigures(msgspec.Struct, kw_only=True):
    """A sample of the fleet's figures at one moment.

    `requests` over HTTP and `failures` are per second since the sample before, and null in the first one. `latency` is
    the mean time of those requests in seconds, and null if there were none. `objects` are those in memory, and `memory`
    is the bytes that they take. `dead_letters` is how many letters the processes have made since they began. `busiest`
    has up to 20 objects.
    """

    at: str
    processes: list[ProcessLoad]
    problems: int
    requests: float | None
    latency: float | None
    failures: float | None
    dead_letters: int
    objects: int
    memory: int
    busiest: list[BusyObject]


class AnnouncedType(msgspec.Struct, kw_only=True):
    """A type of objects that the fleet knows, when a host last announced it, and whether one still does."""

    type: str
    announced_at: str
    served: bool


class AnnouncedTypes(msgspec.Struct):
    """The types that the fleet knows, sorted by name, also those that nobody has announced for long."""

    types: list[AnnouncedType]


class FleetHosts(msgspec.Struct):
    """The hosts that have answered, by service, replica and beginning."""

    hosts: list[HostInfo]
