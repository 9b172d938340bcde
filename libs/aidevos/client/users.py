"""Users, for administrators; users themselves can read and change their own profile."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import msgspec

from aidevos.client.entry import MERGE_PATCH, EntryPoint, Operation, Options, follow_pages, given
from aidevos.contracts import subjects, users
from aidevos.contracts.users import Status, User

USER = "/users/{id}"


class Users:
    """The users of the fleet. Methods raise `ApiError`."""

    def __init__(self, entry: EntryPoint) -> None:
        self._entry = entry

    async def get(self, id: str) -> User:
        """Return a user. Raises `NotFound`."""
        return await self._perform("GET", "", id, "read")

    def find(
        self, q: str | None = None, *, role: str | None = None, status: Status | None = None, sort: str | None = None
    ) -> AsyncGenerator[User, None]:
        """Yield the users, or those with `q` in a name or the e-mail address, with a role, or with a status."""
        operation = Operation("GET", "/users", subjects.query(users.TYPE, users.SEARCH))
        args = given(q=q, role=role, status=status, sort=sort)
        return follow_pages(lambda at: self._entry.perform(operation, args | given(cursor=at)), User)

    async def patch(self, id: str, patch: Mapping[str, Any], *, if_match: int | None = None) -> User:
        """Change the full name, settings, roles or status by a merge patch (RFC 7396)."""
        operation = Operation.on("PATCH", USER, users.TYPE, id, "patch")
        options = Options(if_match=if_match)
        answer = await self._entry.perform(
            operation, patch, over_nats={"patch": patch}, media=MERGE_PATCH, options=options
        )
        return msgspec.convert(answer, User)

    async def activate(self, id: str) -> User:
        """Let a deactivated user log in again."""
        return await self._perform("POST", "/activate", id, "activate")

    async def deactivate(self, id: str) -> User:
        """End all sessions of a user, and refuse further logins."""
        return await self._perform("POST", "/deactivate", id, "deactivate")

    async def end_sessions(self, id: str) -> None:
        """End all sessions of a user."""
        await self._entry.perform(Operation.on("DELETE", USER + "/sessions", users.TYPE, id, "end_sessions"))

    async def erase(self, id: str, *, password: str | None = None) -> None:
        """Erase a user's data for good. Users who erase themselves give their password."""
        await self._entry.perform(Operation.on("DELETE", USER, users.TYPE, id, "erase"), given(password=password))

    async def _perform(self, verb: str, rest: str, id: str, method: str) -> User:
        return msgspec.convert(await self._entry.perform(Operation.on(verb, USER + rest, users.TYPE, id, method)), User)
