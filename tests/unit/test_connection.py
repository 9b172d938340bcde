"""The headers of a connection, held against nats-py's own."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from aidevos.contracts import envelope
from aidevos.durable.connection import Connection

NAMES = st.sampled_from([*sorted(envelope.HEADERS), "Another", "Nats-TTL"])
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


async def sent(client: Client, headers: dict[str, str]) -> bytes:
    """What a publish with these headers puts on the wire."""
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
    """Without the names that nats-py drops because they are none."""
    return {name: value for name, value in headers.items() if name.isascii() and not any(map(str.isspace, name))}


@given(st.lists(st.one_of(st.binary(max_size=40), st.tuples(NAMES, VALUES).map(": ".join).map(str.encode))))
def test_headers_are_read_as_nats_py_reads_them(lines: list[bytes]) -> None:
    raw: Any = b"".join(line + b"\r\n" for line in lines) + b"\r\n"

    assert readable(Connection._parse_header_lines(raw)) == readable(Client._parse_header_lines(raw))
