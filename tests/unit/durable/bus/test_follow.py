"""A process that follows events learns whether any that still matter are lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest

from aidevos.durable.bus import follow
from aidevos.durable.bus.follow import EventStream
from aidevos.durable.bus.memory import MemoryBus
from aidevos.durable.bus.port import BusError, Delivery
from tests.support.kits import until

HISTORY = 960.0
PATTERN = "event.session.*.ended"


class Event(msgspec.Struct):
    number: int


class Bus(MemoryBus):
    """A bus whose connection a test can break."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.checks = 0

    async def complete_since(self, patterns: Sequence[str]) -> float:
        self.checks += 1
        return self.lost_before

    async def follow(
        self, patterns: Sequence[str], *, since: float | None = None, after: str = ""
    ) -> AsyncGenerator[Delivery | None, None]:
        self.reads += 1
        self.broken = asyncio.get_running_loop().create_future()
        reading = super().follow(patterns, since=since, after=after)
        while True:
            event = asyncio.ensure_future(anext(reading))
            await asyncio.wait({event, self.broken}, return_when=asyncio.FIRST_COMPLETED)
            if self.broken.done():
                event.cancel()
                raise BusError("broken on purpose")
            yield event.result()

    async def end(self, number: int) -> None:
        scope = f"event.session.s{number}.>"
        subject = f"event.session.s{number}.ended"
        await self.publish(subject, b'{"number":%d}' % number, f"id{number}", number=number, scope=scope, after=0)


class Reader:
    """Follows a bus, and keeps the numbers that it has read and the gaps that it was told."""

    def __init__(self, bus: Bus) -> None:
        self.stream = EventStream(bus, since=HISTORY)
        self.numbers: list[int] = []
        self.gaps: list[float] = []
        self.loaded_at_gap: list[bool] = []
        self.stream.on(PATTERN, Event, lambda id, event: self.numbers.append(event.number))
        self.stream.on_gap(self._note)

    def _note(self, known_since: float) -> None:
        self.gaps.append(known_since)
        self.loaded_at_gap.append(self.stream.loaded.is_set())


@asynccontextmanager
async def following(bus: Bus) -> AsyncIterator[Reader]:
    reader = Reader(bus)
    task = asyncio.create_task(reader.stream.follow())
    try:
        async with asyncio.timeout(5):
            await reader.stream.loaded.wait()
        yield reader
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def break_off(bus: Bus) -> None:
    """Break the connection and wait until it is used again."""
    reads = bus.reads
    bus.broken.set_result(None)
    await until(lambda: bus.reads > reads)


async def test_a_stream_that_has_the_whole_history_has_no_gap() -> None:
    bus = Bus()
    bus.lost_before = time.time() - HISTORY

    async with following(bus) as reader:
        assert reader.gaps == []


async def test_a_new_or_purged_stream_is_a_gap_that_is_known_before_anything_is_answered() -> None:
    bus = Bus()
    bus.lost_before = time.time() - 60

    async with following(bus) as reader:
        assert reader.gaps == [bus.lost_before]
        assert reader.loaded_at_gap == [False]


async def test_a_purge_is_noticed_while_events_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "CHECK_EVERY", 0.02)
    bus = Bus()
    async with following(bus) as reader:
        bus.lost_before = time.time()
        await until(lambda: reader.gaps)
        checks = bus.checks
        await until(lambda: bus.checks > checks + 3)

        assert reader.gaps == [bus.lost_before]
        assert bus.reads == 2


async def test_events_that_expire_are_no_purge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "CHECK_EVERY", 0.02)
    bus = Bus()
    async with following(bus) as reader:
        for _ in range(4):
            bus.lost_before, checks = time.time() - HISTORY, bus.checks
            await until(lambda checks=checks: bus.checks > checks)  # type: ignore[misc]

        assert (reader.gaps, bus.reads) == ([], 1)


async def test_a_stream_that_has_lost_its_end_is_a_gap() -> None:
    bus = Bus()
    async with following(bus) as reader:
        await bus.end(1)
        await bus.end(2)
        await until(lambda: reader.numbers == [1, 2])
        await break_off(bus)
        await until(lambda: reader.numbers == [1, 2, 1, 2])
        complete = list(reader.gaps)
        del bus.events[1:], bus._times[1:]
        before = time.time()
        await break_off(bus)
        await until(lambda: reader.gaps)

        assert complete == []
        assert before <= reader.gaps[0] <= time.time()
        await break_off(bus)
        await bus.end(3)
        await until(lambda: 3 in reader.numbers)
        assert len(reader.gaps) == 1


async def test_a_reader_that_fails_is_a_gap_and_reads_on(caplog: pytest.LogCaptureFixture) -> None:
    bus = Bus()
    bus.lost_before = time.time() - HISTORY
    async with following(bus) as reader:
        apply = reader.numbers.append

        def stumble(id: str, event: Event) -> None:
            if event.number == 2:
                raise KeyError("a bug in one reader")
            apply(event.number)

        reader.stream.on(PATTERN, Event, stumble)
        before = time.time()
        for number in (1, 2, 3):
            await bus.end(number)
        await until(lambda: 3 in reader.numbers)

        assert reader.numbers == [1, 3]
        assert before <= reader.gaps[0] <= time.time()
        assert "a bug in one reader" in caplog.text
