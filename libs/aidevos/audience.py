"""Who may see an event: asked for each event and each reader, by what holds now.

Promise: an item's event is for those who may read the item, a project's and its tasks' for the project's
members, a user's for that user, and every other for those who may read its type. What isn't known to be
for the reader isn't for it. What was found out counts for `lookups.LIFE` seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

import msgspec

from aidevos.contracts import api_keys, dead_letters, projects, rate_limits, roles, routes, subjects, users, webhooks
from aidevos.contracts.authentication import SESSION_TYPE
from aidevos.contracts.data import COLLECTION_TYPE, VISIBILITY, Visibility, VisibilityArgs
from aidevos.contracts.errors import Failure
from aidevos.lookups import Lookups
from aidevos.security.permissions import Principal
from aidevos.shown_events import ItemChange, OfUser, ShownEvent

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
_role = msgspec.json.Decoder(str | None)


class Reading(Protocol):
    """Who reads. `authorization` names the credential that it reads with."""

    @property
    def caller(self) -> Principal: ...

    @property
    def authorization(self) -> str: ...


Reader = TypeVar("Reader", bound=Reading)
# Sends a request on behalf of a reader, or, for None, of the process itself: subject and payload.
Ask = Callable[[Reader | None, str, bytes], Awaitable[bytes]]


class Audience(Generic[Reader]):
    def __init__(self, ask: Ask[Reader]) -> None:
        self._ask = ask
        self._visibilities: Lookups[Visibility] = Lookups()
        self._roles: Lookups[str] = Lookups()

    async def has(self, reader: Reader, event: ShownEvent) -> bool:
        """Whether the event is for the reader; raises `Failure` when that can't be found out."""
        if isinstance(event.about, ItemChange):
            return await self._reads_item(reader, event.about)
        caller = reader.caller
        if event.project:
            return await self._is_member(caller, event.project)
        if event.type == users.TYPE:
            return caller.has(READ_USERS) or caller.acts_for(event.object, "profile:self")
        if event.type == SESSION_TYPE:
            own = isinstance(event.about, OfUser) and caller.acts_for(event.about.user, "sessions:self")
            return own or caller.has(READ_USERS)
        return caller.has(READ.get(event.type, f"{event.type}:read"), id=event.object)

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
        return _visibility.decode(await self._ask(reader, subject, payload))

    async def _is_member(self, caller: Principal, project: str) -> bool:
        if caller.has(projects.MANAGE):
            return True
        if not caller.has(projects.CREATE) or not subjects.is_id(caller.subject):
            return False
        name = f"{project} {caller.subject}"
        role = self._roles.kept(name)
        if role is None:
            role = await self._roles.get(name, lambda: self._ask_role(project, caller.subject))
        return role is not None

    async def _ask_role(self, project: str, user: str) -> str | None:
        payload = msgspec.json.encode({"user_id": user})
        try:
            reply = await self._ask(None, subjects.call(projects.TYPE, project, "role_of"), payload)
        except Failure as failure:
            if failure.code == "not-found":
                return None
            raise
        return _role.decode(reply)
