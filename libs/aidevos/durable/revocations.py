"""What this process's verifier of tokens has to know: ended sessions, changed access, custom roles.

Promise: each takes effect here within moments of the commit that has made it so. Ends and changes
are read from the stream of events, from one token's lifetime ago on: so a process that was down, or
a server that was restarted, forgets none whose tokens could still be valid. What roles allow is a
`Listing`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

import msgspec
from nats.aio.client import Client

from aidevos.contracts import api_keys, roles
from aidevos.contracts.authentication import CLOCK_MARGIN, SESSION_ENDED, TOKEN_LIFETIME
from aidevos.contracts.users import ACCESS_CHANGED
from aidevos.durable.client import DurableObjectClient
from aidevos.durable.event_stream import EventStream
from aidevos.durable.listing import Listing
from aidevos.security.access import Change
from aidevos.security.tokens import TokenVerifier

# More roles than these, in the order of their names, allow nothing.
MAX_ROLES = 10_000
SINCE = TOKEN_LIFETIME + CLOCK_MARGIN


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
    """Keeps one verifier informed. `client` calls as a service, to read the roles; `change_key` is told the
    IDs of API keys that were changed."""

    def __init__(
        self,
        connection: Client,
        verifier: TokenVerifier,
        client: DurableObjectClient,
        credential: Callable[[], str],
        change_key: Callable[[str], None] = lambda key: None,
    ) -> None:
        self._verifier = verifier
        self._change_key = change_key
        self._streams: tuple[EventStream[_Event] | EventStream[_AccessChanged], ...] = (
            EventStream(connection, SESSION_ENDED, _Event, self._end, since=SINCE),
            EventStream(connection, ACCESS_CHANGED, _AccessChanged, self._change, since=SINCE),
            EventStream(connection, api_keys.CHANGED, _Event, self._key_changed, since=SINCE),
        )
        self._roles = Listing(
            connection,
            client,
            credential,
            changed=roles.CHANGED,
            search=roles.LIST_SUBJECT,
            page=roles.RolePage,
            limit=MAX_ROLES,
            apply=self._set_roles,
        )

    async def loaded(self) -> None:
        """Return once every end and change that was known at the start has been read. Roles may follow."""
        for stream in self._streams:
            await stream.loaded.wait()

    async def follow(self) -> None:
        """Keep up until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for stream in self._streams:
                tasks.create_task(stream.follow())
            tasks.create_task(self._roles.follow())

    def _end(self, session: str, event: _Event) -> None:
        self._verifier.revoke(session, event.time.timestamp())

    def _change(self, user: str, event: _AccessChanged) -> None:
        data = event.data
        self._verifier.change_access(user, Change(event.time.timestamp(), data.version, data.roles, data.active))

    def _key_changed(self, key: str, event: _Event) -> None:
        self._change_key(key)

    def _set_roles(self, found: list[roles.Role]) -> None:
        self._verifier.set_roles({role.name: frozenset(role.permissions) for role in found})
