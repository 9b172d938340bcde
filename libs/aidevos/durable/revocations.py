"""What this process has to know of callers: ended sessions, changed access, roles, keys and rate limits.

Promise: each takes effect here within moments of the commit that has made it so. Ends and changes
are read from the stream of events, from one token's lifetime ago on: so a process that was down, or
a server that was restarted, forgets none whose tokens could still be valid. Of roles and limits an event only
says that there is something new: what they allow is read as a whole from committed state, at the
start, at each event, after each reconnect and every half minute, so no lost event outlives that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import ConsumerConfig, DeliverPolicy

from aidevos.contracts import api_keys, rate_limits, roles, subjects
from aidevos.contracts.authentication import CLOCK_MARGIN, SESSION_ENDED, TOKEN_LIFETIME
from aidevos.contracts.errors import Failure
from aidevos.contracts.rate_limits import LimitPolicy
from aidevos.contracts.users import ACCESS_CHANGED
from aidevos.durable.client import DurableObjectClient
from aidevos.security.access import Change
from aidevos.security.tokens import TokenVerifier

RETRY_AFTER = 0.2
CHECK_EVERY = 1.0
REREAD_EVERY = 30.0
# More roles than these, in the order of their names, allow nothing.
MAX_ROLES = 10_000
PAGE = 500

log = logging.getLogger(__name__)
Read = TypeVar("Read")


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
    IDs of API keys that were changed, `set_policies` the rate limits."""

    def __init__(
        self,
        connection: Client,
        verifier: TokenVerifier,
        client: DurableObjectClient,
        credential: Callable[[], str],
        change_key: Callable[[str], None] = lambda key: None,
        set_policies: Callable[[dict[str, LimitPolicy]], None] = lambda policies: None,
    ) -> None:
        self._verifier = verifier
        self._client = client
        self._credential = credential
        self._change_key = change_key
        self._set_policies = set_policies
        self._limits_due = asyncio.Event()
        self._roles_due = asyncio.Event()
        self._streams: tuple[_Stream[_Event] | _Stream[_AccessChanged], ...] = (
            _Stream(connection, SESSION_ENDED, _Event, self._end),
            _Stream(connection, ACCESS_CHANGED, _AccessChanged, self._change),
            _Stream(connection, api_keys.CHANGED, _Event, self._key_changed),
            _Stream(connection, rate_limits.CHANGED, _Event, self._limits_changed, begun=self._limits_due.set),
            _Stream(connection, roles.CHANGED, _Event, self._role_changed, begun=self._roles_due.set),
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
            tasks.create_task(_reread("roles", self._roles_due, self._read_roles))
            tasks.create_task(_reread("rate limits", self._limits_due, self._read_limits))

    def _end(self, session: str, event: _Event) -> None:
        self._verifier.revoke(session, event.time.timestamp())

    def _change(self, user: str, event: _AccessChanged) -> None:
        data = event.data
        self._verifier.change_access(user, Change(event.time.timestamp(), data.version, data.roles, data.active))

    def _key_changed(self, key: str, event: _Event) -> None:
        self._change_key(key)

    def _limits_changed(self, id: str, event: _Event) -> None:
        self._limits_due.set()

    def _role_changed(self, role: str, event: _Event) -> None:
        self._roles_due.set()

    async def _read_roles(self) -> None:
        found: dict[str, frozenset[str]] = {}
        cursor: str | None = None
        while len(found) < MAX_ROLES:
            payload = msgspec.json.encode({"limit": PAGE, "cursor": cursor})
            reply = await self._client.request(roles.LIST_SUBJECT, payload, authorization=self._credential())
            page = msgspec.json.decode(reply, type=roles.RolePage)
            found |= {role.name: frozenset(role.permissions) for role in page.items}
            cursor = page.next_cursor
            if cursor is None:
                break
        self._verifier.set_roles(found)

    async def _read_limits(self) -> None:
        subject = subjects.call(rate_limits.TYPE, rate_limits.ID, "read")
        reply = await self._client.request(subject, b"{}", authorization=self._credential())
        self._set_policies(msgspec.json.decode(reply, type=rate_limits.RateLimits).policies)


async def _reread(what: str, due: asyncio.Event, read: Callable[[], Awaitable[None]]) -> None:
    """Read something as a whole when it is due, and now and then, until cancelled."""
    while True:
        due.clear()
        try:
            await read()
        except (Failure, msgspec.MsgspecError, NatsError) as error:
            log.warning("the %s can't be read, trying again: %s", what, error)
            await asyncio.sleep(RETRY_AFTER)
            continue
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REREAD_EVERY):
                await due.wait()


class _Stream(Generic[Read]):
    """One kind of events, read in their order; `apply` gets the object's ID and the event, and `begun`
    is called whenever reading begins anew."""

    def __init__(
        self,
        connection: Client,
        subject: str,
        type: type[Read],
        apply: Callable[[str, Read], None],
        begun: Callable[[], None] = lambda: None,
    ) -> None:
        self.loaded = asyncio.Event()
        self._connection = connection
        self._subject = subject
        self._decoder = msgspec.json.Decoder(type)
        self._apply = apply
        self._begun = begun

    async def follow(self) -> None:
        while True:
            try:
                await self._read()
            except NatsError as error:
                log.warning("%s can't be read, trying again: %r", self._subject, error)
                await asyncio.sleep(RETRY_AFTER)

    async def _read(self) -> None:
        reconnects = self._connection.stats["reconnects"]
        js = self._connection.jetstream()
        since = datetime.now(UTC) - timedelta(seconds=TOKEN_LIFETIME + CLOCK_MARGIN)
        config = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=since)
        stream = subjects.EVENTS_STREAM
        reader = await js.subscribe(self._subject, stream=stream, ordered_consumer=True, config=config)
        try:
            self._begun()
            waiting = (await reader.consumer_info()).num_pending
            while self._connection.stats["reconnects"] == reconnects:
                if not waiting:
                    self.loaded.set()
                try:
                    message = await reader.next_msg(timeout=CHECK_EVERY)
                except NatsTimeout:
                    waiting = 0
                    continue
                waiting = message.metadata.num_pending
                self._take(message.subject, message.data)
        finally:
            with contextlib.suppress(NatsError):
                await reader.unsubscribe()

    def _take(self, subject: str, payload: bytes) -> None:
        try:
            event = self._decoder.decode(payload)
        except msgspec.DecodeError:
            log.warning("an event on %s can't be read", subject)
            return
        self._apply(subject.split(".")[2], event)
