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

import os
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, Token
from time import perf_counter
from typing import Any, Literal, NamedTuple

from aidevos.variables import SettingsError

Kind = Literal["internal", "server", "client", "producer", "consumer"]
MOST_SPANS = 128
KEPT_PER_SECOND = 100.0
# The name of the sampler of OpenTelemetry, its default, and whether it follows the decision of the caller.
_PARENT_BASED = "parentbased_"
_SAMPLERS = ("always_on", "always_off", "traceidratio")
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


class Segment(TraceContext):
    """The part of a trace that belongs to one request in this process."""

    __slots__ = ("_recorder", "_spans", "began", "failed", "parent_id")

    def __init__(self, recorder: Recorder, trace_id: str, sampled: bool, parent: TraceContext | None) -> None:
        super().__init__(trace_id, "", sampled, "" if parent is None else parent.state)
        self._recorder = recorder
        self._spans: list[Span] | None = None
        self.parent_id = "" if parent is None else parent._span_id
        self.began = perf_counter()
        # True if a call by this segment has failed.
        self.failed = False

    def add(self, span: Span) -> None:
        """Export a span, or keep it until it is known whether the segment is recorded."""
        if self.sampled:
            self._recorder.export(self, span)
        elif self._spans is None:
            if self.open:
                self._spans = [span]
        elif self.open and len(self._spans) < MOST_SPANS:
            self._spans.append(span)

    def keep(self, *, slow: bool, failed: bool, refused: bool = False) -> bool:
        """Return True if the segment is recorded, now that its outcome is known.

        `refused` is a failure that the caller has to answer for. Of those, fewer are recorded.
        """
        self.open = False
        spans, self._spans = self._spans, None
        if self.sampled:
            return True
        wanted = slow or failed or refused or self.failed
        if not wanted or not self._recorder.admit(important=slow or failed):
            return False
        self.sampled = True
        for span in spans or ():
            self._recorder.export(self, span)
        return True

    def end(self, name: str, kind: Kind, attributes: Mapping[str, Any], *, error: str = "", slow: bool = True) -> None:
        """End a segment with a single span of its own. It is recorded if it took long, unless `slow` is False."""
        ended = perf_counter()
        slow = slow and ended - self.began >= self._recorder.slow_after
        if self.keep(slow=slow, failed=bool(error)):
            failed = bool(error)
            self.add(Span(name, kind, self.span_id, self.parent_id, self.began, ended, attributes, error, failed))


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


# None while tracing is off.
recorder: Recorder | None = None
_close_sink: Callable[[], None] = lambda: None  # noqa: E731
_current: ContextVar[TraceContext | None] = ContextVar("trace", default=None)


def current() -> TraceContext | None:
    """Return the span that the running code belongs to, or None."""
    context = _current.get()
    return context if context is not None and context.open else None


def current_trace_id() -> str | None:
    """Return the trace that the running code belongs to, as 32 hexadecimal digits, or None."""
    context = _current.get()
    return context.trace_id if context is not None and context.open else None


def sampled_trace_id() -> str | None:
    """Return the same as `current_trace_id`, but None for a trace that isn't recorded, as far as is known now."""
    context = _current.get()
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


def enter(context: TraceContext | None) -> Token[TraceContext | None]:
    """Let the code that runs from now on belong to this span, until `leave`."""
    return _current.set(context)


def leave(token: Token[TraceContext | None]) -> None:
    _current.reset(token)


@contextmanager
def using(context: TraceContext | None) -> Iterator[None]:
    """Let the code in the block belong to this span, or to none."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


def new_span_id() -> str:
    return f"{random.getrandbits(64) or 1:016x}"


def is_wanted(environ: Mapping[str, str]) -> bool:
    """True if the environment asks for traces: if it names a collector, and nothing switches them off."""
    named = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return bool(named) and not disabled and environ.get("OTEL_TRACES_EXPORTER", "otlp").strip() != "none"


def read_sampler(environ: Mapping[str, str]) -> tuple[float, bool]:
    """Return the share of traces that are recorded, and True if traces that began elsewhere keep their decision.

    Raises `SettingsError`.
    """
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() or "parentbased_always_on"
    kind = name.removeprefix(_PARENT_BASED)
    if kind not in _SAMPLERS:
        known = ", ".join((*_SAMPLERS, *(_PARENT_BASED + each for each in _SAMPLERS)))
        raise SettingsError(f"OTEL_TRACES_SAMPLER={name!r} isn't one of {known}")
    ratio = {"always_on": 1.0, "always_off": 0.0}.get(kind)
    if ratio is None:
        text = environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip() or "1"
        try:
            ratio = float(text)
        except ValueError:
            ratio = -1.0
        if not 0 <= ratio <= 1:
            raise SettingsError(f"OTEL_TRACES_SAMPLER_ARG={text!r} isn't a number from 0 to 1")
    return ratio, name.startswith(_PARENT_BASED)


def configure(
    service: str, instance: str, version: str, slow_after: float, environ: Mapping[str, str] = os.environ
) -> None:
    """Record the traces of this process if the environment names a collector. Raises `SettingsError`."""
    global recorder, _close_sink
    if not is_wanted(environ):
        return
    ratio, parent_based = read_sampler(environ)
    # Imported here, because it loads OpenTelemetry.
    from aidevos.observability import trace_export

    sink, _close_sink = trace_export.open_sink(service, instance, version, environ)
    recorder = Recorder(sink, ratio=ratio, parent_based=parent_based, slow_after=slow_after)


def close() -> None:
    """Record nothing more, and give the collector a moment to take what is left."""
    global recorder, _close_sink
    recorder = None
    _close_sink()
    _close_sink = lambda: None  # noqa: E731
