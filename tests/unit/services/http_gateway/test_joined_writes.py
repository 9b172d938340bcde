"""The writes of the gateway's connections, and their timing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.http_gateway.http import joined_writes
from services.http_gateway.http.joined_writes import JoinedWrites


class Recorder:
    """A transport that records its calls."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.unsent = 0

    def write(self, data: bytes) -> None:
        self.done.append(data)

    def write_eof(self) -> None:
        self.done.append("eof")

    def close(self) -> None:
        self.done.append("close")

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.done.append("abort")


async def test_what_is_written_in_one_round_of_the_loop_leaves_in_one_piece() -> None:
    recorder: Any = Recorder()
    joined = JoinedWrites(recorder)

    joined.write(b"head ")
    joined.write(b"body")
    await asyncio.sleep(0)
    joined.write(b"next")
    await asyncio.sleep(0)

    assert recorder.done == [b"head body", b"next"]


async def test_what_was_written_leaves_before_the_connection_closes() -> None:
    recorder: Any = Recorder()
    joined = JoinedWrites(recorder)

    joined.write(b"last")
    joined.close()
    await asyncio.sleep(0)

    assert recorder.done == [b"last", "close"]


async def test_what_was_written_leaves_before_the_end_of_the_response() -> None:
    recorder: Any = Recorder()
    joined = JoinedWrites(recorder)

    joined.write(b"last")
    joined.write_eof()
    await asyncio.sleep(0)

    assert recorder.done == [b"last", "eof"]


@pytest.mark.parametrize(("unsent", "end"), [(0, []), (5, ["abort"])])
async def test_a_closed_connection_waits_for_a_reader_only_so_long(
    monkeypatch: pytest.MonkeyPatch, unsent: int, end: list[str]
) -> None:
    monkeypatch.setattr(joined_writes, "LINGER", 0.0)
    recorder: Any = Recorder()
    recorder.unsent = unsent

    JoinedWrites(recorder).close()
    await asyncio.sleep(0.01)

    assert recorder.done == ["close", *end]
