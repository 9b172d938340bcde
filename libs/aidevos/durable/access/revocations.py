"""What this process has to know of callers: ended sessions, changed access, roles, keys and rate limits.

Promise: each takes effect here within moments of the commit that has made it so. Ends and changes
are read from the stream of events, from one token's lifetime ago on: so a process that was down, or
a server that was restarted, forgets none whose tokens could still be valid. Roles and limits are
mirrored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

import msgspec

from aidevos.contracts import api_keys, rate_limits, roles, subjects
from aidevos.contracts.authentication import CLOCK_MARGIN, SESSION_ENDED, TOKEN_LIFETIME
from aidevos.contracts.rate_limits import LimitPolicy
from aidevos.contracts.users import ACCESS_CHANGED
from aidevos.durable.bus.follow import EventStream
from aidevos.durable.client.client import DurableObjectClient
from aidevos.durable.client.mirror import Mirror, read_all
from aidevos.security.access import Change
from aidevos.security.tokens import TokenVerifier

SINCE = TOKEN_LIFETIME + CLOCK_MARGIN
# More roles than these, in the order of their names, allow nothing.
MAX_ROLES = 10_000


class _Event(msgspec.Struct):
    """What is read of an event whose data doesn't matter."""

    time: datetime


class _Access(msgspec.Struct):
    roles: tuple[str, ...]
    active: bool
    version: int


class _AccessChanged(msgspec.Struct):
    time: datetime
    data: _Access


class Revocations:
    """Keeps one verifier informed, by a stream that goes back to `SINCE`. `client` calls as a service, to read
    the roles; `change_key` is told the IDs of API keys that were changed, and when, `set_policies` the rate limits."""

    def __init__(
        self,
        stream: EventStream,
        verifier: TokenVerifier,
        client: DurableObjectClient,
        credential: Callable[[], str],
        change_key: Callable[[str, float], None] = lambda key, at: None,
        set_policies: Callable[[dict[str, LimitPolicy]], None] = lambda policies: None,
    ) -> None:
        self._verifier = verifier
        self._client = client
        self._credential = credential
        self._change_key = change_key
        self._set_policies = set_policies
        self._stream = stream
        stream.on(SESSION_ENDED, _Event, self._end)
        stream.on(ACCESS_CHANGED, _AccessChanged, self._change)
        stream.on(api_keys.CHANGED, _Event, self._key_changed)
        self._mirrors = (
            Mirror(stream, "rate limits", rate_limits.CHANGED, self._read_limits),
            Mirror(stream, "roles", roles.CHANGED, self._read_roles),
        )

    async def loaded(self) -> None:
        """Return once every end and change that was known at the start has been read. Roles may follow."""
        await self._stream.loaded.wait()

    async def follow(self) -> None:
        """Keep up with the stream until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for mirror in self._mirrors:
                tasks.create_task(mirror.follow())

    def _end(self, session: str, event: _Event) -> None:
        self._verifier.revoke(session, event.time.timestamp())

    def _change(self, user: str, event: _AccessChanged) -> None:
        data = event.data
        self._verifier.change_access(user, Change(event.time.timestamp(), data.version, data.roles, data.active))

    def _key_changed(self, key: str, event: _Event) -> None:
        self._change_key(key, event.time.timestamp())

    async def _read_roles(self) -> None:
        found = await read_all(self._client, self._credential(), roles.LIST_SUBJECT, roles.RolePage, MAX_ROLES)
        self._verifier.set_roles({role.name: frozenset(role.permissions) for role in found})

    async def _read_limits(self) -> None:
        subject = subjects.call(rate_limits.TYPE, rate_limits.ID, "read")
        reply = await self._client.request(subject, b"{}", authorization=self._credential())
        self._set_policies(msgspec.json.decode(reply, type=rate_limits.RateLimits).policies)
