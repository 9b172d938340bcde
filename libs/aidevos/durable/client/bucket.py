"""A NATS key-value bucket with compare-and-set and a time to live per key."""

from __future__ import annotations

from contextlib import suppress

from nats.aio.client import Client
from nats.js.errors import APIError, NoKeysError, NotFoundError
from nats.js.kv import KV_OP, KeyValue

from aidevos.durable.bus.jetstream import WRONG_LAST_SEQUENCE

TIMEOUT = 1.0
# nats-py sees no key if the messages are faster than the answer about their consumer. That is rare.
LISTINGS = 3


class RevisionConflict(Exception):
    """Raised when a key's revision isn't the one that the caller expected."""


class Bucket:
    """One key-value bucket. Every call may raise an error of nats-py."""

    def __init__(self, connection: Client, name: str) -> None:
        self._js = connection.jetstream(timeout=TIMEOUT)
        self._name = name
        self._bucket: KeyValue | None = None

    async def get(self, key: str) -> tuple[bytes | None, int]:
        """Return the value and the revision of a key. The value is None if the key doesn't exist.

        The leader of the bucket's replicas answers, because another one may not know the last writes yet. A leader that
        was just cut off from the others may not know them either, so only `set` and `delete` with a revision decide.
        """
        try:
            found = await self._js.get_last_msg(f"KV_{self._name}", f"$KV.{self._name}.{key}", direct=False)
        except NotFoundError:
            return None, 0
        is_removed = KV_OP in (found.headers or {})
        return None if is_removed else found.data or None, found.seq or 0

    async def set(self, key: str, value: bytes, revision: int, ttl: int | None = None) -> int:
        """Set a key if it has this revision (0 if it never existed). Return the new revision.

        `ttl` is in seconds; without one, the key doesn't expire. Raises `RevisionConflict`.
        """
        headers = {"Nats-Expected-Last-Subject-Sequence": str(revision)}
        try:
            ack = await self._js.publish(f"$KV.{self._name}.{key}", value, headers=headers, msg_ttl=ttl)
        except APIError as error:
            if error.err_code in WRONG_LAST_SEQUENCE:
                raise RevisionConflict from None
            raise
        return ack.seq

    async def put(self, key: str, value: bytes) -> None:
        """Set a key, whatever its revision is."""
        await (await self._open()).put(key, value)

    async def delete(self, key: str, revision: int | None = None) -> None:
        """Delete a key, or delete it only if it has this revision."""
        await (await self._open()).delete(key, last=revision)

    async def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with a prefix."""
        bucket = await self._open()
        for _ in range(LISTINGS):
            with suppress(NoKeysError):
                return [key for key in await bucket.keys() if key.startswith(prefix)]
        return []

    async def _open(self) -> KeyValue:
        if self._bucket is None:
            self._bucket = await self._js.key_value(self._name)
        return self._bucket
