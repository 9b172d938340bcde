"""Ended sessions, changed access, roles, API keys and rate limits, as this process knows them.

Promise: each change takes effect here within moments of its commit. Ended sessions and changed access are read from the
event stream, starting one token lifetime ago. So even after a restart, a process knows every change that affects a
token that could still be valid. If the stream doesn't have all events of that time, `EventStream` reports the gap.
Roles and limits are mirrored.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec

from aidevos.contracts import access_tokens, api_keys, rate_limits, roles, subjects
from aidevos.contracts.authentication import CLOCK_MARGIN, SESSION_ENDED, TOKEN_LIFETIME
from aidevos.contracts.rate_limits import LimitPolicy
from aidevos.contracts.users import ACCESS_CHANGED
from aidevos.durable.base.tasks import run_together
from aidevos.durable.bus.follow import EventStream
from aidevos.durable.client.client import DurableObjectClient
from aidevos.durable.client.mirror import Mirror, read_all
from aidevos.security.access import Change
from aidevos.security.tokens import TokenVerifier

HISTORY = TOKEN_LIFETIME + CLOCK_MARGIN
# Roles beyond this number, in the order of their names, grant nothing.
MAX_ROLES = 10_000


class _Event(msgspec.Struct):
    """An event of which only the time matters."""

    time: datetime


class _Access(msgspec.Struct):
    roles: tuple[str, ...]
    active: bool
    version: int


class _AccessChanged(msgspec.Struct):
    time: datetime
    data: _Access


class Revocations:
    """Keeps a token verifier up to date with the event stream.

    `stream` must start `HISTORY` seconds ago. `client` reads roles and limits with the service's `credential`.
    `on_change` gets the ID of each changed API key or revoked token, and the time of that in seconds since the epoch.
    `set_policies` gets the rate limits by name.
    """

    def __init__(
        self,
        stream: EventStream,
        verifier: TokenVerifier,
        client: DurableObjectClient,
        credential: Callable[[], str],
        on_change: Callable[[str, float], None] = lambda id, at: None,
        set_policies: Callable[[dict[str, LimitPolicy]], None] = lambda policies: None,
    ) -> None:
        self._verifier = verifier
        self._client = client
        self._credential = credential
        self._on_change = on_change
        self._set_policies = set_policies
        self._stream = stream
        stream.on(SESSION_ENDED, _Event, self._end_session)
        stream.on(ACCESS_CHANGED, _AccessChanged, self._change_access)
        stream.on(api_keys.CHANGED, _Event, self._report_change)
        stream.on(access_tokens.REVOKED, _Event, self._report_change)
        self._mirrors = (
            Mirror(stream, "rate limits", rate_limits.CHANGED, self._read_limits),
            Mirror(stream, "roles", roles.CHANGED, self._read_roles),
        )

    async def wait_until_loaded(self) -> None:
        """Wait until every ended session and change known at the start has been read. Roles may follow later."""
        await self._stream.loaded.wait()

    async def follow(self) -> None:
        """Keep roles and rate limits up to date until cancelled."""
        await run_together(*(mirror.follow() for mirror in self._mirrors))

    def _end_session(self, session: str, event: _Event) -> None:
        self._verifier.revoke(session, event.time.timestamp())

    def _change_access(self, user: str, event: _AccessChanged) -> None:
        data = event.data
        self._verifier.change_access(user, Change(event.time.timestamp(), data.version, data.roles, data.active))

    def _report_change(self, id: str, event: _Event) -> None:
        self._on_change(id, event.time.timestamp())

    async def _read_roles(self) -> None:
        found = await read_all(self._client, self._credential(), roles.LIST_SUBJECT, roles.RolePage, MAX_ROLES)
        self._verifier.set_roles({role.name: frozenset(role.permissions) for role in found})

    async def _read_limits(self) -> None:
        subject = subjects.call(rate_limits.TYPE, rate_limits.ID, "read")
        reply = await self._client.request(subject, b"{}", authorization=self._credential())
        self._set_policies(msgspec.json.decode(reply, type=rate_limits.RateLimits).policies)
