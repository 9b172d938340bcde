"""The types that hosts announce in the key-value bucket `types`, and whether any host serves one.

A host announces each of its types when it takes it over, and again every minute. Promise: a call that nobody takes
fails at once if no host has ever served its type, or none has for a while. During a handover, it waits for the next
host.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from typing import NamedTuple

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError
from nats.js.kv import KV_DEL, KV_OP, KV_PURGE

from aidevos.contracts import subjects
from aidevos.contracts.errors import Failure
from aidevos.durable.base.lookups import Lookups

log = logging.getLogger(__name__)
ANNOUNCE_EVERY = 60.0
# Seconds without an announcement after which no host serves a type.
UNSERVED_AFTER = 3 * ANNOUNCE_EVERY
# Seconds after which such a type is no longer known.
FORGOTTEN_AFTER = 86_400.0
# Seconds after its start in which a process takes nothing for unserved, because the fleet may be starting.
STARTS_WITHIN = 30.0
WITHIN = 1.0


class Announcement(NamedTuple):
    """The last announcement of a type: the time in seconds since the epoch, or None if there is none."""

    at: float | None


class TypeDirectory:
    """Looks up the announcements of types. Those that are `expected` may soon be served, so they are never unknown.

    With `direct`, any replica of the bucket answers, though it may be behind by moments. Users of NATS outside the
    fleet's account can read in no other way.
    """

    def __init__(
        self,
        connection: Client,
        expected: Collection[str] = (),
        now: Callable[[], float] = time.time,
        *,
        direct: bool = False,
    ) -> None:
        self._connection = connection
        self._direct = direct
        self._expected = expected
        self._now = now
        self._began = now()
        # Programs that call objects may run where there is no clock that counts suspension, and need none for this.
        self._lookups: Lookups[Announcement] = Lookups(time.monotonic)

    async def check(self, type: str) -> None:
        """Raise `unknown-type` or `unavailable` if nobody will answer a call that nobody has taken."""
        try:
            found = await self._lookups.get(type, lambda: self._read(type))
        except (NatsError, OSError, TimeoutError) as error:
            log.warning("the announcement of the type %s can't be read: %r", type, error)
            return
        if found is not None:
            self._judge(type, found.at)

    def _judge(self, type: str, at: float | None) -> None:
        now = self._now()
        if at is None or at + FORGOTTEN_AFTER < now:
            if type not in self._expected:
                raise unknown_type(type)
        elif at + UNSERVED_AFTER < now and self._began + STARTS_WITHIN < now:
            minutes = int((now - at) / 60)
            detail = f"no host has served the type {type} for {minutes} minutes; start its service again"
            raise Failure("unavailable", detail, retry_after=ANNOUNCE_EVERY)

    async def announced_at(self, type: str) -> float | None:
        """Return the time of a type's last announcement in seconds since the epoch, or None.

        May raise an error of nats-py.
        """
        return (await self._read(type)).at

    async def _read(self, type: str) -> Announcement:
        js, subject = self._connection.jetstream(timeout=WITHIN), f"$KV.{subjects.TYPES_BUCKET}.{type}"
        try:
            found = await js.get_msg(f"KV_{subjects.TYPES_BUCKET}", subject=subject, direct=self._direct)
        except NotFoundError:
            return Announcement(None)
        gone = (found.headers or {}).get(KV_OP) in (KV_DEL, KV_PURGE)
        return Announcement(None if gone or found.time is None else found.time.timestamp())


def unknown_type(type: str) -> Failure:
    """Return the failure of a call to a type that no host serves."""
    return Failure("unknown-type", f"no host serves the type {type[:64]!r}", field="type")
