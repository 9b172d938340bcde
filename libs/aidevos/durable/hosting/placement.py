"""Who should own a type's objects: leases of hosts, and types held by one host at a time.

Promises: a host's lease runs from *before* its last acknowledged renewal was sent, for the key's
time to live less a margin, on a clock that counts suspension. So a host that was paused knows on its
first look that it may not answer. A type is taken only when nobody holds it, when its holder has
released it, or when the holder's key is gone. A key that has lapsed is never made again: the host
comes back as a new incarnation.

None of this protects writes, which are fenced by claims; it decides who answers.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import re
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import IO

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.errors import APIError, KeyNotFoundError, NoKeysError
from nats.js.kv import KeyValue

from aidevos.durable.base.clock import Clock
from aidevos.durable.bus.jetstream import WRONG_LAST_SEQUENCE

log = logging.getLogger(__name__)
MARGIN = 0.5
POLL_EVERY = 0.1
ANSWER_WITHIN = 1.0
MAX_NAMES = 1000
ALIVE = b"alive"


class Taken(Exception):
    """Somebody else has changed the key."""


class HostName:
    """A name that one living process has: it holds the lock on a file, which the kernel releases
    when the process ends, and only then. So whoever holds the lock may replace its predecessor."""

    def __init__(self, home: Path, service: str, first: int = 0) -> None:
        folder = home / "run"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
        for replica in range(first, first + MAX_NAMES):
            file = (folder / f"{service}-{replica}.lock").open("w")
            if _lock(file):
                self._file, self.replica, self.name = file, replica, f"{service}-{replica}_{host}"
                return
            file.close()
        raise RuntimeError(f"{MAX_NAMES} processes of {service} run already under {home}")

    def close(self) -> None:
        self._file.close()


class Bucket:
    """A key-value bucket with compare-and-set and a time to live per key."""

    def __init__(self, connection: Client, name: str) -> None:
        self._js = connection.jetstream(timeout=ANSWER_WITHIN)
        self._name = name
        self._bucket: KeyValue | None = None

    async def get(self, key: str) -> tuple[bytes | None, int]:
        """Value and revision; the value is None where there is none."""
        bucket = await self._open()
        try:
            entry = await bucket.get(key)
        except KeyNotFoundError as error:
            return None, (error.entry.revision or 0) if error.entry else 0
        return entry.value, entry.revision or 0

    async def set(self, key: str, value: bytes, revision: int, ttl: float | None = None) -> int:
        """Set a key whose revision is this one; the new revision. Raises `Taken`."""
        headers = {"Nats-Expected-Last-Subject-Sequence": str(revision)}
        try:
            ack = await self._js.publish(f"$KV.{self._name}.{key}", value, headers=headers, msg_ttl=ttl)
        except APIError as error:
            if error.err_code in WRONG_LAST_SEQUENCE:
                raise Taken from None
            raise
        return ack.seq

    async def put(self, key: str, value: bytes) -> None:
        await (await self._open()).put(key, value)

    async def delete(self, key: str, revision: int | None = None) -> None:
        await (await self._open()).delete(key, last=revision)

    async def keys(self, prefix: str) -> list[str]:
        bucket = await self._open()
        try:
            return [key for key in await bucket.keys() if key.startswith(prefix)]
        except NoKeysError:
            return []

    async def _open(self) -> KeyValue:
        if self._bucket is None:
            self._bucket = await self._js.key_value(self._name)
        return self._bucket


class Lease:
    """The right of one incarnation to answer. `lost` is set when it has ended for good."""

    def __init__(self, hosts: Bucket, host: str, clock: Clock, ttl: float) -> None:
        self.incarnation = f"{host}.{secrets.token_hex(8)}"
        self.lost = asyncio.Event()
        self._hosts = hosts
        self._host = host
        self._clock = clock
        self._ttl = ttl
        self._revision = 0
        self._ends = 0.0

    def valid(self) -> bool:
        """Whether this process may answer from memory now."""
        return self._clock.elapsed() < self._ends

    def suspend(self) -> None:
        """Answer nothing until a renewal has succeeded: the connection was lost."""
        self._ends = 0.0

    async def acquire(self) -> None:
        """Make the key of this incarnation, and remove those of dead predecessors of the same name."""
        for key in await self._hosts.keys(f"{self._host}."):
            await self._hosts.delete(key)
        sent = self._clock.elapsed()
        self._revision = await self._hosts.set(self.incarnation, ALIVE, 0, self._ttl)
        self._ends = sent + self._ttl - MARGIN

    async def keep(self) -> None:
        """Renew until the lease is lost."""
        pause = self._ttl / 3
        while not self.lost.is_set():
            await asyncio.sleep(pause)
            pause = self._ttl / 3
            sent = self._clock.elapsed()
            try:
                self._revision = await self._hosts.set(self.incarnation, ALIVE, self._revision, self._ttl)
                self._ends = sent + self._ttl - MARGIN
            except Taken:
                await self._find_revision()
                pause = 0.0
            except (NatsError, OSError) as error:
                log.warning("renewing the lease failed, trying again: %s", error)

    async def release(self) -> None:
        self._ends = 0.0
        self.lost.set()
        try:
            await self._hosts.delete(self.incarnation)
        except NatsError as error:
            log.warning("releasing the lease failed, it ends by itself: %s", error)

    async def _find_revision(self) -> None:
        """A renewal whose answer was lost has moved the revision; a key that is gone stays gone."""
        try:
            value, revision = await self._hosts.get(self.incarnation)
        except (NatsError, OSError):
            return
        if value is None:
            log.error("the lease of %s has lapsed", self.incarnation)
            self._ends = 0.0
            self.lost.set()
        else:
            self._revision = revision


class Placement:
    """Takes the types that a host serves as soon as they are free; `own` is called for each."""

    def __init__(
        self,
        holders: Bucket,
        hosts: Bucket,
        lease: Lease,
        types: Sequence[str],
        own: Callable[[str], Awaitable[None]],
    ) -> None:
        self._holders = holders
        self._hosts = hosts
        self._lease = lease
        self._wanted = list(types)
        self._own = own
        self._held: dict[str, int] = {}
        self._running: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Try to take each type until all are held."""
        self._running = asyncio.current_task()
        waiting: set[str] = set()
        while self._wanted:
            for type in list(self._wanted):
                try:
                    if await self._take(type):
                        await self._own(type)
                        self._wanted.remove(type)
                    elif type not in waiting:
                        waiting.add(type)
                        log.warning("the type %s is served by another process: waiting until that ends", type)
                except (NatsError, OSError) as error:
                    log.warning("taking the type %s failed, trying again: %s", type, error)
            if self._wanted:
                await asyncio.sleep(POLL_EVERY)

    async def stop(self) -> None:
        """Take no further type."""
        self._wanted.clear()
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def release(self) -> None:
        """Let others take the types of this host."""
        for type, revision in self._held.items():
            try:
                await self._holders.delete(type, revision)
            except NatsError as error:
                log.warning("releasing the type %s failed: %s", type, error)

    async def _take(self, type: str) -> bool:
        value, revision = await self._holders.get(type)
        holder = value.decode("ascii", "replace") if value else ""
        if _is_incarnation(holder) and holder != self._lease.incarnation:
            living, _ = await self._hosts.get(holder)
            if living is not None:
                return False
        try:
            self._held[type] = await self._holders.set(type, self._lease.incarnation.encode(), revision)
        except Taken:
            return False
        log.info("%s holds the type %s", self._lease.incarnation, type)
        return True


_is_incarnation = re.compile(r"[A-Za-z0-9_-]+\.[0-9a-f]{16}").fullmatch


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    file.truncate()
    file.write(f"{os.getpid()}\n")
    file.flush()
    return True
