"""The report of an answered request: its spans, if its trace is recorded, and a line of the slow log if it was slow.

The parts of a request are timed whether or not they are reported. Everything else is done here, at its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import Any

from aidevos.contracts import subjects
from aidevos.contracts.errors import Failure
from aidevos.durable.turns.course import Batch, Course
from aidevos.durable.turns.headers import Reply
from aidevos.observability import tracing
from aidevos.observability.slow_log import slow_log
from aidevos.observability.tracing import FAILED, NO_ERROR, Outcome, Segment, Span, TraceContext


def report(course: Course, reply: Reply) -> None:
    """Report a request that has just been answered, if it was slow or belongs to a trace."""
    ended, trace = perf_counter(), course.trace
    slow = ended - course.arrived_at >= slow_log.turn
    if isinstance(trace, Segment):
        code, failed = _outcome(reply) if reply.failed else NO_ERROR
        # A turn that has not even begun is repeated elsewhere.
        fatal = failed and course.began_at > 0
        if trace.keep(slow=slow, failed=fatal, refused=bool(code)):
            for span in _spans(course, trace, ended, code, failed):
                trace.export(span)
    elif trace is not None:
        trace.open = False
    if slow:
        _log(course, ended)


def _outcome(reply: Reply) -> Outcome:
    """Return the code of a failure, and True if it isn't one that the caller has to answer for."""
    failure = Failure.decode(reply.payload)
    return failure.code, failure.status >= FAILED


def _spans(course: Course, segment: Segment, ended: float, code: str, failed: bool) -> Iterator[Span]:
    """Yield the spans of a request: itself, and below it the mailbox, the turn and the commit.

    The span of the segment is that of the turn, to which what the turn does belongs.
    """
    name, root = course.name, tracing.new_span_id()
    kind: tracing.Kind = "internal" if course.alarm else "server"
    links = segment.links
    yield Span(name, kind, root, segment.parent_id, course.arrived_at, ended, _attributes(course), code, failed, links)
    turn_began, turn_ended = course.began_at or ended, course.ended_at or ended
    if course.queued_at:
        waited = _mailbox_attributes(course)
        span_id = tracing.new_span_id()
        yield Span(f"mailbox {name}", "internal", span_id, root, course.queued_at, turn_began, waited)
    if course.began_at:
        yield Span(f"turn {name}", "internal", segment.span_id, root, turn_began, turn_ended, {}, code, failed)
    if course.batch is not None:
        yield _commit_span(course, course.batch, segment, root, turn_ended, ended)


def _attributes(course: Course) -> dict[str, Any]:
    type, id, method = course.type.name, course.id, course.method.name
    found: dict[str, Any] = {"aidevos.object.type": type, "aidevos.object.id": id, "aidevos.method": method}
    if course.request_id:
        found["aidevos.request.id"] = course.request_id
    if course.alarm:
        return found | {"aidevos.alarm": course.alarm}
    return found | {
        "messaging.system": "nats",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": subjects.call(type, id, method),
        "messaging.destination.template": f"do.{type}.{{id}}.{method}",
    }


def _mailbox_attributes(course: Course) -> dict[str, Any]:
    if course.line is None:
        return {}
    return {
        "aidevos.mailbox.behind": course.line.method,
        "aidevos.mailbox.waiting": course.line.waiting,
        "aidevos.mailbox.held": course.line.held,
    }


def _commit_span(course: Course, batch: Batch, segment: Segment, root: str, began: float, ended: float) -> Span:
    """Return the span of a commit. It links to the bulk write, unless that becomes a part of the same trace."""
    span_id = tracing.new_span_id()
    batch.span_id = batch.span_id or tracing.new_span_id()
    links = [TraceContext(batch.members[0].trace_id, batch.span_id, True)] if batch.members else []
    batch.members.append(TraceContext(segment.trace_id, span_id, True))
    attributes = {"aidevos.object.type": course.type.name}
    return Span(f"commit {course.type.name}", "internal", span_id, root, began, ended, attributes, links=links)


def report_batch(batch: Batch) -> None:
    """Report a bulk write whose commits are settled: a span if one of them is recorded, and a line if it was slow."""
    recorder = tracing.recorder
    if batch.members and recorder is not None:
        first = batch.members[0]
        times = (batch.began_at, batch.ended_at)
        attributes = {
            "db.system.name": "mongodb",
            "db.operation.name": "bulkWrite",
            "db.collection.name": f"obj_{batch.type}",
            "db.operation.batch.size": batch.size,
        }
        name, links = f"bulkWrite obj_{batch.type}", batch.members[1:]
        recorder.export(first, Span(name, "client", batch.span_id, first.span_id, *times, attributes, links=links))
    if batch.ended_at - batch.began_at >= slow_log.commit:
        seconds = batch.ended_at - batch.began_at
        what = f"a commit of {batch.size} {batch.type} objects with {batch.bytes} bytes"
        trace_id = batch.members[0].trace_id if batch.members else None
        fields = {"type": batch.type, "batch": batch.size, "bytes": batch.bytes, "trace_id": trace_id}
        slow_log.write(what, batch.began_at, batch.ended_at, {"in MongoDB": seconds}, **fields)


def _log(course: Course, ended: float) -> None:
    trace = course.trace
    slow_log.write(
        f"{course.name}" + (f" for the alarm {course.alarm}" if course.alarm else ""),
        course.arrived_at,
        ended,
        dict(_reasons(course, ended)),
        type=course.type.name,
        object=subjects.join_object_id(course.type.name, course.id),
        method=course.method.name,
        request_id=course.request_id or None,
        trace_id=None if trace is None else trace.trace_id,
    )


def _reasons(course: Course, ended: float) -> Iterator[tuple[str, float]]:
    queued = course.queued_at or course.began_at or ended
    began, method_ended = course.began_at or ended, course.ended_at or ended
    yield "before it reached its object", queued - course.arrived_at
    yield _describe_line(course), began - queued
    waits = course.waits or {}
    for what, seconds in waits.items():
        yield f"waiting for {what}", seconds
    yield "in the method itself", max(0.0, method_ended - began - sum(waits.values()))
    batch = course.batch
    if batch is None:
        return
    yield "until its commit was sent", max(0.0, batch.began_at - method_ended)
    yield f"in MongoDB for a commit of {batch.size} objects", batch.ended_at - max(batch.began_at, method_ended)
    yield "from its commit to its answer", ended - batch.ended_at


def _describe_line(course: Course) -> str:
    line = course.line
    if line is None:
        return "in the mailbox"
    if line.held:
        return f"in the mailbox while the object was loaded, behind {line.waiting} others"
    first = f"{course.type.name}.{line.method}" if line.method else "queries"
    return f"in the mailbox behind {first} and {line.waiting} others"
