"""Live streams on a memory bus: the readers' events, through any disconnects and reconnects."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos import Backoff
from aidevos.contracts.errors import Failure
from aidevos.durable.bus.memory import MemoryBus
from aidevos.durable.bus.port import BusError
from aidevos.security.permissions import Principal
from services.http_gateway.live import endless_body, window
from services.http_gateway.live import hub as hubs
from services.http_gateway.live import stream as streams
from services.http_gateway.live.event_filter import EventFilter
from services.http_gateway.live.events import LiveEvent
from services.http_gateway.live.hub import Hub
from services.http_gateway.live.readers import Readers, StreamLimits
from services.http_gateway.live.stream import Stream
from services.http_gateway.live.subscriber import Subscriber
from tests.support.kits import examples

CALLER = Principal("ada", permissions=frozenset({"events:read"}))
HERS = Subscriber(CALLER, "Bearer ada", "")
ALL = EventFilter()


class EntryPoint:
    """Fake authentication and visibility of events."""

    def __init__(self) -> None:
        self.callers: dict[str, Principal | Failure] = {"Bearer ada": CALLER}
        self.shows: Callable[[LiveEvent], bool] = lambda event: True

    def authenticate(self, authorization: str, address: str) -> Principal:
        found = self.callers[authorization]
        if isinstance(found, Failure):
            raise found
        return found

    async def may_see(self, reader: Subscriber, event: LiveEvent) -> bool:
        await asyncio.sleep(0)
        return self.shows(event)


class Link:
    """A fake reader's connection."""

    def __init__(self) -> None:
        self.ended: Callable[[Any], None] | None = None
        self.was_cut = False

    def watch(self, ended: Callable[[Any], None] | None) -> None:
        self.ended = ended

    def cut(self) -> None:
        self.was_cut = True


class Client:
    """A reader of a stream: the event numbers, the `end` and `gap` notices, and the place."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.numbers: list[int] = []
        self.told: list[tuple[str, str]] = []
        self.place = ""

    async def read(self, until: Callable[[], bool] = lambda: False) -> None:
        """Read chunks until a condition holds or the stream ends."""
        async with asyncio.timeout(8):
            while not until():
                try:
                    chunk = await anext(self.stream)
                except StopAsyncIteration:
                    return
                for block in chunk.decode().removesuffix("\n\n").split("\n\n"):
                    self._take(dict(line.split(": ", 1) for line in block.split("\n")))

    def _take(self, fields: dict[str, str]) -> None:
        self.place = fields.get("id", self.place)
        if fields.get("event") in ("end", "gap"):
            self.told.append((fields["event"], msgspec.json.decode(fields["data"])["reason"]))
        elif "data" in fields:
            self.numbers.append(msgspec.json.decode(fields["data"])["data"]["number"])


class World:
    def __init__(self, **limits: int) -> None:
        self.bus, self.door = MemoryBus(), EntryPoint()
        given: Any = {"streams": 100, "of_caller": 100, **limits}
        self.readers = Readers(self.door, StreamLimits(**given))  # type: ignore[arg-type]
        self.hub = Hub(self.bus, self.door, self.readers)  # type: ignore[arg-type]
        self.count = 0
        self.link = Link()

    async def publish(self, count: int = 1, *, id: str = "", size: int = 0) -> None:
        for _ in range(count):
            self.count += 1
            document = {
                "specversion": "1.0",
                "id": id or f"thing:t:{self.count}",
                "source": "/durable-objects/thing:t",
                "type": "thing.happened",
                "time": "2026-01-01T00:00:00Z",
                "datacontenttype": "application/json",
                "data": {"number": self.count, "text": "x" * size},
            }
            after = (await self.bus.read_last("event.thing.t.>"))[0]
            payload = msgspec.json.encode(document)
            await self.bus.publish(
                "event.thing.t.happened",
                payload,
                document["id"],
                number=self.count,
                scope="event.thing.t.>",
                after=after,
            )

    async def open(self, after: str = "", reader: Subscriber = HERS, wanted: EventFilter = ALL) -> Client:
        stream = await self.hub.open(wanted, reader, self.link, int(after) if after else None)
        client = Client(stream)
        await client.read(lambda: client.place != "")
        return client


@contextlib.asynccontextmanager
async def running(**limits: int) -> AsyncIterator[World]:
    world = World(**limits)
    tasks = [asyncio.create_task(work) for work in (world.hub.follow(), world.readers.keep_checking())]
    yield world
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as world:
        yield world


STEPS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.booleans()), max_size=12)


@examples(60)
@given(steps=STEPS, room=st.integers(2, 40), hidden=st.integers(2, 7))
def test_a_reader_that_reconnects_anywhere_gets_each_event_once_and_in_order(
    steps: list[tuple[int, int, bool]], room: int, hidden: int
) -> None:
    """Each step publishes some events, reads some, and may then disconnect. The reader may reconnect to another
    gateway, whose memory goes back only to its start."""

    async def check() -> None:
        async with running() as first, running() as second:
            second.bus = first.bus
            second.hub._bus = first.bus
            for world in (first, second):
                world.door.shows = lambda event: event.position % hidden != 0
            client = await first.open()
            seen: list[int] = []
            for number, (published, read, leaves) in enumerate(steps):
                await first.publish(published)
                shown = sum(each % hidden != 0 for each in range(1, first.count + 1)) - len(seen)
                wanted = min(read, shown)
                await client.read(lambda client=client, wanted=wanted: len(client.numbers) >= wanted)
                if leaves:
                    seen += client.numbers
                    await client.stream.aclose()
                    client = await (first, second)[number % 2].open(client.place)
            await first.publish(1)
            expected = [each for each in range(1, first.count + 1) if each % hidden != 0]
            await client.read(lambda: len(seen) + len(client.numbers) >= len(expected))
            assert seen + client.numbers == expected
            await client.stream.aclose()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window, "MAX_EVENTS", room)
        patch.setattr(streams, "MAX_WAITING", 500)
        patch.setattr(hubs, "WINDOW_AGE", 0.0)
        asyncio.run(check())


async def test_a_reader_that_does_not_keep_up_is_told_and_misses_nothing_when_it_resumes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MAX_WAITING", 20)
    client = await world.open()
    await world.publish(3)
    await client.read(lambda: len(client.numbers) == 3)
    await world.publish(100)
    await asyncio.sleep(0)
    await until(lambda: client.stream._ended == "slow")
    assert not client.stream._waiting
    await client.read()
    assert client.told == [("end", "slow")]
    await client.stream.aclose()

    again = await world.open(client.place)
    await again.read(lambda: len(again.numbers) == 100)
    assert again.numbers == list(range(4, 104))


async def test_large_events_count_by_their_size(world: World) -> None:
    client = await world.open()
    await world.publish(1)
    await client.read(lambda: client.numbers == [1])
    await world.publish(9, size=512 * 1024)
    await until(lambda: client.stream._ended == "slow")
    await client.stream.aclose()
    again = await world.open(client.place)
    await again.read(lambda: len(again.numbers) == 9)
    assert again.numbers == list(range(2, 11))


async def test_a_reader_that_takes_nothing_is_cut_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endless_body, "WRITE_WITHIN", 0.1)
    await world.open()
    await until(lambda: world.link.was_cut)


async def test_what_a_bus_delivers_twice_comes_once(world: World) -> None:
    client = await world.open()
    await world.publish(2, id="same")
    await world.publish(1)
    await client.read(lambda: 3 in client.numbers)
    assert client.numbers == [1, 3]


async def test_streams_of_one_caller_and_altogether_are_bounded() -> None:
    async with running(of_caller=2, streams=3) as world:
        world.door.callers["Bearer bob"] = bob = Principal("bob", permissions=frozenset({"events:read"}))
        his = Subscriber(bob, "Bearer bob", "")
        first = await world.open()
        await world.open()
        with pytest.raises(Failure, match="too many") as refused:
            await world.open()
        assert refused.value.code == "rate-limited"
        await world.open(reader=his)
        with pytest.raises(Failure) as refused:
            await world.open(reader=his)
        assert refused.value.code == "overloaded"
        await first.stream.aclose()
        await world.open()


async def test_a_server_that_ends_says_so(world: World) -> None:
    client = await world.open()
    assert world.link.ended is not None
    world.link.ended("draining")
    await client.read()
    assert client.told == [("end", "draining")]


@pytest.mark.parametrize(
    ("becomes", "reason"),
    [
        (Failure("unauthenticated", "gone"), "unauthenticated"),
        (Failure("unavailable", "roles aren't known"), "unavailable"),
        (Principal("ada"), "forbidden"),
    ],
)
async def test_a_caller_who_may_not_read_any_more_is_let_go(
    world: World, becomes: Principal | Failure, reason: str
) -> None:
    client = await world.open()
    world.door.callers["Bearer ada"] = becomes
    async with asyncio.timeout(1):
        await client.read()
    assert client.told == [("end", reason)]


async def test_an_event_that_can_t_be_judged_ends_the_stream_and_is_not_lost(world: World) -> None:
    client = await world.open()

    def fail(event: LiveEvent) -> bool:
        raise Failure("unavailable", "nobody knows")

    world.door.shows = fail
    await world.publish(1)
    await client.read()
    assert (client.numbers, client.told) == ([], [("end", "unavailable")])
    world.door.shows = lambda event: True
    again = await world.open(client.place)
    await again.read(lambda: again.numbers == [1])


async def test_a_place_beyond_the_stream_is_a_gap_and_then_comes_what_is_new(world: World) -> None:
    await world.publish(5)
    client = await world.open("1000")
    await client.read(lambda: bool(client.told))
    await world.publish(1)
    await client.read(lambda: bool(client.numbers))
    assert (client.told, client.numbers, client.place) == ([("gap", "lost")], [6], "6")


async def test_what_another_gateway_has_shown_already_does_not_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader comes from a gateway that is ahead of this one."""
    gate, original = asyncio.Event(), MemoryBus.follow

    async def follow(self: MemoryBus, patterns: Any, **options: Any) -> Any:
        async for delivery in original(self, patterns, **options):
            if delivery is not None and not options.get("after"):
                await gate.wait()
            yield delivery

    monkeypatch.setattr(MemoryBus, "follow", follow)
    async with running() as world:
        await (await world.open()).stream.aclose()
        await world.publish(3)
        client = await world.open("2")
        await client.read(lambda: client.numbers == [3])
        reading = asyncio.create_task(client.read(lambda: 4 in client.numbers))
        await until(lambda: bool(world.hub._by_topic))
        gate.set()
        await world.publish(1)
        await reading
        assert client.numbers == [3, 4]


async def test_a_quiet_stream_tells_its_place(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT", 0.05)
    client = await world.open(wanted=EventFilter(types=frozenset({"other"})))
    await world.publish(7)
    await client.read(lambda: client.place == "7")
    assert client.numbers == []


async def test_the_bus_is_read_once_for_all_and_not_when_nobody_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "LINGER", 0.3)
    follows: list[str] = []
    original = MemoryBus.follow

    def follow(self: MemoryBus, patterns: Any, **options: Any) -> Any:
        follows.append("begun")
        return original(self, patterns, **options)

    monkeypatch.setattr(MemoryBus, "follow", follow)
    async with running() as world:
        assert follows == []
        clients = [await world.open() for _ in range(60)]
        await world.publish(3)
        for client in clients:
            await client.read(lambda client=client: client.numbers == [1, 2, 3])
        assert follows == ["begun"]
        for client in clients:
            await client.stream.aclose()
        await until(lambda: not world.hub._loaded.is_set())
        late = await world.open(clients[0].place)
        await world.publish(1)
        await late.read(lambda: late.numbers == [4])


async def test_a_bus_that_breaks_off_is_read_on_from_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "FOLLOWING", Backoff(0.01, 0.01))
    original = MemoryBus.follow

    async def follow(self: MemoryBus, patterns: Any, **options: Any) -> Any:
        given = 0
        async for delivery in original(self, patterns, **options):
            yield delivery
            given += delivery is not None
            if given == 2:
                raise BusError("on purpose")

    monkeypatch.setattr(MemoryBus, "follow", follow)
    async with running() as world:
        client = await world.open()
        await world.publish(11)
        await client.read(lambda: len(client.numbers) == 11)
        assert client.numbers == list(range(1, 12))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
