"""A NATS key-value bucket with compare-and-set, a time to live per key, and watches.

Promise: a watch misses no change. It ends with an error when the connection was lost, and then must be started again.
It also notices a bucket that was made anew or has lost its last entries, as after a restored backup.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from datetime import datetime
from typing import NamedTuple

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError, NoKeysError, NotFoundError
from nats.js.kv import KV_DEL, KV_MARKER_REASON, KV_OP, KeyValue

from aidevos.durable.bus.atomic_batch import BatchMessage, Unsupported, publish_batch
from aidevos.durable.bus.jetstream import WRONG_LAST_SEQUENCE
from aidevos.durable.bus.reading import Patience, read_in_order

TIMEOUT = 1.0
EXPECTED = "Nats-Expected-Last-Subject-Sequence"
# nats-py sees no key if the messages are faster than the answer about their consumer. That is rare.
LISTINGS = 3
WATCHING = Patience(heartbeat=1.0, silent_for=3.0)


class RevisionConflict(Exception):
    """Raised when a key's revision isn't the one that the caller expected."""


class RolledBack(Exception):
    """Raised when a bucket was made anew or no longer has its last entries."""


class Entry(NamedTuple):
    """A key as a watch shows it. The value is None if the key was deleted or has expired."""

    key: str
    value: bytes | None
    revision: int


class Bucket:
    """One key-value bucket. Every call may raise an error of nats-py, at the latest after `timeout` seconds."""

    def __init__(self, connection: Client, name: str, timeout: float = TIMEOUT) -> None:
        self._js = connection.jetstream(timeout=timeout)
        self._timeout = timeout
        self._connection = connection
        self._name = name
        self._prefix = f"$KV.{name}."
        self._bucket: KeyValue | None = None
        # What is known of the bucket's past: when it was made, and its last revision.
        self._created: datetime | None = None
        self._last = 0

    async def get(self, key: str) -> tuple[bytes | None, int]:
        """Return the value and the revision of a key. The value is None if the key doesn't exist.

        The leader of the bucket's replicas answers, because another one may not know the last writes yet. A leader that
        was just cut off from the others may not know them either, so only `set` and `delete` with a revision decide.
        """
        try:
            found = await self._js.get_last_msg(f"KV_{self._name}", self._prefix + key, direct=False)
        except NotFoundError:
            return None, 0
        return None if _is_removal(found.headers or {}) else found.data or b"", found.seq or 0

    async def set(self, key: str, value: bytes, revision: int, ttl: int | None = None) -> int:
        """Set a key if it has this revision (0 if it never existed). Return the new revision.

        `ttl` is in seconds; without one, the key doesn't expire. Raises `RevisionConflict`.
        """
        return await self._publish(key, value, {EXPECTED: str(revision)}, ttl)

    async def set_all(self, value: bytes, revisions: Mapping[str, int]) -> dict[str, int]:
        """Set all of these keys if each has its revision, or none. Return the new revisions.

        It costs the server one write to disk. Raises `RevisionConflict`.
        """
        batch = [BatchMessage(self._prefix + key, value, {EXPECTED: str(old)}) for key, old in revisions.items()]
        try:
            written = await publish_batch(self._connection, self._js, batch, self._timeout)
        except APIError as error:
            raise _conflict_or(error) from None
        except Unsupported as error:
            raise NatsError(str(error)) from error
        self._last = max(self._last, written[-1])
        return dict(zip(revisions, written, strict=True))

    async def put(self, key: str, value: bytes) -> None:
        """Set a key, whatever its revision is."""
        await self._publish(key, value, {}, None)

    async def delete(self, key: str, revision: int | None = None, *, forget_after: int | None = None) -> int:
        """Delete a key, or delete it only if it has this revision. Return the revision of the deletion.

        The bucket remembers the deletion, by default for good, else for `forget_after` seconds. Raises
        `RevisionConflict`.
        """
        headers = {KV_OP: KV_DEL}
        if revision is not None:
            headers[EXPECTED] = str(revision)
        return await self._publish(key, b"", headers, forget_after)

    async def watch(
        self, keys: Sequence[str], until: Callable[[], bool] = lambda: False
    ) -> AsyncGenerator[Entry | None, None]:
        """Yield the last entry of each key that matches one of these patterns, then None, and then each change.

        Ends soon after `until` returns True. Raises `RolledBack`, or an error of nats-py if the connection or the
        server's side of the watch was lost.
        """
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.LAST_PER_SUBJECT, filter_subjects=[self._prefix + key for key in keys]
        )
        stream, check = f"KV_{self._name}", self.compare_with_past
        reading = read_in_order(self._connection, self._js, stream, config, WATCHING, check=check, until=until)
        async with aclosing(reading) as messages:
            async for message in messages:
                yield None if message is None else self._entry(message)

    async def _publish(self, key: str, value: bytes, headers: dict[str, str], ttl: int | None) -> int:
        try:
            ack = await self._js.publish(self._prefix + key, value, headers=headers, msg_ttl=ttl)
        except APIError as error:
            raise _conflict_or(error) from None
        self._last = max(self._last, ack.seq)
        return ack.seq

    async def compare_with_past(self) -> None:
        """Raise `RolledBack` if the bucket isn't the one that was seen before, or is in an earlier state.

        What it is now is the past from then on.
        """
        # Acknowledgements of writes may overtake the answer.
        expected = self._last
        info = await self._js.stream_info(f"KV_{self._name}")
        went_back = (self._created is not None and info.created != self._created) or info.state.last_seq < expected
        self._created = info.created
        self._last = info.state.last_seq if went_back else max(self._last, info.state.last_seq)
        if went_back:
            raise RolledBack(self._name)

    def _entry(self, message: Msg) -> Entry:
        revision = message.metadata.sequence.stream
        self._last = max(self._last, revision)
        value = None if _is_removal(message.headers or {}) else message.data
        return Entry(message.subject[len(self._prefix) :], value, revision)

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


def _conflict_or(error: APIError) -> Exception:
    return RevisionConflict() if error.err_code in WRONG_LAST_SEQUENCE else error


def _is_removal(headers: dict[str, str]) -> bool:
    """Return True if an entry says that its key was deleted, or has expired."""
    return KV_OP in headers or KV_MARKER_REASON in headers
