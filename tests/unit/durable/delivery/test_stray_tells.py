"""Tells to unknown types, when the list of types can't be read."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from nats.js.errors import NoKeysError, NotFoundError

from aidevos.durable.delivery.stray_tells import bury_strays
from tests.support.kits import quiet


class Server:
    """A server with one tell; `keys` lists the types, and None makes the listing fail."""

    def __init__(self, keys: list[str] | None) -> None:
        self._keys = keys
        self.asked: list[str] = []

    def jetstream(self) -> Server:
        return self

    async def key_value(self, name: str) -> Server:
        return self

    async def keys(self) -> list[str]:
        if self._keys is None:
            raise NoKeysError
        return self._keys

    async def stream_info(self, name: str, subjects_filter: str) -> Any:
        return SimpleNamespace(state=SimpleNamespace(subjects={"tell.counter.a.increment": 1}))

    async def get_msg(self, stream: str, subject: str, **options: Any) -> Any:
        self.asked.append(subject)
        raise NotFoundError


@pytest.mark.parametrize(
    ("keys", "asked"),
    [(None, []), (["counter", "dead_letter"], []), (["dead_letter"], ["tell.counter.a.increment"])],
    ids=["not seen", "known", "unknown"],
)
async def test_a_tell_is_a_stray_only_where_the_types_were_seen(keys: list[str] | None, asked: list[str]) -> None:
    server: Any = Server(keys)
    burying = asyncio.create_task(bury_strays(server, server))
    await quiet()
    burying.cancel()
    await asyncio.gather(burying, return_exceptions=True)
    assert server.asked == asked
