"""Traces: which trace the running code belongs to, and what of it this process records.

Promises: without an exporter nothing is recorded, and OpenTelemetry is not even imported. A trace that a message names
(W3C Trace Context) is passed on all the same. Recording never waits, and its memory is bounded: a segment keeps at most
`MOST_SPANS` spans, and lives as long as its request.

A segment is the part of a trace that belongs to one request in this process. The sampler decides when a segment begins.
Spans of a segment that isn't sampled are kept until its end, and exported then if the request was slow or has failed,
but at most `KEPT_PER_SECOND` such segments. So the slow and the failed ones are recorded whatever the sampler says.

Source: https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import re
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from random import getrandbits
from time import perf_counter
from typing import Any, Literal, NamedTuple

import msgspec

from aidevos.contracts.envelope import TRACEPARENT, TRACESTATE
from aidevos.contracts.errors import Failure

Kind = Literal["internal", "server", "client", "producer", "consumer"]
MOST_SPANS = 128
KEPT_PER_SECOND = 100.0
# From this status on, a failure is one of the product.
FAILED = 500
# The version is not ff, and no ID is zero. Only versions after 00 may have more at the end.
_match = re.compile(
    r"(?:(00)|(?!00|ff)[0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]([0-9a-f])"
    r"(?(1)|(?:-[ -~]{0,200})?)"
).fullmatch
_SAMPLED = frozenset("13579bdf")
_is_state = re.compile(r"[ -~]{1,512}").fullmatch


class TraceContext(msgspec.Struct, eq=False):
    """A span to which others belong: the one that a message names, or one of this process. `state` is its tracestate.

    It is `open` until the work that it stands for has ended. What goes on afterwards belongs to no trace.
    """

    trace_id: str
    _span_id: str
    sampled: bool
    state: str = ""
    open: bool = True

    @property
    def span_id(self) -> str:
        """The ID of the span. It is made when it is first asked for, because few requests need one."""
        if not self._span_id:
            self._span_id = new_span_id()
        return self._span_id

    def header(self, span_id: str = "") -> str:
        """Return the `traceparent` of a message that this span, or another one of its segment, sends."""
        return f"00-{self.trace_id}-{span_id or self.span_id}-{'01' if self.sampled else '00'}"

    def inject(self, headers: dict[str, str], span_id: str = "") -> None:
        """Name the trace in the headers of a message that this span, or another one of its segment, sends."""
        headers[TRACEPARENT] = self.header(span_id)
        if self.state:
            headers[TRACESTATE] = self.state

    def send(self, headers: dict[str, str]) -> str:
        """Name the trace in the headers of a message, and return the ID of the span that `add` gets after its answer.

        Without a segment there is no such span, and the message names the one that has caused it.
        """
        self.inject(headers)
        return ""

    def add(
        self,
        kind: Kind,
        describe: Describe,
        what: str,
        span_id: str,
        began: float,
        error: BaseException | None = None,
    ) -> None:
        """Add a span that ends now, if this is a segment. `describe(what)` names it."""


class Span(NamedTuple):
    """A finished span. `began` and `ended` are seconds of `perf_counter`.

    `error` is the code of a failure or a refusal. Only the first counts as an error of the span: it has `failed`.
    """

    name: str
    kind: Kind
    span_id: str
    parent_id: str
    began: float
    ended: float
    attributes: Mapping[str, Any]
    error: str = ""
    failed: bool = False
    links: Sequence[TraceContext] = ()


Sink = Callable[[TraceContext, Span], None]
# Describes a span by its name and its attributes. Few spans are exported, so the others need none.
Describe = Callable[[str], tuple[str, Mapping[str, Any]]]
# The code of an error, and True if the span has failed.
Outcome = tuple[str, bool]
NO_ERROR: Outcome = ("", False)
# A span of a segment, before it is described: its kind, what describes it and from what, its ID, times and outcome.
_Call = tuple[Kind, Describe, str, str, float, float, Outcome]


class Segment(TraceContext, eq=False, kw_only=True):
    """The part of a trace that belongs to one request in this process.

    It counts as slow after `slow_after` seconds. `error` is the code of a failure of its work that wasn't raised, and
    `failed` is true if a call by it has failed or was refused. `links` are spans that have caused it without being its
    parent.
    """

    _recorder: Recorder
    parent_id: str
    began: float
    slow_after: float
    error: str = ""
    failed: bool = False
    links: Sequence[TraceContext] = ()
    _calls: list[_Call] = []

    def send(self, headers: dict[str, str]) -> str:
        span_id = new_span_id()
        self.inject(headers, span_id)
        return span_id

    def add(
        self,
        kind: Kind,
        describe: Describe,
        what: str,
        span_id: str,
        began: float,
        error: BaseException | None = None,
    ) -> None:
        outcome = NO_ERROR
        if error is not None:
            outcome = describe_error(error)
            self.failed = True
        call = (kind, describe, what, span_id, began, perf_counter(), outcome)
        if self.sampled:
            self._export(call)
        elif self.open and len(self._calls) < MOST_SPANS:
            # Whether the segment is recorded is not yet known.
            self._calls.append(call)

    def _export(self, call: _Call) -> None:
        kind, describe, what, span_id, began, ended, outcome = call
        name, attributes = describe(what)
        self.export(Span(name, kind, span_id, self.span_id, began, ended, attributes, *outcome))

    def export(self, span: Span) -> None:
        """Export a span of a segment that is recorded."""
        self._recorder.export(self, span)

    def keep(self, *, slow: bool, failed: bool, refused: bool = False) -> bool:
        """Return True if the segment is recorded, now that its outcome is known.

        `refused` is a failure that the caller has to answer for. Of those, fewer are recorded.
        """
        self.open = False
        calls, self._calls = self._calls, []
        if self.sampled:
            return True
        if not (slow or failed or refused or self.failed) or not self._recorder.admit(important=slow or failed):
            return False
        self.sampled = True
        for call in calls:
            self._export(call)
        return True

    def end(
        self, name: str, kind: Kind, attributes: Mapping[str, Any], *, error: str = "", failed: bool = False
    ) -> None:
        """End a segment that has a single span of its own."""
        ended, error, failed = perf_counter(), error or self.error, failed or bool(self.error)
        slow = ended - self.began >= self.slow_after
        if self.keep(slow=slow, failed=failed, refused=bool(error)):
            self.export(Span(name, kind, self.span_id, self.parent_id, self.began, ended, attributes, error, failed))


class Recorder:
    """Decides which segments are recorded, and passes their spans to `sink`, which must not wait.

    `ratio` is the share of traces that are recorded. With `parent_based`, it counts only for traces that begin here. A
    request is slow after `slow_after` seconds.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        ratio: float = 1.0,
        parent_based: bool = True,
        slow_after: float = 1.0,
        now: Callable[[], float] = perf_counter,
    ) -> None:
        self.export = sink
        self.slow_after = slow_after
        self._bound = round(ratio * 2**64)
        self._parent_based = parent_based
        self._now = now
        self._room, self._filled_at = KEPT_PER_SECOND, now()

    def begin(self, parent: TraceContext | None) -> Segment:
        """Return a new segment: of the trace of `parent`, or of a new one."""
        if parent is None:
            bits = getrandbits(128) or 1
            trace_id, sampled, state, parent_id = bits.to_bytes(16).hex(), (bits & (2**64 - 1)) < self._bound, "", ""
        else:
            trace_id, state, parent_id = parent.trace_id, parent.state, parent._span_id
            sampled = parent.sampled if self._parent_based else int(trace_id[16:], 16) < self._bound
        return Segment(
            trace_id,
            "",
            sampled,
            state,
            _recorder=self,
            parent_id=parent_id,
            began=perf_counter(),
            slow_after=self.slow_after,
        )

    def admit(self, *, important: bool) -> bool:
        """Return True if there is room for a segment that wasn't sampled. Half of it is for the important ones."""
        now = self._now()
        self._room = min(KEPT_PER_SECOND, self._room + (now - self._filled_at) * KEPT_PER_SECOND)
        self._filled_at = now
        if self._room < (1.0 if important else KEPT_PER_SECOND / 2):
            return False
        self._room -= 1.0
        return True


def within(
    kind: Kind, describe: Describe, what: str, headers: dict[str, str] | None = None
) -> AbstractContextManager[None]:
    """Return what makes a span of a block, if the running code belongs to a segment.

    With the `headers` of a message, they name the trace. `describe(what)` names the span.
    """
    context = current()
    return nullcontext() if context is None else _adding(context, kind, describe, what, headers)


@contextmanager
def _adding(
    context: TraceContext, kind: Kind, describe: Describe, what: str, headers: dict[str, str] | None
) -> Iterator[None]:
    span_id = context.send({} if headers is None else headers)
    began = perf_counter()
    try:
        yield
    except BaseException as error:
        context.add(kind, describe, what, span_id, began, error)
        raise
    context.add(kind, describe, what, span_id, began)


def describe_error(error: BaseException) -> Outcome:
    """Return the code of an error, and True if it isn't one that the caller has to answer for."""
    if isinstance(error, Failure):
        return error.code, error.status >= FAILED
    if isinstance(error, CancelledError):
        return "cancelled", False
    return type(error).__name__, True


# None while tracing is off.
recorder: Recorder | None = None
# The span that the running code belongs to, unless its work has ended.
running: ContextVar[TraceContext | None] = ContextVar("trace", default=None)


def current() -> TraceContext | None:
    """Return the span that the running code belongs to, or None."""
    context = running.get()
    return context if context is not None and context.open else None


def current_trace_id() -> str | None:
    """Return the trace that the running code belongs to, as 32 hexadecimal digits, or None."""
    context = running.get()
    return context.trace_id if context is not None and context.open else None


def sampled_trace_id() -> str | None:
    """Return the same as `current_trace_id`, but None for a trace that isn't recorded, as far as is known now."""
    context = running.get()
    return context.trace_id if context is not None and context.open and context.sampled else None


def traceparent() -> str:
    """Return the header that names the present trace, or an empty string."""
    context = current()
    return "" if context is None else context.header()


def parse(header: str, state: str | None = None) -> TraceContext | None:
    """Return the span that a `traceparent` names, or None if it isn't valid, which the standard says to ignore."""
    found = _match(header)
    if found is None:
        return None
    _, trace_id, span_id, flags = found.groups()
    return TraceContext(trace_id, span_id, flags in _SAMPLED, state if state and _is_state(state) else "")


def begin(header: str | None, state: str | None = None) -> TraceContext | None:
    """Return the context of work that a message asks for, by its `traceparent` and `tracestate`.

    It is a `Segment` while tracing is on. Otherwise it is what the header names, if anything.
    """
    parent = None if header is None else parse(header, state)
    return parent if recorder is None else recorder.begin(parent)


@contextmanager
def using(context: TraceContext | None) -> Iterator[None]:
    """Let the code in the block belong to this span, or to none."""
    token = running.set(context)
    try:
        yield
    finally:
        running.reset(token)


@contextmanager
def joining(header: str, kind: Kind, describe: Describe, what: str) -> Iterator[TraceContext | None]:
    """Let the code in the block belong to the trace that a message names, as a span of its own."""
    context = begin(header or None)
    error, failed, token = "", False, running.set(context)
    try:
        yield context
    except BaseException as raised:
        error, failed = describe_error(raised)
        raise
    finally:
        running.reset(token)
        if isinstance(context, Segment):
            name, attributes = describe(what)
            context.end(name, kind, attributes, error=error, failed=failed)
        elif context is not None:
            context.open = False


def new_span_id() -> str:
    return (getrandbits(64) or 1).to_bytes(8).hex()
