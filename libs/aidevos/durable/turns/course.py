"""The course of a request: what it asks of which object, and when its parts began."""

from __future__ import annotations

from typing import NamedTuple

from aidevos.durable.objects.method import MethodSpec
from aidevos.durable.objects.registry import ObjectType
from aidevos.observability.tracing import TraceContext


class Line(NamedTuple):
    """The line before a request in its mailbox: the running method, and the number of those that wait.

    `held` is True if the object starts no turn, because it is being loaded or recovered.
    """

    method: str
    waiting: int
    held: bool


class Batch:
    """One bulk write of commits. Times are in seconds of `perf_counter`.

    `members` are the spans of those of its commits that are recorded. The first one is the parent of its own span.
    """

    __slots__ = ("began_at", "bytes", "ended_at", "members", "size", "span_id", "type")

    def __init__(self, type: str, size: int, bytes: int, began_at: float) -> None:
        self.type = type
        self.size = size
        self.bytes = bytes
        self.began_at = self.ended_at = began_at
        self.members: list[TraceContext] = []
        self.span_id = ""


class Course:
    """The course of a request: what it asks, and when. Times are in seconds of `perf_counter`, and 0 until then."""

    __slots__ = (
        "alarm",
        "arrived_at",
        "batch",
        "began_at",
        "ended_at",
        "id",
        "line",
        "method",
        "queued_at",
        "request_id",
        "trace",
        "type",
        "waits",
    )

    def __init__(
        self,
        type: ObjectType,
        id: str,
        method: MethodSpec,
        alarm: str,
        request_id: str,
        trace: TraceContext | None,
        arrived_at: float,
    ) -> None:
        self.type = type
        self.id = id
        self.method = method
        # The name of the alarm that made this request; empty for a call.
        self.alarm = alarm
        self.request_id = request_id
        # A segment while tracing is on, otherwise the span that the message names, if any.
        self.trace = trace
        # Its arrival at this process and at its mailbox, and the beginning and end of its method.
        self.arrived_at = arrived_at
        self.queued_at = self.began_at = self.ended_at = 0.0
        # None if nothing stood before it.
        self.line: Line | None = None
        # What its method has waited for, in seconds; None if it never waits.
        self.waits: dict[str, float] | None = None
        # The bulk write that its answer waits for.
        self.batch: Batch | None = None

    @property
    def name(self) -> str:
        """The type and the method."""
        return f"{self.type.name}.{self.method.name}"
