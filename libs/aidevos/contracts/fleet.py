"""The hosts of a fleet, as they describe themselves to operators."""

from __future__ import annotations

from typing import Literal

import msgspec

from aidevos.contracts.health import PartProblem

READ = "fleet:read"
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


class FleetHosts(msgspec.Struct):
    """The hosts that have answered, by service, replica and beginning."""

    hosts: list[HostInfo]
