"""The writes of the gateway's connections, and their timing."""

from __future__ import annotations

import asyncio
from typing import Any

from services.http_gateway.http.joined_writes import JoinedWrites


class Recorder:
    """A transport that records its calls."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def write(self, data: bytes) -> None:
        self.done.append(data)

    def close(self) -> None:
        self.done.append("close")


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
