"""What is told about a request after its answer: the spans of its trace, and why it was slow."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec
import pytest

from aidevos import Alarm, BaseDurableObject, Event, Failure, authenticated, command
from aidevos.contracts.envelope import REQUEST_ID, TRACEPARENT
from aidevos.contracts.events import trace_of
from aidevos.observability import tracing
from aidevos.observability.slow_log import slow_log
from aidevos.observability.tracing import Recorder, Span, TraceContext
from aidevos.testing import ObjectKit

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {TRACEPARENT: f"00-{TRACE}-{CALLER}-01"}
DAY = 86_400.0


class Rang(Event):
    name: str


class Nothing(msgspec.Struct):
    rung: int = 0


class Bell(BaseDurableObject[Nothing], type="bell"):
    @command(allow=authenticated())
    async def hold(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.state.rung += 1

    @command(allow=authenticated())
    async def ring(self) -> None:
        self.state.rung += 1
        self.emit(Rang("ring"))

    @command(allow=authenticated())
    async def refuse(self) -> None:
        raise Failure("conflict", "not now")

    @command(allow=authenticated())
    async def schedule(self, in_: float, every: float | None = None) -> None:
        self.alarms.set("bell", in_=in_, every=every)

    async def on_alarm(self, alarm: Alarm) -> None:
        self.state.rung += 1
        if self.state.rung < 3:
            self.alarms.set("bell", in_=1.0)


@pytest.fixture
async def kit() -> Any:
    async with ObjectKit(Bell) as kit:
        yield kit


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Let everything count as slow, and return what has the lines of the slow log."""
    for limit in ("turn", "commit", "search"):
        monkeypatch.setattr(slow_log, limit, 0.0)
    monkeypatch.setattr(slow_log, "_written", -1000)
    caplog.set_level(logging.WARNING, "aidevos.slow")
    return caplog


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Span]]:
    """Sample the traces of callers that ask for it, and return the spans with the IDs of their traces."""
    found: list[tuple[str, Span]] = []

    def keep(context: TraceContext, span: Span) -> None:
        found.append((context.trace_id, span))

    monkeypatch.setattr(tracing, "recorder", Recorder(keep, slow_after=60.0))
    return found


def named(spans: list[tuple[str, Span]], name: str) -> list[tuple[str, Span]]:
    return [(trace, span) for trace, span in spans if span.name == name]


async def test_a_slow_turn_names_the_method_that_it_waited_for(kit: ObjectKit, slow: pytest.LogCaptureFixture) -> None:
    await kit.call("bell", "a", "ring")
    headers = {REQUEST_ID: "r-1", **SAMPLED}

    await asyncio.gather(
        kit.call("bell", "a", "hold", seconds=0.05),
        kit.call("bell", "a", "hold", seconds=0.001),
        kit.call("bell", "a", "ring", headers=headers),
    )

    waited = [record for record in slow.records if record.getMessage().startswith("bell.ring took 0.")][-1]
    assert "in the mailbox behind bell.hold and 1 others" in waited.getMessage()
    fields = vars(waited)
    assert (fields["type"], fields["object"], fields["method"]) == ("bell", "bell:a", "ring")
    assert (fields["request_id"], fields["trace_id"]) == ("r-1", TRACE)
    assert sum(fields["reasons"].values()) == pytest.approx(fields["seconds"], abs=0.001)


async def test_a_slow_commit_has_a_line(kit: ObjectKit, slow: pytest.LogCaptureFixture) -> None:
    await asyncio.gather(kit.call("bell", "a", "ring"), kit.call("bell", "b", "ring"))

    (commit,) = [line for line in slow.records if vars(line).get("batch") == 2]
    assert commit.getMessage().startswith("a commit of 2 bell objects with ")
    assert "in MongoDB" in vars(commit)["reasons"]


async def test_a_slow_list_has_a_line(kit: ObjectKit, slow: pytest.LogCaptureFixture) -> None:
    await kit.query("bell", "list")

    assert slow.records[-1].getMessage().startswith("the query bell.list took 0.")
    assert {"waiting for MongoDB", "in this process"} <= vars(slow.records[-1])["reasons"].keys()


async def test_quick_turns_commits_and_lists_have_no_lines(kit: ObjectKit, caplog: pytest.LogCaptureFixture) -> None:
    await kit.call("bell", "a", "ring")
    await kit.query("bell", "list")

    assert [record for record in caplog.records if record.name == "aidevos.slow"] == []


async def test_one_write_of_several_commits_is_a_span_of_the_first_trace_and_linked_to_the_others(
    kit: ObjectKit, spans: list[tuple[str, Span]]
) -> None:
    other = {TRACEPARENT: f"00-{'1' * 32}-{CALLER}-01"}

    await asyncio.gather(kit.call("bell", "a", "ring", headers=SAMPLED), kit.call("bell", "b", "ring", headers=other))
    await kit.settle()

    ((trace, write), *_) = named(spans, "bulkWrite obj_bell")
    (_, first), (_, second) = named(spans, "commit bell")[:2]
    assert trace == TRACE
    assert write.parent_id == first.span_id
    assert [(link.trace_id, link.span_id) for link in write.links] == [("1" * 32, second.span_id)]
    assert [(link.trace_id, link.span_id) for link in second.links] == [(TRACE, write.span_id)]
    assert write.attributes["db.operation.batch.size"] == 2


async def test_a_refusal_is_no_error_of_its_span(kit: ObjectKit, spans: list[tuple[str, Span]]) -> None:
    with pytest.raises(Failure):
        await kit.call("bell", "a", "refuse", headers={TRACEPARENT: f"00-{TRACE}-{CALLER}-00"})

    ((_, span),) = named(spans, "bell.refuse")
    assert (span.error, span.failed) == ("conflict", False)


async def test_an_alarm_belongs_to_the_trace_of_the_turn_that_set_it(
    kit: ObjectKit, spans: list[tuple[str, Span]]
) -> None:
    await kit.call("bell", "a", "schedule", in_=10.0, headers=SAMPLED)
    await kit.advance(10.0)
    await kit.settle()

    (_, setting), *_ = named(spans, "turn bell.schedule")
    (trace, rung), *_ = named(spans, "bell._alarm")
    assert (trace, rung.parent_id) == (TRACE, setting.span_id)


@pytest.mark.parametrize("args", [{"in_": 10.0, "every": 10.0}, {"in_": DAY}])
async def test_an_alarm_that_would_prolong_its_trace_begins_another_one_that_links_to_it(
    kit: ObjectKit, spans: list[tuple[str, Span]], args: dict[str, float]
) -> None:
    await kit.call("bell", "a", "schedule", **args, headers=SAMPLED)
    await kit.advance(args["in_"])
    await kit.settle()

    (_, setting), *_ = named(spans, "turn bell.schedule")
    (trace, rung), *_ = named(spans, "bell._alarm")
    assert (trace != TRACE, rung.parent_id) == (True, "")
    assert [(link.trace_id, link.span_id) for link in rung.links] == [(TRACE, setting.span_id)]


async def test_an_alarm_that_an_alarm_has_set_begins_a_trace_of_its_own(
    kit: ObjectKit, spans: list[tuple[str, Span]]
) -> None:
    await kit.call("bell", "a", "schedule", in_=1.0, headers=SAMPLED)
    for _ in range(3):
        await kit.advance(1.0)
        await kit.settle()

    traces = [trace for trace, _ in named(spans, "bell._alarm")]
    assert len(set(traces)) == len(traces) == 3
    assert traces[0] == TRACE


async def test_without_an_exporter_an_event_names_the_trace_of_the_caller(kit: ObjectKit) -> None:
    await kit.call("bell", "a", "ring", headers=SAMPLED)
    await kit.call("bell", "b", "ring")
    await kit.settle()

    traces = {event.subject: trace_of(event.payload) for event in kit.bus.events}
    assert traces == {"event.bell.a.rang": SAMPLED[TRACEPARENT], "event.bell.b.rang": ""}
