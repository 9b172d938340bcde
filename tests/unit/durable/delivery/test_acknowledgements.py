"""A tell counts as acknowledged once the server has confirmed it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from nats.errors import NoRespondersError

from aidevos.durable.delivery import acknowledgements
from aidevos.durable.delivery.acknowledgements import Acknowledgements
from tests.support.kits import quiet


class Connection:
    """Keeps what is published, with its reply subjects."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []
        self.subscribed: list[str] = []
        self.take: Callable[[bytes, bytes, bytes, bytes], None]

    def new_inbox(self) -> str:
        return "_INBOX.a"

    async def hand_over(self, subject: str, queue: str, take: Callable[..., None]) -> None:
        self.subscribed.append(subject)
        self.take = take

    async def publish(self, subject: str, payload: bytes, reply: str) -> None:
        assert payload == b"+ACK"
        self.published.append((subject, reply.encode()))


@pytest.fixture
def connection() -> Any:
    return Connection()


async def test_each_waits_for_its_own_confirmation_at_one_inbox(connection: Any) -> None:
    sender = Acknowledgements(connection)
    sending = {subject: asyncio.ensure_future(sender.send(subject)) for subject in ("first", "second")}
    await quiet()
    assert connection.subscribed == ["_INBOX.a.*"]
    replies = dict(connection.published)
    connection.take(replies["second"], b"", b"", b"")
    await sending["second"]
    assert not sending["first"].done()
    connection.take(replies["first"], b"", b"", b"")
    await sending["first"]


async def test_one_that_no_consumer_takes_fails_at_once(connection: Any) -> None:
    sending = asyncio.ensure_future(Acknowledgements(connection).send("first"))
    await quiet()
    connection.take(connection.published[0][1], b"", b"", b"NATS/1.0 503\r\n\r\n")
    with pytest.raises(NoRespondersError):
        await sending


async def test_one_without_a_confirmation_fails_in_time_and_a_late_one_is_ignored(
    connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acknowledgements, "ACK_WITHIN", 0.01)
    sender = Acknowledgements(connection)
    with pytest.raises(TimeoutError):
        await sender.send("first")
    connection.take(connection.published[0][1], b"", b"", b"")
    again = asyncio.ensure_future(sender.send("first"))
    await quiet()
    assert not again.done()
    connection.take(connection.published[1][1], b"", b"", b"")
    await again
