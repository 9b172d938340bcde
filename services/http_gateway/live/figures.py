"""The figures of the fleet, live: one sample every few seconds for all readers.

Promises: nothing is asked and computed while nobody reads. However many read, the processes are asked once for each
sample. A reader who is slow misses samples, and holds up nobody.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator

import msgspec
from nats.aio.client import Client

from aidevos.contracts import subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.fleet import FIGURES, READ, FleetFigures, ProcessFigures, ProcessLoad
from aidevos.contracts.times import rfc3339_of

from ..http.connection import Connection
from ..survey import ask_all
from . import events
from .endless_body import COMMENT, HEARTBEAT, EndlessBody, end_frames, retry_line
from .readers import Readers
from .subscriber import Subscriber

log = logging.getLogger(__name__)
SAMPLE_EVERY = 2.0
SHOWN = 20
_figures = msgspec.msgpack.Decoder(ProcessFigures)


class FigureStream(EndlessBody):
    """One reader's stream of samples."""

    permission = READ

    def __init__(self, sampler: Sampler, reader: Subscriber, connection: Connection) -> None:
        self._sampler = sampler
        self._frame = b""
        super().__init__(reader, connection)

    def offer(self, frame: bytes) -> None:
        """Send this sample next, in place of one that still waits."""
        self._frame = frame
        self._wake.set()

    def _leave(self) -> None:
        self._sampler.leave(self)

    async def _run(self) -> AsyncGenerator[bytes, None]:
        yield retry_line() + COMMENT
        while not self._ended:
            self._wake.clear()
            try:
                async with asyncio.timeout(HEARTBEAT):
                    await self._wake.wait()
            except TimeoutError:
                yield COMMENT
            else:
                frame, self._frame = self._frame, b""
                if frame and not self._ended:
                    yield frame
        for frame in end_frames(self._ended):
            yield frame


class Sampler:
    """Asks the processes over one connection for as long as somebody reads."""

    def __init__(self, connection: Client, readers: Readers) -> None:
        self._connection = connection
        self._readers = readers
        self._streams: set[FigureStream] = set()
        self._present = asyncio.Event()

    def open(self, reader: Subscriber, connection: Connection) -> FigureStream:
        """Return a new stream for a reader. Raises `rate-limited` or `overloaded` if there are too many."""
        self._readers.check_room(reader.caller.subject)
        stream = FigureStream(self, reader, connection)
        self._readers.add(stream)
        self._streams.add(stream)
        self._present.set()
        return stream

    def leave(self, stream: FigureStream) -> None:
        if stream in self._streams:
            self._streams.remove(stream)
            self._readers.remove(stream)

    async def keep_sampling(self) -> None:
        """Send samples until cancelled."""
        while True:
            self._present.clear()
            if not self._streams:
                await self._present.wait()
            await self._sample_while_read()

    async def _sample_while_read(self) -> None:
        before: dict[str, ProcessFigures] = {}
        taken_at = 0.0
        while self._streams:
            began = time.monotonic()
            try:
                found = await self._ask()
            except Failure as failure:
                log.warning("the figures of the fleet can't be read: %s", failure)
            else:
                sample = summarize(before, found, began - taken_at)
                before, taken_at = found, began
                frame = events.frame(msgspec.json.encode(sample), event="figures")
                for stream in tuple(self._streams):
                    stream.offer(frame)
            await asyncio.sleep(max(0.0, began + SAMPLE_EVERY - time.monotonic()))

    async def _ask(self) -> dict[str, ProcessFigures]:
        found: dict[str, ProcessFigures] = {}

        def receive(answer: bytes) -> None:
            try:
                figures = _figures.decode(answer)
            except msgspec.DecodeError as error:
                log.warning("a process's figures can't be read: %s", error)
            else:
                found[figures.process] = figures

        await ask_all(self._connection, subjects.FLEET_METRICS, receive, payload=FIGURES)
        return found


def summarize(before: dict[str, ProcessFigures], found: dict[str, ProcessFigures], seconds: float) -> FleetFigures:
    """Return the sample of what all processes have answered, and what they answered `seconds` earlier, if anything.

    The counts of a process that has begun anew since then start at 0.
    """
    each = [(before.get(name), figures) for name, figures in sorted(found.items())]

    def count(name: str) -> float:
        return sum(_growth(old, new, name) for old, new in each)

    def add(name: str) -> int:
        return int(sum(getattr(new, name) for _, new in each))

    requests = count("requests")
    busiest = sorted((busy for _, new in each for busy in new.busiest), key=lambda busy: -busy.turns)
    return FleetFigures(
        at=rfc3339_of(time.time()),
        processes=[ProcessLoad(new.process, int(new.objects), int(new.memory), new.problems) for _, new in each],
        problems=add("problems"),
        requests=requests / seconds if before else None,
        latency=count("seconds") / requests if before and requests else None,
        failures=count("failures") / seconds if before else None,
        dead_letters=add("dead_letters"),
        objects=add("objects"),
        memory=add("memory"),
        busiest=busiest[:SHOWN],
    )


def _growth(old: ProcessFigures | None, new: ProcessFigures, name: str) -> float:
    """Return by how much a counter has grown. One that went back belongs to a new process, and began at 0."""
    if old is None:
        return 0.0
    before, now = getattr(old, name), getattr(new, name)
    return float(now - before if now >= before else now)
