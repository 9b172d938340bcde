"""What the simulation assumes of NATS: each assumption is checked against the simulated server and the real one."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, NamedTuple

import msgspec
import pytest
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig
from nats.js.errors import BadRequestError

from aidevos.contracts import subjects
from aidevos.durable.bus.jetstream import WRONG_LAST_SEQUENCE
from aidevos.durable.client.bucket import Bucket, Entry, RevisionConflict
from aidevos.durable.client.connection import Connection, connect
from aidevos.durable.hosting.provision import bucket_stream, events_stream, tells_stream
from aidevos.settings import load
from aidevos.testing.simulation.connection import MAX_PAYLOAD
from aidevos.testing.simulation.fleet import Fleet, Node
from aidevos.testing.simulation.loop import new_loop
from tests.support.servers import Servers

# Seconds within which an answer comes, and after which none will.
WITHIN, LATE = 10.0, 0.5


class Nats(NamedTuple):
    """A server, and a name that nobody else uses on it."""

    connect: Callable[[], Awaitable[Connection]]
    add_stream: Callable[[StreamConfig], Awaitable[None]]
    name: str


Contract = Callable[[Nats], Awaitable[None]]
Run = Callable[[Contract], None]


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.servers)])
def run(request: pytest.FixtureRequest) -> Run:
    """Return what runs a contract against a server."""
    if request.param == "simulated":
        return _run_simulated
    servers: Servers = request.getfixturevalue("servers")
    return lambda contract: asyncio.run(_run_real(contract, servers))


def _run_simulated(contract: Contract) -> None:
    rng = random.Random(1)
    loop = new_loop(rng)

    async def main() -> None:
        fleet = Fleet(loop, rng, [], subjects.PARTITIONS, load())
        node = Node(fleet, "one")

        async def add_stream(config: StreamConfig) -> None:
            fleet.nats.jetstream.add_stream(config.as_dict())

        await node.start_process().start(contract(Nats(node.connect, add_stream, "test")))  # type: ignore[arg-type]

    loop.run_until_complete(main())


async def _run_real(contract: Contract, servers: Servers) -> None:
    connections: list[Connection] = []
    streams: list[str] = []

    async def open_connection() -> Connection:
        connections.append(await connect(servers.nats_url("fleet"), "contract"))
        return connections[-1]

    async def add_stream(config: StreamConfig) -> None:
        await connections[0].jetstream().add_stream(config)
        streams.append(config.name or "")

    await open_connection()
    try:
        await contract(Nats(open_connection, add_stream, f"test_{secrets.token_hex(4)}"))
    finally:
        for name in streams:
            await connections[0].jetstream().delete_stream(name)
        for connection in connections:
            await connection.close()


def test_messages_of_one_connection_keep_their_order(run: Run) -> None:
    async def contract(nats: Nats) -> None:
        sender, receiver = await nats.connect(), await nats.connect()
        found = await receiver.subscribe(f"{nats.name}.*")
        await receiver.flush()
        for number in range(50):
            await sender.publish(f"{nats.name}.{number % 3}", b"%d" % number)
        assert [int((await found.next_msg(WITHIN)).data) for _ in range(50)] == list(range(50))

    run(contract)


def test_one_member_of_a_queue_group_gets_each_message(run: Run) -> None:
    async def contract(nats: Nats) -> None:
        sender, receiver = await nats.connect(), await nats.connect()
        seen: list[tuple[str, bytes]] = []

        def note(member: str) -> Callable[[Msg], Awaitable[None]]:
            async def take(message: Msg) -> None:
                seen.append((member, message.data))

            return take

        for member in "ab":
            await receiver.subscribe(nats.name, queue="group", cb=note(member))
        last = await receiver.subscribe(nats.name)
        await receiver.flush()
        for number in range(40):
            await sender.publish(nats.name, b"%d" % number)
        for _ in range(40):
            await last.next_msg(WITHIN)
        await receiver.flush()
        assert sorted(int(data) for _, data in seen) == list(range(40))
        assert {member for member, _ in seen} == {"a", "b"}

    run(contract)


def test_a_request_that_nobody_takes_is_answered_at_once(run: Run) -> None:
    async def contract(nats: Nats) -> None:
        connection = await nats.connect()
        with pytest.raises(NoRespondersError):
            await connection.request(nats.name, b"", timeout=WITHIN)

    run(contract)


def test_nothing_arrives_after_the_end_of_a_subscription_and_a_round_trip(run: Run) -> None:
    async def contract(nats: Nats) -> None:
        sender, receiver = await nats.connect(), await nats.connect()
        taken: list[bytes] = []
        subscription = await receiver.hand_over(nats.name, "", lambda *message: taken.append(message[2]))
        await receiver.flush()
        await sender.publish(nats.name, b"before")
        await sender.flush()
        await receiver.end(subscription, WITHIN)
        with pytest.raises(NoRespondersError):
            await sender.request(nats.name, b"after", timeout=WITHIN)
        assert taken == [b"before"]

    run(contract)


def test_calls_are_mapped_to_the_partition_of_their_object(run: Run) -> None:
    async def contract(nats: Nats) -> None:
        connection = await nats.connect()
        found = await connection.subscribe(f"dop.*.{nats.name}.>")
        for id in ("a", "b", "c"):
            await connection.publish(subjects.call(nats.name, id, "read"))
            partition = subjects.partition(nats.name, id)
            assert (await found.next_msg(WITHIN)).subject == f"dop.{partition}.{nats.name}.{id}.read"

    run(contract)


def test_a_key_is_set_and_deleted_at_its_revision_only(run: Run) -> None:
    async def contract(nats: Nats) -> None:
        bucket = await _open_bucket(nats)
        first = await bucket.set("a.1", b"x", 0)
        for stale in (0, first + 1):
            with pytest.raises(RevisionConflict):
                await bucket.set("a.1", b"y", stale)
        second = await bucket.set("a.1", b"y", first)
        with pytest.raises(RevisionConflict):
            await bucket.delete("a.1", first)
        deleted = await bucket.delete("a.1", second)
        assert await bucket.get("a.1") == (None, 0) or (await bucket.get("a.1"))[0] is None
        assert await bucket.set("a.1", b"z", deleted) > deleted
        assert (await bucket.get("a.1"))[0] == b"z"

    run(contract)


def test_a_watch_shows_last_entries_then_changes_and_expiries(run: Run) -> None:
    async def contract(nats: Nats) -> None:
        bucket = await _open_bucket(nats)
        first = await bucket.set("a.1", b"x", 0)
        await bucket.put("b.1", b"other")
        async with aclosing(bucket.watch(["a.*"])) as entries:
            assert [await anext(entries), await anext(entries)] == [Entry("a.1", b"x", first), None]
            second = await bucket.set("a.1", b"y", first, ttl=1)
            assert await anext(entries) == Entry("a.1", b"y", second)
            async with asyncio.timeout(WITHIN):
                expired = await anext(entries)
            assert expired is not None
            assert (expired.key, expired.value) == ("a.1", None)
            assert expired.revision > second
            with pytest.raises(RevisionConflict):
                await bucket.set("a.1", b"z", second)
            assert await bucket.set("a.1", b"z", expired.revision) > expired.revision

    run(contract)


def test_a_renewed_key_lives_on(run: Run) -> None:
    async def contract(nats: Nats) -> None:
        bucket = await _open_bucket(nats)
        revision = 0
        for _ in range(5):
            revision = await bucket.set("a.1", b"x", revision, ttl=1)
            await asyncio.sleep(0.4)
        assert await bucket.get("a.1") == (b"x", revision)

    run(contract)


def test_a_message_id_is_stored_once(run: Run) -> None:
    async def contract(nats: Nats) -> None:
        js = await _open_events(nats)
        headers = {"Nats-Msg-Id": "one"}
        first, second = [await js.publish(f"{nats.name}.a", b"", headers=dict(headers)) for _ in range(2)]
        assert (first.duplicate, second.duplicate, second.seq) == (None, True, first.seq)

    run(contract)


def test_an_event_is_stored_only_after_the_expected_one_of_its_object(run: Run) -> None:
    async def contract(nats: Nats) -> None:
        js = await _open_events(nats)
        one, other = f"{nats.name}.one", f"{nats.name}.other"
        first = await js.publish(f"{one}.a", b"", headers=_after(one, 0))
        await js.publish(f"{other}.a", b"", headers=_after(other, 0))
        with pytest.raises(BadRequestError) as refused:
            await js.publish(f"{one}.b", b"", headers=_after(one, 0))
        assert refused.value.err_code in WRONG_LAST_SEQUENCE
        second = await js.publish(f"{one}.b", b"", headers=_after(one, first.seq))
        assert second.seq > first.seq

    run(contract)


def test_a_batch_is_stored_whole_or_not_at_all(run: Run) -> None:
    async def contract(nats: Nats) -> None:
        js = await _open_events(nats)
        connection = js._nc
        scopes = [f"{nats.name}.{letter}" for letter in "abc"]

        async def publish(batch: str, expected: int) -> Any:
            for number, scope in enumerate(scopes, 1):
                headers = _after(scope, expected if number == 2 else 0)
                headers |= {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
                if number < len(scopes):
                    await connection.publish(f"{scope}.x", b"", headers=headers)
            return await js.publish(f"{scope}.x", b"", headers=headers | {"Nats-Batch-Commit": "1"})

        with pytest.raises(BadRequestError):
            await publish("bad", 7)
        assert (await js.stream_info(nats.name)).state.messages == 0
        acknowledged = await publish("good", 0)
        assert (acknowledged.batch_size, acknowledged.seq) == (3, 3)

    run(contract)


def test_a_tell_stays_until_a_consumer_that_has_delivered_it_gets_its_acknowledgement(run: Run) -> None:
    async def contract(nats: Nats) -> None:
        js = await _open_queue(nats)
        for number in range(3):
            await js.publish(f"{nats.name}.1.{number}", b"%d" % number)
        first = await _pull(nats, js, "one")
        assert [message.data for message in first] == [b"0", b"1", b"2"]
        assert [message.metadata.sequence.consumer for message in first] == [1, 2, 3]
        await js._nc.request(first[1].reply, b"+ACK", timeout=WITHIN)

        await js.delete_consumer(nats.name, "one")
        assert [message.data for message in await _pull(nats, js, "two")] == [b"0", b"2"]

    run(contract)


def test_a_consumer_answers_no_acknowledgement_of_a_tell_that_it_has_not_delivered(run: Run) -> None:
    async def contract(nats: Nats) -> None:
        js = await _open_queue(nats)
        await js.publish(f"{nats.name}.1.a", b"1")
        (first,) = await _pull(nats, js, "one")
        await js.delete_consumer(nats.name, "one")
        await _add_consumer(nats, js, "one", ">")
        with pytest.raises(NatsTimeout):
            await js._nc.request(first.reply, b"+ACK", timeout=LATE)
        (again,) = await _pull(nats, js, "one")
        assert again.data == b"1"
        for _ in range(2):
            await js._nc.request(first.reply, b"+ACK", timeout=WITHIN)
        assert not (await js.stream_info(nats.name)).state.messages

    run(contract)


def test_two_consumers_of_the_same_tells_are_refused(run: Run) -> None:
    async def contract(nats: Nats) -> None:
        js = await _open_queue(nats)
        await _add_consumer(nats, js, "one", "1.>")
        with pytest.raises(BadRequestError) as refused:
            await _add_consumer(nats, js, "two", "1.>", "2.>")
        assert refused.value.err_code == 10100
        await _add_consumer(nats, js, "two", "2.>")

    run(contract)


def test_a_consumer_that_is_narrowed_keeps_its_place(run: Run) -> None:
    async def contract(nats: Nats) -> None:
        js = await _open_queue(nats)
        await js.publish(f"{nats.name}.1.a", b"1")
        await js.publish(f"{nats.name}.2.a", b"2")
        assert [message.data for message in await _pull(nats, js, "one", count=1)] == [b"1"]
        await _add_consumer(nats, js, "one", "1.>")
        await js.publish(f"{nats.name}.1.b", b"3")
        assert [message.data for message in await _pull(nats, js, "one", adds=False, count=1)] == [b"3"]

    run(contract)


def test_an_open_pull_learns_that_its_consumer_was_deleted(run: Run) -> None:
    async def contract(nats: Nats) -> None:
        js = await _open_queue(nats)
        await _add_consumer(nats, js, "one", ">")
        connection = js._nc
        inbox = connection.new_inbox()
        found = await connection.subscribe(inbox)
        await connection.publish(_next(nats, "one"), msgspec.json.encode({"batch": 1, "expires": int(5e9)}), inbox)
        await connection.flush()
        await js.delete_consumer(nats.name, "one")
        headers = (await found.next_msg(WITHIN)).headers or {}
        assert (headers["Status"], "Deleted" in headers["Description"]) == ("409", True)
        await connection.publish(_next(nats, "one"), b"", inbox)
        assert ((await found.next_msg(WITHIN)).headers or {})["Status"] == "503"

    run(contract)


async def _open_bucket(nats: Nats) -> Bucket:
    await nats.add_stream(bucket_stream(nats.name, 1))
    return Bucket(await nats.connect(), nats.name)


async def _open_events(nats: Nats) -> Any:
    await nats.add_stream(events_stream(load()).evolve(name=nats.name, subjects=[f"{nats.name}.>"]))
    return (await nats.connect()).jetstream()


async def _open_queue(nats: Nats) -> Any:
    config = tells_stream(load(), MAX_PAYLOAD).evolve(name=nats.name, subjects=[f"{nats.name}.>"])
    await nats.add_stream(config)
    return (await nats.connect()).jetstream()


async def _add_consumer(nats: Nats, js: Any, name: str, *filters: str) -> None:
    config = ConsumerConfig(
        durable_name=name,
        filter_subjects=[f"{nats.name}.{each}" for each in filters],
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=3600.0,
        max_ack_pending=100,
    )
    await js.add_consumer(nats.name, config)


async def _pull(nats: Nats, js: Any, consumer: str, *, adds: bool = True, count: int = 10) -> list[Msg]:
    """Pull what the consumer has to deliver, which it is made for."""
    if adds:
        await _add_consumer(nats, js, consumer, ">")
    inbox = js._nc.new_inbox()
    found = await js._nc.subscribe(inbox)
    pull = msgspec.json.encode({"batch": count, "expires": int(1e9)})
    await js._nc.publish(_next(nats, consumer), pull, inbox)
    messages: list[Msg] = []
    while len(messages) < count and (message := await found.next_msg(WITHIN)).reply:
        messages.append(message)
    return messages


def _next(nats: Nats, consumer: str) -> str:
    return f"$JS.API.CONSUMER.MSG.NEXT.{nats.name}.{consumer}"


def _after(scope: str, sequence: int) -> dict[str, str]:
    return {
        "Nats-Expected-Last-Subject-Sequence": str(sequence),
        "Nats-Expected-Last-Subject-Sequence-Subject": f"{scope}.>",
    }
