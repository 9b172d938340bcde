"""Watches of a bucket on a real server: they miss no change, and notice a bucket that was made anew."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from nats.errors import Error as NatsError

from aidevos.durable.client.bucket import Bucket, Entry, RevisionConflict, RolledBack
from aidevos.durable.client.connection import Connection, connect
from aidevos.durable.hosting.provision import bucket_stream
from tests.support.kits import until
from tests.support.servers import Servers


@pytest.fixture
async def connection(servers: Servers) -> AsyncIterator[Connection]:
    connection = await connect(servers.nats_url("fleet"), "test")
    yield connection
    await connection.close()


@pytest.fixture
async def name(connection: Connection) -> AsyncIterator[str]:
    name = f"test_{secrets.token_hex(4)}"
    await connection.jetstream().add_stream(bucket_stream(name, 1))
    yield name
    await connection.jetstream().delete_key_value(name)


async def next_of(entries: Any) -> Entry | None:
    async with asyncio.timeout(10):
        return await anext(entries)  # type: ignore[no-any-return]


async def test_a_watch_shows_what_there_is_and_then_each_change(connection: Connection, name: str) -> None:
    bucket = Bucket(connection, name)
    first = await bucket.set("cat.1", b"a", 0)
    await bucket.put("dog.1", b"x")
    gone = await bucket.set("cat.2", b"b", 0)
    deleted = await bucket.delete("cat.2", gone)

    async with aclosing(bucket.watch(["cat.*"])) as entries:
        assert [await next_of(entries) for _ in range(3)] == [
            Entry("cat.1", b"a", first),
            Entry("cat.2", None, deleted),
            None,
        ]
        second = await bucket.set("cat.1", b"c", first)
        await bucket.put("dog.1", b"y")
        again = await bucket.set("cat.2", b"d", deleted, ttl=1)
        assert [await next_of(entries) for _ in range(2)] == [Entry("cat.1", b"c", second), Entry("cat.2", b"d", again)]
        expired = await next_of(entries)
        assert expired is not None
        assert (expired.key, expired.value) == ("cat.2", None)
    assert await bucket.get("cat.2") == (None, expired.revision)


async def test_an_empty_bucket_is_shown_as_empty(connection: Connection, name: str) -> None:
    async with aclosing(Bucket(connection, name).watch(["cat.*"])) as entries:
        assert await next_of(entries) is None


async def test_only_the_right_revision_is_replaced_or_deleted(connection: Connection, name: str) -> None:
    bucket = Bucket(connection, name)
    revision = await bucket.set("a", b"1", 0)
    with pytest.raises(RevisionConflict):
        await bucket.set("a", b"2", 0)
    with pytest.raises(RevisionConflict):
        await bucket.delete("a", revision + 1)
    assert await bucket.get("a") == (b"1", revision)
    await bucket.delete("a", revision, forget_after=1)
    await asyncio.sleep(0)
    assert (await bucket.get("a"))[0] is None


async def test_keys_are_set_together_or_not_at_all(connection: Connection, name: str) -> None:
    bucket = Bucket(connection, name)
    first = await bucket.set("cat.1", b"a", 0)
    written = await bucket.set_all(b"b", {"cat.1": first, "cat.2": 0, "cat.3": 0})
    for key, revision in written.items():
        assert await bucket.get(key) == (b"b", revision)
    assert await bucket.set_all(b"c", {"cat.4": 0}) == {"cat.4": written["cat.3"] + 1}
    with pytest.raises(RevisionConflict):
        await bucket.set_all(b"d", {"cat.2": written["cat.2"], "cat.3": first})
    assert await bucket.get("cat.2") == (b"b", written["cat.2"])


async def test_a_watch_ends_when_asked_and_with_an_error_after_a_reconnect(
    connection: Connection, name: str, servers: Servers
) -> None:
    bucket, ended = Bucket(connection, name), False
    watch = bucket.watch(["a"], until=lambda: ended)
    assert await next_of(watch) is None
    ended = True
    with pytest.raises(StopAsyncIteration):
        await next_of(watch)

    async with aclosing(bucket.watch(["a"])) as entries:
        assert await next_of(entries) is None
        servers.nats.stop()
        servers.nats.start()
        with pytest.raises(NatsError):
            await next_of(entries)


async def test_a_bucket_that_was_made_anew_is_noticed(connection: Connection, name: str) -> None:
    bucket = Bucket(connection, name)
    async with aclosing(bucket.watch(["a"])) as entries:
        await next_of(entries)
    await connection.jetstream().delete_key_value(name)
    await connection.jetstream().add_stream(bucket_stream(name, 1))

    with pytest.raises(RolledBack):
        await next_of(bucket.watch(["a"]))


async def test_a_watch_ends_when_its_bucket_is_made_anew_beside_it(connection: Connection, name: str) -> None:
    bucket = Bucket(connection, name)
    await bucket.put("a", b"1")
    async with aclosing(bucket.watch(["a"])) as entries:
        assert [await next_of(entries) for _ in range(2)][1] is None
        await connection.jetstream().delete_key_value(name)
        await connection.jetstream().add_stream(bucket_stream(name, 1))
        with pytest.raises(NatsError):
            await next_of(entries)
    with pytest.raises(RolledBack):
        await next_of(bucket.watch(["a"]))


async def test_a_subscription_whose_end_failed_is_not_taken_over_by_a_new_connection(
    connection: Connection, servers: Servers
) -> None:
    taken: list[bytes] = []
    name = f"test.{secrets.token_hex(4)}"
    subscription = await connection.hand_over(name, "", lambda *parts: taken.append(parts[0]))
    await connection.end(subscription, 0.0)
    servers.nats.stop()
    servers.nats.start()
    await until(lambda: connection.is_connected and connection.stats["reconnects"] > 0, 20)
    with pytest.raises(NatsError):
        await connection.request(name, b"", timeout=1)
    assert taken == []
    assert not connection._takers


async def test_a_subscription_whose_messages_are_handed_over_has_no_queue(connection: Connection) -> None:
    taken: list[bytes] = []
    name = f"test.{secrets.token_hex(4)}"

    subscription = await connection.hand_over(name, "", lambda *parts: taken.append(parts[2]))

    assert subscription._pending_queue is None
    await connection.publish(name, b"1")
    await connection.end(subscription, 5.0)
    assert taken == [b"1"]


async def test_a_bucket_without_its_last_entries_is_noticed(connection: Connection, name: str) -> None:
    bucket = Bucket(connection, name)
    async with aclosing(bucket.watch(["a"])) as entries:
        await next_of(entries)
    bucket._last = await bucket.set("a", b"1", 0) + 1

    with pytest.raises(RolledBack):
        await next_of(bucket.watch(["a"]))


async def test_a_write_during_the_comparison_is_no_loss(
    connection: Connection, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Bucket(connection, name)
    revision = await bucket.set("cat.1", b"a", 0)
    describe = bucket._js.stream_info

    async def describe_late(stream: str) -> Any:
        info = await describe(stream)
        await bucket.set("cat.1", b"b", revision)
        return info

    monkeypatch.setattr(bucket._js, "stream_info", describe_late)
    await bucket.compare_with_past()


async def test_a_flush_comes_after_everything_that_was_sent(connection: Connection) -> None:
    """nats-py lets a ping overtake the end of a subscription, so messages could be lost in between."""
    for _ in range(200):
        subscription = await connection.subscribe("test.flush")
        await connection.flush()
        await connection.publish("test.flush", b"")
        await connection.flush()
        assert subscription.pending_msgs == 1
        await subscription.unsubscribe()
        await connection.flush()


async def test_a_pong_that_nobody_waits_for_ends_nothing(connection: Connection) -> None:
    waiting = asyncio.get_running_loop().create_future()
    await connection._send_ping(waiting)
    waiting.cancel()
    await connection.flush()
    assert connection.is_connected
    await connection.flush()


async def test_a_watch_that_misses_a_change_ends_with_an_error(connection: Connection, name: str) -> None:
    bucket = Bucket(connection, name)
    async with aclosing(bucket.watch(["a"])) as entries:
        assert await next_of(entries) is None
        reader = connection._subs[max(connection._subs)]
        put, reader._cb = reader._cb, lose
        await bucket.put("a", b"1")
        await connection.flush()
        await asyncio.sleep(0)
        reader._cb = put
        with pytest.raises(NatsError):
            await next_of(entries)


async def test_a_watch_whose_reader_the_server_has_lost_ends_with_an_error(connection: Connection, name: str) -> None:
    bucket = Bucket(connection, name)
    async with aclosing(bucket.watch(["a"])) as entries:
        assert await next_of(entries) is None
        (reader,) = await connection.jetstream().consumers_info(f"KV_{name}")
        await connection.jetstream().delete_consumer(f"KV_{name}", reader.name)
        with pytest.raises(NatsError):
            await next_of(entries)


async def lose(message: Any) -> None:
    """Lose a message."""
