"""Tells in the hands of a type's owner: waiting ones block no others, their number is bounded, and those left by a
crash are suspect."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import nats
import pytest
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, SubjectTransform
from nats.js.errors import NotFoundError

from aidevos.contracts import subjects
from aidevos.contracts.rate_limits import DEFAULT
from aidevos.durable.access.limiter import RateLimited, Verdict
from aidevos.durable.base.clock import SystemClock
from aidevos.durable.base.partitions import Partitions
from aidevos.durable.base.tasks import cancel_and_wait
from aidevos.durable.client.bucket import Bucket
from aidevos.durable.client.connection import connect
from aidevos.durable.delivery import tells
from aidevos.durable.delivery.crash_suspects import SHORT_LIFE, find_suspects, load_crash_suspects
from aidevos.durable.delivery.tells import ACK_WITHIN, CONCURRENCY, Tells
from aidevos.durable.turns.environment import Limits
from aidevos.durable.turns.headers import Reply
from aidevos.security.gcra import Policy
from aidevos.security.permissions import Principal
from tests.support.host_processes import eventually
from tests.support.kits import quiet, until
from tests.support.servers import Servers

MORE = CONCURRENCY + 50
NO_MORE = RateLimited(Verdict(DEFAULT, Policy(1, 1.0), 0, 5.0))


class FakeSurroundings:
    """A fake router, admission and limiter.

    The credential names the caller, Eve has no quota left, and tells to stuck objects are applied once `free` is set.
    """

    def __init__(self, type: str) -> None:
        self.limits = Limits()
        self.clock = SystemClock()
        self.registry = SimpleNamespace(
            types={type: SimpleNamespace(methods=())}, is_confidential=lambda type, method: False
        )
        self.partitions = Partitions(subjects.PARTITIONS, lambda: True)
        self.applied: list[bytes] = []
        self.trying = 0
        self.most = 0
        self.free = asyncio.Event()

    def is_open(self, subject: str) -> bool:
        return False

    async def admit_stored(self, authorization: str, at: float) -> Principal:
        return Principal(authorization)

    def spend(self, caller: Principal, address: str, group: str) -> None:
        if caller.subject == "eve":
            raise NO_MORE

    def dispatch(self, subject: str, payload: bytes, *others: Any, **options: Any) -> None:
        self.trying += 1
        self.most = max(self.most, self.trying)
        working = asyncio.ensure_future(self._apply(subject.split(".")[3], payload, others[2]))
        working.add_done_callback(lambda _: None)

    async def _apply(self, id: str, payload: bytes, respond: Any) -> None:
        if id.startswith("stuck"):
            await self.free.wait()
        self.trying -= 1
        self.applied.append(payload)
        respond(Reply(b"null"))


class World:
    def __init__(self, stream: JetStreamContext) -> None:
        self.type = f"t{secrets.token_hex(6)}"
        self.around = FakeSurroundings(self.type)
        self.stream = stream

    async def tell(self, id: str, payload: bytes = b"", caller: str = "ada") -> None:
        await self.stream.publish(subjects.tell(self.type, id, "do"), payload, headers={"Authorization": caller})

    async def in_hand(self) -> int:
        return (await self.stream.consumer_info(subjects.TELLS_STREAM, self.consumer)).num_ack_pending or 0

    async def reads(self, partition: int) -> bool:
        """Return True if the owner's consumer reads this partition."""
        try:
            config = (await self.stream.consumer_info(subjects.TELLS_STREAM, self.consumer)).config
        except NotFoundError:
            return False
        return subjects.stored_tells(self.type, partition) in (config.filter_subjects or [])

    @property
    def consumer(self) -> str:
        return f"{self.type}_host-1"

    @asynccontextmanager
    async def life(self, servers: Servers, *, leaves: bool = True) -> AsyncIterator[Tells]:
        """Run an owner of the type, which leaves in order or disappears at once."""
        connection = await connect(servers.nats_url("fleet"), "host")
        around: Any = self.around
        owner = Tells(connection, "host.1", around, around, around, around)
        owner.take(self.type, dict.fromkeys(range(subjects.PARTITIONS), ""))
        following = asyncio.create_task(owner.follow(self.type))
        try:
            yield owner
        finally:
            if leaves:
                await owner.leave()
            await cancel_and_wait([following])
            await owner.close()
            await connection.close()


@pytest.fixture
async def world(servers: Servers) -> AsyncIterator[World]:
    connection = await nats.connect(servers.nats_url("fleet"))
    world = World(connection.jetstream())
    yield world
    await world.stream.purge_stream(subjects.TELLS_STREAM, subject=subjects.stored_tells(world.type))
    await connection.close()


async def test_an_object_that_is_stuck_and_a_caller_over_the_limit_hold_up_no_other(
    servers: Servers, world: World
) -> None:
    for number in range(MORE):
        await world.tell("stuck")
        await world.tell(f"e{number}", caller="eve")
    await world.tell("a", b"mine")
    async with world.life(servers):
        await until(lambda: world.around.applied == [b"mine"], 20)


async def test_so_many_are_tried_at_once_and_no_more(servers: Servers, world: World) -> None:
    for number in range(MORE):
        await world.tell(f"stuck{number}")
    async with world.life(servers) as owner:
        await until(lambda: len(owner._in_progress) == MORE, 20)
        await quiet()
        assert world.around.trying == CONCURRENCY
        world.around.free.set()
        await until(lambda: len(world.around.applied) == MORE, 20)
    assert world.around.most == CONCURRENCY


async def test_a_tell_that_ends_while_its_consumer_is_replaced_is_acknowledged_soon(
    servers: Servers, world: World
) -> None:
    await world.tell("stuck")
    other = 1 - min(subjects.partition(world.type, "stuck"), 1)
    async with world.life(servers) as owner:
        await until(lambda: world.around.trying == 1, 20)
        owner.drop(world.type, other)
        add_consumer = owner._js.add_consumer

        async def add(*args: Any) -> Any:
            """Let the tell end when the new consumer exists and has delivered nothing yet."""
            info = await add_consumer(*args)
            world.around.free.set()
            await until(lambda: bool(world.around.applied), 20)
            await quiet()
            return info

        owner._js.add_consumer = add  # type: ignore[method-assign]
        began = time.monotonic()
        owner.take(world.type, {other: ""})
        await until(lambda: not owner._in_progress, 20)
        assert time.monotonic() - began < ACK_WITHIN
        assert not await world.in_hand()
    assert len(world.around.applied) == 1


async def test_a_partition_that_is_dropped_leaves_the_tells_to_the_others_alone(servers: Servers, world: World) -> None:
    place, other = (subjects.partition(world.type, id) for id in ("stuck", "a"))
    assert place != other
    await world.tell("stuck")
    async with world.life(servers) as owner:
        await until(lambda: world.around.trying == 1, 20)
        before = await world.stream.consumer_info(subjects.TELLS_STREAM, world.consumer)
        pulls = before.num_waiting
        owner.drop(world.type, other)
        await eventually(lambda: is_dropped(world, other))
        after = await world.stream.consumer_info(subjects.TELLS_STREAM, world.consumer)
        assert (after.created, after.num_waiting) == (before.created, pulls)
        await world.tell("a", b"of another")
        await world.tell("stuck", b"mine")
        world.around.free.set()
        await until(lambda: world.around.applied == [b"", b"mine"], 20)
        await until(lambda: not owner._in_progress, 20)
        assert not await world.in_hand()
        # What was stored under a subject that the consumer didn't read arrives all the same.
        owner.take(world.type, {other: ""})
        await until(lambda: world.around.applied == [b"", b"mine", b"of another"], 20)


async def test_partitions_that_are_taken_one_after_another_change_the_consumer_once(
    servers: Servers, world: World
) -> None:
    async with world.life(servers) as owner:
        await eventually(lambda: world.reads(0))
        for partition in range(5):
            owner.drop(world.type, partition)
        await eventually(lambda: is_dropped(world, 4))
        add_consumer, made = owner._js.add_consumer, 0

        async def add(*args: Any) -> Any:
            nonlocal made
            made += 1
            return await add_consumer(*args)

        owner._js.add_consumer = add  # type: ignore[method-assign]
        for partition in range(5):
            owner.take(world.type, {partition: ""})
            await asyncio.sleep(tells.GATHER_TAKEN / 10)
        await eventually(lambda: world.reads(4))
        assert await world.reads(0)
        assert made == 1


async def is_dropped(world: World, partition: int) -> bool:
    return not await world.reads(partition)


async def test_a_host_of_thousands_of_partitions_reads_all_of_their_tells_with_several_consumers(
    servers: Servers, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tells, "PARTITIONS_OF_ONE", 16)
    ids = [f"x{number}" for number in range(100)]
    async with world.life(servers) as owner:
        for id in ids:
            await world.tell(id, id.encode())
        await until(lambda: sorted(world.around.applied) == sorted(id.encode() for id in ids), 20)
        infos = await world.stream.consumers_info(subjects.TELLS_STREAM)
        mine = [len(each.config.filter_subjects or []) for each in infos if each.name.startswith(world.type)]
        assert mine == [16] * (subjects.PARTITIONS // 16)
        owner.drop(world.type, 17)
    infos = await world.stream.consumers_info(subjects.TELLS_STREAM)
    assert not [each for each in infos if each.name.startswith(world.type)]


async def test_a_consumer_that_nobody_deleted_holds_up_no_later_owner(servers: Servers, world: World) -> None:
    forgotten = ConsumerConfig(durable_name=f"{world.type}_gone", filter_subject=subjects.stored_tells(world.type, 7))
    await world.stream.add_consumer(subjects.TELLS_STREAM, forgotten)
    await world.tell("a", b"mine")
    async with world.life(servers):
        await until(lambda: world.around.applied == [b"mine"], 20)


async def test_an_owner_that_leaves_while_its_partitions_change_leaves_no_consumer(
    servers: Servers, world: World
) -> None:
    async with world.life(servers) as owner:
        await eventually(lambda: world.reads(0))
        add_consumer = owner._js.add_consumer

        async def add(*args: Any) -> Any:
            """Let the owner leave while the new consumer is made."""
            leaving.append(asyncio.create_task(owner.leave()))
            await quiet()
            added.append(await add_consumer(*args))
            return added[0]

        leaving: list[asyncio.Task[None]] = []
        added: list[Any] = []
        owner._js.add_consumer = add  # type: ignore[method-assign]
        owner.take(world.type, {0: ""})
        await until(lambda: added, 20)
        await asyncio.gather(*leaving)
        with pytest.raises(NotFoundError):
            await world.in_hand()


async def test_what_is_in_hand_is_bounded_in_bytes(
    servers: Servers, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tells, "MAX_BYTES_IN_HAND", 20_000)
    monkeypatch.setattr(tells, "PULL_BYTES", 10_000)
    for _ in range(100):
        await world.tell("stuck", bytes(1000))
    async with world.life(servers):
        await until(lambda: world.around.trying == 1, 20)
        # Longer than a request for the next tells takes.
        for _ in range(5):
            await asyncio.sleep(tells.CHECK_EVERY / 2)
            assert await world.in_hand() <= 30
        world.around.free.set()
        await until(lambda: len(world.around.applied) == 100, 20)


@pytest.mark.parametrize(
    ("leaves", "later", "suspected"),
    [(False, 0.0, True), (False, SHORT_LIFE + 60, False), (True, 0.0, False)],
    ids=["a short life", "a long one", "one that has left in peace"],
)
async def test_what_an_owner_has_left_is_suspect(
    servers: Servers, world: World, leaves: bool, later: float, suspected: bool
) -> None:
    await world.tell("stuck")
    async with world.life(servers, leaves=leaves):
        await until(lambda: world.around.trying == 1, 20)
    last = (await world.stream.stream_info(subjects.TELLS_STREAM)).state.last_seq
    connection = await connect(servers.nats_url("fleet"), "host")
    bucket = Bucket(connection, subjects.PLACEMENT_BUCKET)

    upto = await find_suspects(world.stream, world.consumer, SystemClock().now() + later)
    suspects = await load_crash_suspects(bucket, asyncio.Lock(), world.type, 7, upto)

    counted = []
    for sequence in (last, last + 1):
        async with suspects.attempt(sequence, f"{sequence}.0"):
            counted.append((await bucket.get(f"{world.type}.7.crashes"))[0])
    await connection.close()
    assert counted == [b'{"%d.0":1}' % last if suspected else None, b"{}" if suspected else None]


async def test_what_was_stored_before_the_server_mapped_tells_is_applied_first_and_in_order(
    servers: Servers, world: World
) -> None:
    config = (await world.stream.stream_info(subjects.TELLS_STREAM)).config
    seeded = config.evolve(
        subjects=[*(config.subjects or []), "seed.>"], subject_transform=SubjectTransform("seed.>", "tell.>")
    )
    await world.stream.update_stream(seeded)
    for number in range(3):
        headers = {"Authorization": "ada"}
        await world.stream.publish(f"seed.{world.type}.a.do", b"%d" % number, headers=headers)
        await world.stream.publish(f"seed.{world.type}.b{number}.do", b"b", headers=headers)
    await world.stream.update_stream(config)
    await world.tell("a", b"3")
    async with world.life(servers):
        await until(lambda: len(world.around.applied) == 7, 20)
    assert [payload for payload in world.around.applied if payload != b"b"] == [b"0", b"1", b"2", b"3"]
    left = (await world.stream.stream_info(subjects.TELLS_STREAM, subjects_filter=f"tell.{world.type}.>")).state
    assert not left.subjects


async def test_tells_move_with_their_partition_in_order_and_none_is_applied_twice(
    servers: Servers, world: World
) -> None:
    place, elsewhere = (subjects.partition(world.type, id) for id in ("a", "b"))
    for number in range(5):
        await world.tell("a", b"%d" % number)
    first, second = await connect(servers.nats_url("fleet"), "1"), await connect(servers.nats_url("fleet"), "2")
    around: Any = world.around
    owners = [Tells(each, f"host.{each.options['name']}", *[around] * 4) for each in (first, second)]
    following = [asyncio.create_task(owner.follow(world.type)) for owner in owners]
    try:
        owners[0].take(world.type, {place: "", elsewhere: ""})
        await until(lambda: len(world.around.applied) == 5 and not owners[0]._in_progress, 20)
        owners[0].drop(world.type, place)
        await world.tell("a", b"5")
        await world.tell("b", b"b")
        await until(lambda: b"b" in world.around.applied, 20)
        assert b"5" not in world.around.applied
        owners[1].take(world.type, {place: ""})
        await world.tell("a", b"6")
        await until(lambda: b"6" in world.around.applied, 20)
    finally:
        for task in following:
            task.cancel()
        for owner, connection in zip(owners, (first, second), strict=True):
            await owner.leave()
            await connection.close()
    assert world.around.applied == [b"0", b"1", b"2", b"3", b"4", b"b", b"5", b"6"]
