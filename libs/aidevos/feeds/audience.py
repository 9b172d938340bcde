"""Who may see an event: asked for each event and each reader, by what holds now.

Promise: an item's event is for those who may read the item, a project's and its tasks' for the project's
members, a user's for that user, and every other for those who may read its type; of an object that belongs to a
project for the members among them. What isn't known to be
for the reader isn't for it. What was found out counts for `lookups.LIFE` seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from aidevos.contracts import (
    api_keys,
    dead_letters,
    projects,
    rate_limits,
    roles,
    routes,
    subjects,
    tasks,
    users,
    webhooks,
)
from aidevos.contracts.authentication import SESSION_TYPE
from aidevos.contracts.data import COLLECTION_TYPE, VISIBILITY, Visibility, VisibilityArgs
from aidevos.durable.base.lookups import Lookups
from aidevos.feeds.shown_events import ItemChange, OfUser, ShownEvent
from aidevos.projects.memberships import Memberships
from aidevos.security.permissions import Principal

# Whose lack means that there is nothing to see.
READ_EVENTS = "events:read"
READ_USERS = "users:read"
# Types that are read with another permission than `<type>:read`.
READ = {
    api_keys.TYPE: api_keys.MANAGE_KEYS,
    dead_letters.TYPE: dead_letters.MANAGE,
    rate_limits.TYPE: rate_limits.MANAGE_LIMITS,
    roles.TYPE: "roles:manage",
    routes.TYPE: routes.MANAGE_ROUTES,
    webhooks.TYPE: webhooks.MANAGE_WEBHOOKS,
}
_visibility = msgspec.json.Decoder(Visibility)


class Reading(Protocol):
    """Who reads: as the process knows it at the moment, and a name for the rights with which it reads."""

    @property
    def caller(self) -> Principal: ...

    @property
    def authorization(self) -> str: ...


Reader = TypeVar("Reader", bound=Reading)
# The answer to a request, of a subject and a payload, on behalf of a reader, or of the process itself for None.
Request = Callable[[Reader | None, str, bytes], Awaitable[bytes]]


class Audience(Generic[Reader]):
    def __init__(self, request: Request[Reader]) -> None:
        self._request = request
        self._visibilities: Lookups[Visibility] = Lookups()
        self._memberships = Memberships()

    async def has(self, reader: Reader, event: ShownEvent) -> bool:
        """Whether the event is for the reader; raises `Failure` when that can't be found out."""
        if isinstance(event.about, ItemChange):
            return await self._reads_item(reader, event.about)
        caller = reader.caller
        if event.project:
            return await self._reads_of_project(caller, event)
        if caller.project:
            # The key counts in its project alone.
            return False
        if event.type == users.TYPE:
            return caller.has(READ_USERS) or caller.acts_for(event.object, "profile:self")
        if event.type == SESSION_TYPE:
            own = isinstance(event.about, OfUser) and caller.acts_for(event.about.user, "sessions:self")
            return own or caller.has(READ_USERS)
        return _reads_type(caller, event)

    async def _reads_item(self, reader: Reader, change: ItemChange) -> bool:
        """An event of a collection that isn't there any more is for nobody, whoever has made another one of
        its name."""
        name = f"{change.collection} {reader.authorization}"
        found = self._visibilities.kept(name)
        if found is None:
            found = await self._visibilities.get(name, lambda: self._ask_visibility(change.collection, reader))
        if found is None or not change.incarnation or found.incarnation != change.incarnation:
            return False
        return found.items == "all" or (found.items == "own" and change.owner == reader.caller.subject)

    async def _ask_visibility(self, collection: str, reader: Reader) -> Visibility:
        subject = subjects.query(COLLECTION_TYPE, VISIBILITY)
        payload = msgspec.json.encode(VisibilityArgs(collection))
        return _visibility.decode(await self._request(reader, subject, payload))

    async def _reads_of_project(self, caller: Principal, event: ShownEvent) -> bool:
        if event.type in (projects.TYPE, tasks.TYPE):
            allowed = caller.has(projects.CREATE) or caller.has(projects.MANAGE)
        else:
            allowed = _reads_type(caller, event)
        return allowed and await self._memberships.role(self, event.project, caller) is not None

    async def ask(self, type: str, view: str, /, **args: Any) -> Any:
        """What a view answers the process itself."""
        return msgspec.json.decode(await self._request(None, subjects.query(type, view), msgspec.json.encode(args)))


def _reads_type(caller: Principal, event: ShownEvent) -> bool:
    return caller.has(READ.get(event.type, f"{event.type}:read"), id=event.object)
