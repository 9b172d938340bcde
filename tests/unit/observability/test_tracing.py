from __future__ import annotations

import pytest

from aidevos.contracts.errors import Failure
from aidevos.observability import tracing
from aidevos.observability.tracing import KEPT_PER_SECOND, MOST_SPANS, Recorder, Segment, Span, TraceContext

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
NAMED = f"00-{TRACE}-{SPAN}-01"


class Exported:
    """A sink that keeps the spans."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []

    def __call__(self, context: TraceContext, span: Span) -> None:
        self.spans.append((context.trace_id, span))

    @property
    def names(self) -> list[str]:
        return [span.name for _, span in self.spans]


def make_call(segment: Segment, error: BaseException | None = None) -> None:
    """Do what a segment does for each of its calls."""
    segment.add("client", lambda what: (what, {}), "call", segment.send({}), 0.0, error)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "x",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01\n",
        f" 00-{TRACE}-{SPAN}-01",
    ],
)
def test_a_malformed_traceparent_is_ignored(header: str) -> None:
    assert tracing.parse(header) is None


def test_a_traceparent_of_a_later_version_is_understood() -> None:
    context = tracing.parse(f"01-{TRACE}-{SPAN}-03-more")

    assert context is not None
    assert (context.trace_id, context.span_id, context.sampled) == (TRACE, SPAN, True)


@pytest.mark.parametrize("state", [None, "", "a=1\r\nx: y", "a" * 513])
def test_an_unusable_tracestate_is_dropped(state: str | None) -> None:
    context = tracing.parse(NAMED, state)

    assert context is not None
    assert context.state == ""


def test_without_an_exporter_a_named_trace_is_passed_on_unchanged() -> None:
    context = tracing.begin(NAMED, "vendor=1")

    assert context is not None
    assert not isinstance(context, Segment)
    assert (context.header(), context.state) == (NAMED, "vendor=1")


def test_without_an_exporter_a_message_that_names_no_trace_has_none() -> None:
    assert tracing.begin(None) is None
    assert tracing.current_trace_id() is None
    assert tracing.traceparent() == ""


def test_the_trace_of_running_code_is_known_until_its_work_has_ended() -> None:
    context = tracing.begin(NAMED)
    assert context is not None

    with tracing.using(context):
        assert tracing.current_trace_id() == tracing.sampled_trace_id() == TRACE
        with tracing.using(None):
            assert tracing.current_trace_id() is None
        context.open = False
        assert tracing.current_trace_id() is None
        assert tracing.traceparent() == ""
    assert tracing.current_trace_id() is None


def test_a_segment_continues_the_trace_that_a_message_names() -> None:
    exported = Exported()
    segment = Recorder(exported).begin(tracing.parse(NAMED, "vendor=1"))

    make_call(segment)
    segment.end("counter.increment", "server", {})

    (trace, call), (_, own) = exported.spans
    assert trace == TRACE
    assert (own.parent_id, call.parent_id) == (SPAN, own.span_id)
    assert segment.header() == f"00-{TRACE}-{own.span_id}-01"
    assert segment.state == "vendor=1"


def test_spans_of_a_quick_and_successful_segment_that_is_not_sampled_are_dropped() -> None:
    exported = Exported()
    segment = Recorder(exported, ratio=0.0).begin(None)

    make_call(segment)
    segment.end("counter.value", "server", {})

    assert exported.spans == []
    assert segment.header().endswith("-00")


@pytest.mark.parametrize(("slow_after", "error"), [(0.0, ""), (60.0, "internal")])
def test_a_slow_or_failed_segment_is_recorded_whole_although_it_is_not_sampled(slow_after: float, error: str) -> None:
    exported = Exported()
    segment = Recorder(exported, ratio=0.0, slow_after=slow_after).begin(None)

    make_call(segment)
    segment.end("counter.value", "server", {}, error=error, failed=bool(error))

    assert exported.names == ["call", "counter.value"]


def test_a_segment_whose_call_has_failed_is_recorded() -> None:
    exported = Exported()
    segment = Recorder(exported, ratio=0.0).begin(None)

    make_call(segment, Failure("not-found", "there is none"))
    segment.end("counter.value", "server", {})

    assert exported.names == ["call", "counter.value"]
    assert [(span.error, span.failed) for _, span in exported.spans] == [("not-found", False), ("", False)]


def test_the_decision_of_the_caller_holds_unless_the_sampler_ignores_it() -> None:
    unsampled = tracing.parse(f"00-{TRACE}-{SPAN}-00")

    assert not Recorder(Exported(), ratio=1.0).begin(unsampled).sampled
    assert Recorder(Exported(), ratio=1.0, parent_based=False).begin(unsampled).sampled
    assert not Recorder(Exported(), ratio=0.0, parent_based=False).begin(tracing.parse(NAMED)).sampled


def test_about_the_given_share_of_traces_is_sampled() -> None:
    recorder = Recorder(Exported(), ratio=0.25)

    sampled = sum(recorder.begin(None).sampled for _ in range(4000))

    assert 800 <= sampled <= 1200


def test_a_segment_keeps_a_limited_number_of_spans() -> None:
    exported = Exported()
    segment = Recorder(exported, ratio=0.0).begin(None)

    for _ in range(2 * MOST_SPANS):
        make_call(segment)
    segment.end("counter.value", "server", {}, error="internal")

    assert len(exported.spans) == MOST_SPANS + 1


def test_a_flood_of_failures_is_recorded_in_part_and_refusals_leave_room_for_failures() -> None:
    clock = [0.0]
    recorder = Recorder(Exported(), ratio=0.0, now=lambda: clock[0])

    refused = sum(recorder.begin(None).keep(slow=False, failed=False, refused=True) for _ in range(1000))
    failed = sum(recorder.begin(None).keep(slow=False, failed=True) for _ in range(1000))
    clock[0] = 1.0
    later = sum(recorder.begin(None).keep(slow=True, failed=False) for _ in range(1000))

    assert 0 < refused < KEPT_PER_SECOND
    assert refused + failed == KEPT_PER_SECOND
    assert later == KEPT_PER_SECOND
