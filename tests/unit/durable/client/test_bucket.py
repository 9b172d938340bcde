"""The keys of a bucket, when nats-py lists none by mistake."""

from __future__ import annotations

from typing import Any

from nats.js.errors import NoKeysError

from aidevos.durable.client.bucket import Bucket


class Hasty:
    """A connection whose one bucket lists nothing at first."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    def jetstream(self, **options: Any) -> Hasty:
        return self

    async def key_value(self, name: str) -> Hasty:
        return self

    async def keys(self) -> list[str]:
        self.failures -= 1
        if self.failures >= 0:
            raise NoKeysError
        return ["counter.1", "chat.1"]


async def test_keys_that_were_overlooked_once_are_listed() -> None:
    connection: Any = Hasty(failures=1)

    assert await Bucket(connection, "hosts").keys("counter.") == ["counter.1"]


async def test_an_empty_bucket_has_no_keys() -> None:
    connection: Any = Hasty(failures=100)

    assert await Bucket(connection, "hosts").keys("") == []
