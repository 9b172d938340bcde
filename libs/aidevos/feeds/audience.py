"""The audience of an event: a check for each event and reader, with the reader's current rights.

Promise: an event of an item is shown to readers of the item, one of a project or its tasks to the project's members,
and one of a user to that user. Any other event is shown to callers who may read its type and, if the object belongs
to a project, are also members of the project. An event is hidden unless it is known to be visible. Answers are
cached for `lookups.LIFE` seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from aidevos.contracts import (
    access_tokens,
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
from aidevos.contracts.data import (
    COLLECTION_TYPE,
    ITEM_TYPE,
    VISIBILITY,
    Visibility,
    VisibilityArgs,
    item_object,
)
from aidevos.contracts.errors import Failure
from aidevos.durable.base.lookups import Lookups
from aidevos.feeds.shown_events import ItemChange, ShownEvent, UserData
from aidevos.projects.memberships import Memberships
from aidevos.security.permissions import Principal

# Without this permission, a reader sees no events.
READ_EVENTS = "events:read"
READ_USERS = "users:read"
# The types whose read permission is not `<type>:read`.
READ_PERMISSIONS = {
    access_tokens.TYPE: access_tokens.MANAGE,
    api_keys.TYPE: api_keys.MANAGE_KEYS,
    dead_letters.TYPE: dead_letters.MANAGE,
    rate_limits.TYPE: rate_limits.MANAGE_LIMITS,
    roles.TYPE: "roles:manage",
    routes.TYPE: routes.MANAGE_ROUTES,
    webhooks.TYPE: webhooks.MANAGE_WEBHOOKS,
}
_visibility = msgspec.json.Decoder(Visibility)


class EventReader(Protocol):
    """A reader of events. `caller` holds its current rights, and `authorization` identifies them in caches."""

    @property
    def caller(self) -> Principal: ...

    @property
    def authorization(self) -> str: ...


Reader = TypeVar("Reader", bound=EventReader)
# Sends a payload to a subject on behalf of a reader, or of the process itself for None, and returns the answer.
SendRequest = Callable[[Reader | None, str, bytes], Awaitable[bytes]]


class Audience(Generic[Reader]):
    def __init__(self, request: SendRequest[Reader]) -> None:
        self._request = request
        self._visibilities: Lookups[Visibility] = Lookups()
        self._memberships = Memberships()

    async def may_see(self, reader: Reader, event: ShownEvent) -> bool:
        """Return True if the reader may see the event. Raises `Failure` if a look-up fails."""
        if isinstance(event.about, ItemChange):
            return await self._may_read_item(reader, event.about)
        caller = reader.caller
        if event.project:
            return await self._may_read_in_project(caller, event)
        if caller.project:
            # The key of a project sees only the events of that project.
            return False
        if event.type == users.TYPE:
            return caller.has(READ_USERS) or caller.acts_for(event.object, users.OWN_PROFILE)
        if event.type == SESSION_TYPE:
            own = isinstance(event.about, UserData) and caller.acts_for(event.about.user, "sessions:self")
            return own or caller.has(READ_USERS)
        return _may_read_type(caller, event)

    async def _may_read_item(self, reader: Reader, change: ItemChange) -> bool:
        """Return True if the reader may read the changed item.

        An event of a deleted collection is visible to no one, even if another collection has the same name now.
        """
        name = f"{change.collection} {reader.authorization}"
        found = self._visibilities.kept(name)
        if found is None:
            found = await self._visibilities.get(name, lambda: self._fetch_visibility(change.collection, reader))
        if found is None or not change.incarnation or found.incarnation != change.incarnation:
            return False
        return found.items == "all" or (found.items == "own" and change.owner == reader.caller.subject)

    async def read_item(self, reader: Reader, change: ItemChange) -> bytes | None:
        """Return the changed item as it is now, in JSON, or None if the reader can't read it any more.

        Raises `Failure` if it can't be read at the moment.
        """
        subject = subjects.call(ITEM_TYPE, item_object(change.collection, change.id), "read")
        try:
            return await self._request(reader, subject, b"{}")
        except Failure as failure:
            if failure.status not in (403, 404):
                raise
            return None

    async def _fetch_visibility(self, collection: str, reader: Reader) -> Visibility:
        subject = subjects.query(COLLECTION_TYPE, VISIBILITY)
        payload = msgspec.json.encode(VisibilityArgs(collection))
        return _visibility.decode(await self._request(reader, subject, payload))

    async def _may_read_in_project(self, caller: Principal, event: ShownEvent) -> bool:
        if event.type in (projects.TYPE, tasks.TYPE):
            allowed = caller.has(projects.CREATE) or caller.has(projects.MANAGE)
        else:
            allowed = _may_read_type(caller, event)
        return allowed and await self._memberships.find_role(self, event.project, caller) is not None

    async def ask(self, type: str, view: str, /, **args: Any) -> Any:
        """Query a view on behalf of the process itself."""
        return msgspec.json.decode(await self._request(None, subjects.query(type, view), msgspec.json.encode(args)))


def _may_read_type(caller: Principal, event: ShownEvent) -> bool:
    return caller.has(READ_PERMISSIONS.get(event.type, f"{event.type}:read"), id=event.object)
