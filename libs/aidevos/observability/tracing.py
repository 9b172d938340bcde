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

import random
import re
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from time import perf_counter
from typing import Any, Literal, NamedTuple, Self

from aidevos.contracts.envelope import TRACEPARENT, TRACESTATE
from aidevos.contracts.errors import Failure

Kind = Literal["internal", "server", "client", "producer", "consumer"]
MOST_SPANS = 128
KEPT_PER_SECOND = 100.0
# From this status on, a failure is one of the product.
FAILED = 500
_match = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[ -~]{0,200})?").fullmatch
_is_state = re.compile(r"[ -~]{1,512}").fullmatch
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16


class TraceContext:
    """A span to which others belong: the one that a message names, or one of this process. `state` is its tracestate.

    It is `open` until the work that it stands for has ended. What goes on afterwards belongs to no trace.
    """

    __slots__ = ("_span_id", "open", "sampled", "state", "trace_id")

    def __init__(self, trace_id: str, span_id: str, sampled: bool, state: str = "") -> None:
        self.trace_id = trace_id
        self._span_id = span_id
        self.sampled = sampled
        self.state = state
        self.open = True

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


class Segment(TraceContext):
    """The part of a trace that belongs to one request in this process."""

    __slots__ = ("_recorder", "_spans", "began", "error", "failed", "links", "parent_id", "slow_after")

    def __init__(self, recorder: Recorder, trace_id: str, sampled: bool, parent: TraceContext | None) -> None:
        super().__init__(trace_id, "", sampled, "" if parent is None else parent.state)
        self._recorder = recorder
        self._spans: list[Callable[[], Span]] | None = None
        self.parent_id = "" if parent is None else parent._span_id
        self.began = perf_counter()
        # The seconds after which it counts as slow.
        self.slow_after = recorder.slow_after
        # The code of a failure of its work that wasn't raised.
        self.error = ""
        # Spans that have caused this segment without being its parent.
        self.links: Sequence[TraceContext] = ()
        # True if a call by this segment has failed or was refused.
        self.failed = False

    def add(self, make: Callable[[], Span]) -> None:
        """Export a span, or keep what makes it until it is known whether the segment is recorded."""
        if self.sampled:
            self._recorder.export(self, make())
        elif self._spans is None:
            if self.open:
                self._spans = [make]
        elif self.open and len(self._spans) < MOST_SPANS:
            self._spans.append(make)

    def export(self, span: Span) -> None:
        """Export a span of a segment that is recorded."""
        self._recorder.export(self, span)

    def keep(self, *, slow: bool, failed: bool, refused: bool = False) -> bool:
        """Return True if the segment is recorded, now that its outcome is known.

        `refused` is a failure that the caller has to answer for. Of those, fewer are recorded.
        """
        self.open = False
        spans, self._spans = self._spans, None
        if self.sampled:
            return True
        if not (slow or failed or refused or self.failed) or not self._recorder.admit(important=slow or failed):
            return False
        self.sampled = True
        for make in spans or ():
            self._recorder.export(self, make())
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
            bits = random.getrandbits(128) or 1
            return Segment(self, f"{bits:032x}", (bits & (2**64 - 1)) < self._bound, None)
        sampled = parent.sampled if self._parent_based else int(parent.trace_id[16:], 16) < self._bound
        return Segment(self, parent.trace_id, sampled, parent)

    def admit(self, *, important: bool) -> bool:
        """Return True if there is room for a segment that wasn't sampled. Half of it is for the important ones."""
        now = self._now()
        self._room = min(KEPT_PER_SECOND, self._room + (now - self._filled_at) * KEPT_PER_SECOND)
        self._filled_at = now
        if self._room < (1.0 if important else KEPT_PER_SECOND / 2):
            return False
        self._room -= 1.0
        return True


class Outgoing:
    """A message that the running code sends, for as long as it waits for the answer: a span of its segment.

    `describe(what)` names the span.
    """

    __slots__ = ("_began", "_context", "_describe", "_ended", "_error", "_failed", "_kind", "_span_id", "_what")

    def __init__(self, context: TraceContext, kind: Kind, describe: Describe, what: str) -> None:
        self._context = context
        self._kind = kind
        self._describe = describe
        self._what = what
        self._error, self._failed = "", False
        # Without a segment there is no span, and the message names the one that has caused it.
        self._span_id = new_span_id() if isinstance(context, Segment) else ""

    def inject(self, headers: dict[str, str]) -> None:
        """Name the trace in the headers of the message."""
        self._context.inject(headers, self._span_id)

    def __enter__(self) -> Self:
        self._began = perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        context = self._context
        if not isinstance(context, Segment):
            return
        self._ended = perf_counter()
        if error is not None:
            self._error, self._failed = describe_error(error)
            context.failed = True
        context.add(self._span)

    def _span(self) -> Span:
        name, attributes = self._describe(self._what)
        times, outcome = (self._began, self._ended), (self._error, self._failed)
        return Span(name, self._kind, self._span_id, self._context.span_id, *times, attributes, *outcome)


def within(kind: Kind, describe: Describe, what: str) -> AbstractContextManager[object]:
    """Return what makes a span of a block, if the running code belongs to a segment."""
    context = running.get()
    return Outgoing(context, kind, describe, what) if isinstance(context, Segment) else nullcontext()


def describe_error(error: BaseException) -> tuple[str, bool]:
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
    version, trace_id, span_id, flags, rest = found.groups()
    if version == "ff" or (version == "00" and rest) or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    state = state if state and _is_state(state) else ""
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & 1), state)


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
    return f"{random.getrandbits(64) or 1:016x}"
