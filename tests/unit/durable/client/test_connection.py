"""The headers of a connection, compared with nats-py's own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import ConnectionClosedError, OutboundBufferLimitError

from aidevos.contracts import envelope
from aidevos.durable.client.connection import AT_ONCE, Connection, encode_message
from aidevos.durable.hosting.replies import ReplySender
from aidevos.durable.turns.headers import Reply
from tests.bench.guard import wire
from tests.support.kits import until

NAMES = st.sampled_from([*sorted(envelope.HEADERS), "Another", "Nats-TTL"])
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


async def sent(client: Client, headers: dict[str, str]) -> bytes:
    """Return the bytes that a publish with these headers puts on the wire."""
    commands: list[bytes] = []

    async def keep(cmd: bytes, priority: bool = False) -> None:
        commands.append(cmd)

    client._send_command = keep  # type: ignore[method-assign]
    await client._send_publish("do.counter.a.value", "_INBOX.a", b"{}", 2, headers)
    return b"".join(commands)


@given(st.dictionaries(NAMES, VALUES.map(str.strip), max_size=5))
async def test_headers_are_on_the_wire_as_nats_py_writes_them(headers: dict[str, str]) -> None:
    assert await sent(Connection(), headers) == await sent(Client(), headers)


@pytest.mark.parametrize("value", ["a\r\nDeadline: 1", "a\nDeadline: 1", "a\r", "\r\n\r\n"])
async def test_a_value_with_a_line_break_makes_no_other_header(value: str) -> None:
    command = await sent(Connection(), {envelope.REQUEST_ID: value})

    assert command == await sent(Client(), {envelope.REQUEST_ID: value})
    assert b"\nDeadline" not in command


def readable(headers: dict[str, str]) -> dict[str, str]:
    """Return the headers without the invalid names that nats-py drops."""
    return {name: value for name, value in headers.items() if name.isascii() and not any(map(str.isspace, name))}


@given(st.lists(st.one_of(st.binary(max_size=40), st.tuples(NAMES, VALUES).map(": ".join).map(str.encode))))
def test_headers_are_read_as_nats_py_reads_them(lines: list[bytes]) -> None:
    raw: Any = b"".join(line + b"\r\n" for line in lines) + b"\r\n"

    assert readable(Connection._parse_header_lines(raw)) == readable(Client._parse_header_lines(raw))


@given(st.binary(max_size=20), st.binary(max_size=20).filter(lambda made: not {*b" \t\r\n"} & {*made}))
@example(b" \xff\xfe\xfd\r\n", b"\xff")
@example(b"\r\n\r\n", b"\v2")
@example(b"\r\n\r\n", b"a\fb")
async def test_nothing_that_was_published_ends_the_reading_or_gets_elsewhere(block: bytes, token: bytes) -> None:
    connection, got = Connection(), []

    async def take(message: Msg) -> None:
        got.append((message.subject, message.reply, message.data))

    for number in (1, 2):
        connection._subs[number] = Subscription(connection, number, cb=take)
    connection._subs[1]._start(None)  # type: ignore[no-untyped-call]
    head, text = b"NATS/1.0" + block, token.decode(errors="replace")
    sizes = b"%d %d" % (len(head), len(head) + 2)
    await connection._ps.parse(b"HMSG do.a%s 1 _INBOX.%s %s\r\n%shi\r\n" % (token, token, sizes, head))
    await connection._ps.parse(b"MSG do.a%s 1 3\r\nyes\r\n" % token)
    await until(lambda: len(got) == 2)
    connection._subs[1]._stop_processing()  # type: ignore[no-untyped-call]

    assert got == [(f"do.a{text}", f"_INBOX.{text}", b"hi"), (f"do.a{text}", "", b"yes")]


class Taker:
    """A connection whose subscription 7 is handed over, and what it was given."""

    def __init__(self) -> None:
        self.connection = Connection()
        self.taken: list[tuple[bytes, ...]] = []
        self.subscription = Subscription(self.connection, 7, "a")
        self.connection._subs = {7: self.subscription, 8: Subscription(self.connection, 8, "b")}
        self.connection._takers[7] = lambda *parts: self.taken.append(parts)


MESSAGES = st.lists(
    st.tuples(st.sampled_from([7, 8]), st.sampled_from([b"", b"_INBOX.r"]), st.binary(max_size=30), st.booleans()),
    max_size=8,
)


@given(MESSAGES, st.lists(st.integers(1, 40), min_size=1, max_size=5))
async def test_messages_are_handed_over_whole_however_they_arrive(
    messages: list[tuple[int, bytes, bytes, bool]], sizes: list[int]
) -> None:
    taker = Taker()
    block = b"NATS/1.0\r\nDeadline: 5\r\n\r\n"
    wire = b""
    for sid, reply, data, has_headers in messages:
        headers = block if has_headers else b""
        verb, lengths = (b"HMSG", b"%d " % len(headers)) if has_headers else (b"MSG", b"")
        words = [verb, b"s", b"%d" % sid, *([reply] if reply else []), lengths + b"%d" % (len(headers) + len(data))]
        wire += b" ".join(words) + b"\r\n" + headers + data + b"\r\nPING\r\n"[: 2 if data else 8]
    taker.connection._process_ping = _ignore_ping  # type: ignore[method-assign]

    at = 0
    while at < len(wire):
        size = sizes[at % len(sizes)]
        await taker.connection._ps.parse(wire[at : at + size])
        at += size

    expected = [(b"s", reply, data, block if flag else b"") for sid, reply, data, flag in messages if sid == 7]
    assert taker.taken == expected
    queue = taker.connection._subs[8]._pending_queue
    queued = [queue.get_nowait().data for _ in range(queue.qsize())]
    assert queued == [data for sid, _, data, _ in messages if sid == 8]


@given(MESSAGES, st.lists(st.integers(1, 40), min_size=1, max_size=5), st.lists(st.booleans(), min_size=1, max_size=5))
async def test_messages_that_a_socket_delivers_are_handed_over_whole_and_the_others_keep_their_order(
    messages: list[tuple[int, bytes, bytes, bool]], sizes: list[int], turns: list[bool]
) -> None:
    taker, reader = Taker(), asyncio.StreamReader()
    taker.connection._ps.read_from(reader)
    wire = b"".join(
        b"MSG s %d %s%d\r\n%s\r\n" % (sid, reply and reply + b" ", len(data), data) for sid, reply, data, _ in messages
    )

    async def read_on() -> None:
        if reader._buffer:  # type: ignore[attr-defined]
            await taker.connection._ps.parse(await reader.read(1000))

    at = 0
    while at < len(wire):
        size = sizes[at % len(sizes)]
        reader.feed_data(wire[at : at + size])
        at += size
        if turns[at % len(turns)]:
            await read_on()
    await read_on()

    assert taker.taken == [(b"s", reply, data, b"") for sid, reply, data, _ in messages if sid == 7]
    queue = taker.connection._subs[8]._pending_queue
    queued = [queue.get_nowait().data for _ in range(queue.qsize())]
    assert queued == [data for sid, _, data, _ in messages if sid == 8]


def test_a_message_is_handed_over_as_soon_as_the_socket_has_it() -> None:
    taker, reader = Taker(), asyncio.StreamReader(loop=asyncio.new_event_loop())
    taker.connection._ps.read_from(reader)

    reader.feed_data(b"MSG s 7 2\r\nhi\r\n")

    assert taker.taken == [(b"s", b"", b"hi", b"")]
    assert not reader._buffer  # type: ignore[attr-defined]


async def _ignore_ping() -> None: ...


async def test_a_message_that_is_handed_over_opens_with_its_headers() -> None:
    message = Connection().open_message(b"s", b"r", b"x", b"NATS/1.0\r\nDeadline: 5\r\n\r\n")

    assert (message.subject, message.reply, message.data, message.headers) == ("s", "r", b"x", {"Deadline": "5"})


@pytest.mark.parametrize("headers", [{envelope.ERROR_CODE: "503"}, None], ids=["headers", "none"])
async def test_a_posted_message_is_on_the_wire_as_a_published_one(headers: dict[str, str] | None) -> None:
    connection = Connection()
    connection._max_pending_size = 1024

    if headers:
        connection.post(b"_INBOX.a", encode_message(b"{}", headers))
    else:
        connection.post_payload(b"_INBOX.a", b"{}")

    client = Client()
    commands: list[bytes] = []

    async def keep(cmd: bytes, priority: bool = False) -> None:
        commands.append(cmd)

    client._send_command = keep  # type: ignore[method-assign]
    await client._send_publish("_INBOX.a", "", b"{}", 2, headers)
    assert b"".join(connection._pending).split() == b"".join(commands).split()


async def test_messages_posted_in_one_turn_of_the_loop_are_sent_a_few_at_a_time() -> None:
    writes: list[bytes] = []
    connection, _ = wire.connect(writes.append)

    for _ in range(2 * AT_ONCE + 1):
        connection.post_payload(b"_INBOX.a", b"1")

    assert [write.count(b"PUB") for write in writes] == [AT_ONCE, AT_ONCE]
    await until(lambda: len(writes) == 3)
    assert writes[2].count(b"PUB") == 1


async def test_what_is_posted_to_a_transport_that_closes_waits_for_the_next_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As uvloop does, which closes a transport before nats-py knows of it."""
    writes: list[bytes] = []
    connection, transport = wire.connect(writes.append)
    replies = ReplySender(connection)

    def refuse(data: bytes) -> None:
        raise RuntimeError("the handler is closed")

    with monkeypatch.context() as closing:
        closing.setattr(transport, "is_closing", lambda: True)
        closing.setattr(transport, "write", refuse)
        for _ in range(2 * AT_ONCE):
            replies.send("_INBOX.a", Reply(b"1"))
        await replies.flush()
    replies.send("_INBOX.a", Reply(b"2"))

    await until(lambda: b"".join(writes).count(b"PUB") == 2 * AT_ONCE + 1)


async def test_an_answer_that_cannot_be_sent_keeps_no_other_back(monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []
    connection, _ = wire.connect(writes.append)
    replies, errors = ReplySender(connection), list[Any]()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))

    def fail_once(subject: bytes, payload: bytes) -> None:
        monkeypatch.undo()
        raise RuntimeError("a bug")

    monkeypatch.setattr(connection, "post_payload", fail_once)
    for number in range(3):
        replies.send("_INBOX.a", Reply(b"%d" % number))

    await until(lambda: b"".join(writes).count(b"PUB") == 2)
    assert len(errors) == 1


async def test_what_is_posted_over_a_lost_connection_is_kept_up_to_a_bound_and_never_over_a_closed_one() -> None:
    connection = Connection()
    connection._max_pending_size = 60
    for _ in range(2):
        connection.post_payload(b"_INBOX.a", b"12345")
    with pytest.raises(OutboundBufferLimitError):
        connection.post_payload(b"_INBOX.a", b"x" * 60)
    assert len(connection._pending) == 2

    connection._status = Client.CLOSED
    with pytest.raises(ConnectionClosedError):
        connection.post_payload(b"_INBOX.a", b"12345")
