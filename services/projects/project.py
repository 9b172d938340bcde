"""A project: its profile, its members, and its end.

Promises: a caller who isn't a member gets the same response as if the project didn't exist. There is
always an owner. A deleted project is gone for everyone with that commit, and its ID is never used
again. Its content is removed in the background, in bounded steps, each of which tells the next one in
its own commit. Latecomers are removed too: an object that joins a project tells the project, and a new
member is checked again in case the user was deleted meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, NewType, cast

import msgspec

from aidevos import BaseDurableObject, Event, Failure, Schema, command, inject, permission, query, services
from aidevos.contracts import objects, subjects, tasks, users
from aidevos.contracts.merge_patch import merge_patch
from aidevos.contracts.projects import (
    COUNT_OF_PROJECT,
    CREATE,
    HOLDER_TYPE,
    MANAGE,
    MAX_MEMBERS,
    OF_PROJECT,
    OF_USER,
    ROLE,
    SEARCH,
    TYPE,
    ChangedMember,
    Deletion,
    Description,
    FindProjects,
    Id,
    Member,
    MemberPage,
    Name,
    Project,
    ProjectBody,
    Role,
    WebhookSecret,
)
from aidevos.contracts.tasks import Kind, Status, TaskPage
from aidevos.contracts.times import rfc3339, timestamp
from aidevos.feeds.webhook_signatures import new_secret
from aidevos.projects.memberships import check_role
from aidevos.queries import And, Compare, Condition, Find, Includes, Reader, Search, Text, View
from aidevos.security.audit import record
from aidevos.security.permissions import Principal
from aidevos.security.sealed import Sealer
from aidevos.work.holders import held_view

from .rules import change_members, is_only_owner, role_of

log = logging.getLogger(__name__)
STEP = 100
# The types whose objects may belong to a project, keyed by their name in a deletion's response.
Belongings = NewType("Belongings", Mapping[str, str])
# Seconds for counting; content that takes longer is removed uncounted.
COUNT_WITHIN = 2.0
# Seconds for which a replaced secret stays valid.
SECRET_OVERLAP = 86_400.0
KNOWN = permission(CREATE) | permission(MANAGE)
# By each order, for all projects and for one user's; and one user's projects by ID.
INDEXES = (("created_at",), ("name",), ("users", "created_at"), ("users", "name"), ("users",), ("creator",))
_body: Schema[ProjectBody] = Schema(ProjectBody, "args.patch")


class ProjectState(msgspec.Struct):
    """The stored state; times are in seconds since the epoch.

    `users` are the IDs of `members`, by which the store finds the project. A project that is `deleting`
    or has `ended` keeps only its status and, in `leaving`, the types whose objects are still to be
    removed. `creator` is the user among whose projects it counts, empty after that user has left. It is
    `erased` if it ends with the deletion of a user. `types` are the custom types whose
    objects joined the project. `secret` signs webhooks; it is encrypted, and so is the former one,
    which stays valid for a while.
    """

    status: Literal["none", "active", "deleting", "ended"] = "none"
    name: str = ""
    description: str = ""
    settings: dict[str, Any] = {}
    creator: str = ""
    members: dict[str, Role] = {}
    users: list[str] = []
    created_at: float = 0.0
    updated_at: float = 0.0
    erased: bool = False
    leaving: list[str] = []
    types: list[str] = []
    secret: str = ""
    former_secret: str = ""
    former_until: float = 0.0


class Created(Event):
    version: int


class Updated(Event):
    version: int


class Deleted(Event):
    """The project is deleted; subscribers can remove their own data about it."""


class MemberChanged(Event):
    """The user's role from now on; None if the user is no longer a member."""

    user_id: str
    role: Role | None
    version: int


class OfUserArgs(msgspec.Struct, forbid_unknown_fields=True):
    user: str
    after: str = ""


async def answer_of_user(reader: Reader, args: OfUserArgs) -> list[str]:
    """Return the IDs of the next projects of which the user is a member."""
    after = (None, args.after) if args.after else None
    found = await reader.find(TYPE, Find(Includes(("users",), args.user), STEP, after=after, only=()))
    return [document.id for document in found]


class RoleArgs(msgspec.Struct, forbid_unknown_fields=True):
    project: str
    user: str


async def answer_role(reader: Reader, args: RoleArgs) -> Role | None:
    """Return a user's role in a project; None if the user isn't a member or the project doesn't exist."""
    found = (await reader.read(TYPE, [args.project])).get(args.project)
    if found is None:
        return None
    return msgspec.convert(found.state, ProjectState).members.get(args.user)


class RestrictedSearch(NamedTuple):
    """A search by a caller; `reader` is None if the caller may read all projects."""

    args: FindProjects
    reader: str | None


def restrict(caller: Principal, args: FindProjects) -> RestrictedSearch:
    if caller.project:
        raise Failure("forbidden", "this API key is valid only in its project: read the project by its ID")
    return RestrictedSearch(args, None if caller.has(MANAGE) else caller.subject)


def find(search: RestrictedSearch) -> Find:
    """Return the store's query for a search: the projects of which the reader is a member."""
    args = search.args
    where: list[Condition] = [Compare(("status",), "eq", "active")]
    if search.reader is not None:
        where.append(Includes(("users",), search.reader))
    if args.member is not None:
        where.append(Includes(("users",), args.member))
    if args.q:
        where.append(Text((("name",), ("description",)), args.q))
    order = (args.sort.removeprefix("-"),)
    return Find(And(tuple(where)), args.limit, order, descending=args.sort.startswith("-"))


def show(id: str, state: ProjectState, version: int) -> Project:
    """Return the project's public representation."""
    return Project(
        id=id,
        name=state.name,
        description=state.description,
        settings=state.settings,
        members=state.members,
        version=version,
        created_at=rfc3339(timestamp(state.created_at)),
        updated_at=rfc3339(timestamp(state.updated_at)),
    )


def no_project() -> Failure:
    """Return the failure for a project that doesn't exist or that the caller may not know about."""
    return Failure("not-found", "this project doesn't exist")


class ProjectDO(BaseDurableObject[ProjectState], type=TYPE, management="read_only"):
    """A project, its members and their roles."""

    project_aware = True
    belongings: Belongings = inject()
    sealer: Sealer = inject()
    searches = (Search(SEARCH, KNOWN, FindProjects, find, show, INDEXES, restrict),)
    views = (
        View(OF_USER, services(), OfUserArgs, answer_of_user),
        View(ROLE, services(), RoleArgs, answer_role),
        held_view(TYPE, ("creator",)),
    )

    @command(allow=permission(CREATE), creates=True)
    async def create(
        self, name: Name, description: Description = "", settings: dict[str, Any] | None = None
    ) -> Project:
        """Create the project, owned by the caller."""
        if self.state.status != "none":
            raise Failure("exists", "a project with this ID exists or existed")
        if not subjects.is_id(self.caller.subject) or self.caller.project:
            raise Failure("forbidden", "only a user can create a project, and not with an API key of another project")
        self.state = ProjectState(
            status="active",
            name=name,
            description=description,
            settings=settings or {},
            created_at=self.now,
            updated_at=self.now,
        )
        await self.call(HOLDER_TYPE, self.caller.subject, "reserve", id=self.id)
        self.state.creator = self.caller.subject
        self._set_members({self.caller.subject: "owner"})
        self.tell(TYPE, self.id, "verify", user_id=self.caller.subject)
        self.emit(Created(version=self.version + 1))
        return self._shown()

    @query(allow=KNOWN)
    async def read(self) -> Project:
        """Return the project. Members only."""
        self._admit("viewer")
        return show(self.id, self.state, self.version)

    @command(allow=KNOWN, checks_if_match=False)
    async def replace(
        self, name: Name, description: Description = "", settings: dict[str, Any] | None = None
    ) -> Project:
        """Replace the name, description and settings; the members stay."""
        self._admit_change("maintainer")
        return self._update(ProjectBody(name=name, description=description, settings=settings or {}))

    @command(allow=KNOWN, checks_if_match=False)
    async def patch(self, patch: dict[str, Any]) -> Project:
        """Change the name, description or settings by a JSON merge patch (RFC 7396)."""
        self._admit_change("maintainer")
        state = self.state
        current = {"name": state.name, "description": state.description, "settings": state.settings}
        return self._update(_body.convert(merge_patch(current, patch)))

    @query(allow=KNOWN)
    async def members(self) -> MemberPage:
        """Return the members, sorted by ID."""
        self._admit("viewer")
        items = [Member(user_id=user, role=role) for user, role in sorted(self.state.members.items())]
        return MemberPage(items=items, version=self.version)

    @command(allow=KNOWN, checks_if_match=False)
    async def set_member(self, user_id: Id, role: Role) -> ChangedMember:
        """Give a user a role in the project."""
        self._admit_change("owner")
        members = self.state.members
        if user_id not in members:
            if len(members) == MAX_MEMBERS:
                raise Failure("conflict", f"a project can have at most {MAX_MEMBERS} members")
            await self._check_user(user_id)
            self.tell(TYPE, self.id, "verify", user_id=user_id)
        if members.get(user_id) == role:
            return ChangedMember(user_id=user_id, role=role, version=self.version)
        self._change_member(user_id, role)
        return ChangedMember(user_id=user_id, role=role, version=self.version + 1)

    @command(allow=KNOWN, checks_if_match=False)
    async def remove_member(self, user_id: Id) -> None:
        """Remove a member; members may remove themselves."""
        self._admit_change("viewer" if user_id == self.caller.subject else "owner")
        if user_id not in self.state.members:
            raise Failure("not-found", "this user isn't a member")
        self._change_member(user_id, None)

    @command(allow=KNOWN, checks_if_match=False, name="delete")
    async def delete_project(self) -> Deletion:
        """Delete the project and all its content."""
        self._admit_change("owner")
        counts = await asyncio.gather(*map(self._count, self._types()))
        known = dict(zip(self.belongings, counts, strict=False))
        objects = counts[len(known) :]
        total = None if None in objects else sum(count or 0 for count in objects)
        self._begin_end(erased=False)
        return Deletion(id=self.id, removes={**known, "objects": total})

    @query(allow=KNOWN)
    async def tasks(
        self,
        limit: int = 50,
        cursor: str | None = None,
        status: Status | None = None,
        kind: Kind | None = None,
        sort: Literal["created_at", "-created_at"] = "created_at",
    ) -> TaskPage:
        """Return the project's tasks. Members only."""
        self._admit("viewer")
        page = await self.ask(
            tasks.TYPE,
            tasks.SEARCH,
            project=self.id,
            limit=limit,
            cursor=cursor,
            status=status,
            kind=kind,
            sort=sort,
        )
        return msgspec.convert(page, TaskPage)

    @command(allow=KNOWN, confidential=True, keeps_version=True)
    async def webhook_secret(self, renew: bool = False) -> WebhookSecret:
        """Return the secret that signs the project's webhooks. Owners only.

        With `renew`, it is replaced; for a day, messages are also signed with the former secret.
        """
        self._admit_change("owner")
        if renew and self.state.secret:
            self.state.former_secret, self.state.former_until = self.state.secret, self.now + SECRET_OVERLAP
            self.state.secret = ""
            record(self, "project.webhook_secret_renewed", target=self.id)
        return WebhookSecret(secret=self._secret())

    @command(allow=services(), confidential=True, keeps_version=True)
    async def signing_secrets(self) -> list[str]:
        """Return the secrets that sign the project's webhooks now."""
        if self.state.status != "active":
            raise no_project()
        secrets = [self._secret()]
        if self.state.former_until > self.now:
            secrets.append(self._open(self.state.former_secret))
        return secrets

    @query(allow=services())
    async def role_of(self, user_id: str) -> Role | None:
        """Return a user's role; None if the user isn't a member. Raises `not-found` without a project."""
        if self.state.status != "active":
            raise no_project()
        return self.state.members.get(user_id)

    @command(allow=services())
    async def verify(self, user_id: str) -> None:
        """Remove a member who was deleted before joining."""
        if user_id in self.state.members and await self.call(users.TYPE, user_id, "is_erased"):
            self._forget(user_id)

    @command(allow=services())
    async def forget(self, user_id: str) -> None:
        """Remove a deleted user; a project without another owner is deleted."""
        if user_id in self.state.members:
            self._forget(user_id)

    @command(allow=services(), keeps_version=True)
    async def confirm(self, type: str, id: str) -> None:
        """Register an object that belongs to the project, or remove it if the project has ended."""
        if self.state.status != "active":
            self._remove_object(type, id)
        elif type not in self._types():
            self.state.types.append(type)

    @command(allow=services())
    async def purge(self, type: str, after: str = "") -> None:
        """Remove one batch of a type's objects after an ID, and start the next batch.

        After the last batch of the last type, the project ends.
        """
        if type not in self.state.leaving:
            return
        found = await self._find(type, after)
        for id in found:
            self._remove_object(type, id)
        if found:
            self.tell(TYPE, self.id, "purge", type=type, after=found[-1])
            return
        self.state.leaving.remove(type)
        if self.state.leaving:
            return
        if self.state.erased:
            await self.forget_outcomes()
        self.state = ProjectState(status="ended")

    def _admit(self, needed: Role) -> None:
        role = role_of(self.caller, self.id, self.state.members)
        if self.state.status != "active" or role is None:
            raise no_project()
        check_role(role, needed)

    def _admit_change(self, needed: Role) -> None:
        self._admit(needed)
        self.check_if_match()

    def _secret(self) -> str:
        """Return the secret, which is made when it is first needed."""
        if not self.state.secret:
            self.state.secret = self.sealer.seal(new_secret().encode(), TYPE, self.id)
        return self._open(self.state.secret)

    def _open(self, sealed: str) -> str:
        return self.sealer.open(sealed, TYPE, self.id).decode()

    def _types(self) -> list[str]:
        """Return the types whose objects may belong to the project."""
        return [*self.belongings.values(), *self.state.types]

    def _remove_object(self, type: str, id: str) -> None:
        method = "vanish" if type in self.belongings.values() else objects.VANISH
        self.tell(type, id, method, project=self.id)

    async def _find(self, type: str, after: str) -> list[str]:
        """Return the next IDs of a type's objects in the project."""
        if type in self.belongings.values():
            return cast(list[str], await self.ask(type, OF_PROJECT, project=self.id, after=after))
        page = await self.ask(type, objects.LIST, project=self.id, cursor=after, limit=STEP)
        return [item["id"] for item in page["items"]]

    async def _count(self, type: str) -> int | None:
        """Return how many objects of a type belong to the project; None if counting takes too long."""
        try:
            async with asyncio.timeout(COUNT_WITHIN):
                if type in self.belongings.values():
                    return cast(int | None, await self.ask(type, COUNT_OF_PROJECT, project=self.id))
                page = await self.ask(type, objects.LIST, project=self.id, limit=1, count=True)
                return cast(int | None, page["count"])
        except (TimeoutError, Failure) as error:
            log.info("the objects of type %s in a project were not counted: %s", type, error)
            return None

    async def _check_user(self, user_id: str) -> None:
        try:
            await self.call(users.TYPE, user_id, "show")
        except Failure as failure:
            if failure.code == "not-found":
                raise Failure("invalid", "this user doesn't exist", field="args.user_id") from None
            raise

    def _update(self, body: ProjectBody) -> Project:
        state = self.state
        state.name, state.description, state.settings = body.name, body.description, body.settings
        state.updated_at = self.now
        self.emit(Updated(version=self.version + 1))
        return self._shown()

    def _change_member(self, user_id: str, role: Role | None) -> None:
        self._set_members(change_members(self.state.members, user_id, role))
        if role is None and user_id == self.state.creator:
            self._release()
        self.state.updated_at = self.now
        self.emit(MemberChanged(user_id=user_id, role=role, version=self.version + 1))
        record(self, "project.member_changed", target=self.id, reason=f"{user_id} {role or 'removed'}")

    def _set_members(self, members: dict[str, Role]) -> None:
        self.state.members, self.state.users = members, list(members)

    def _release(self) -> None:
        """Count the project no longer among those of its creator."""
        if self.state.creator:
            self.tell(HOLDER_TYPE, self.state.creator, "release", id=self.id)
            self.state.creator = ""

    def _forget(self, user_id: str) -> None:
        if is_only_owner(self.state.members, user_id):
            self._begin_end(erased=True)
        else:
            self._change_member(user_id, None)

    def _begin_end(self, *, erased: bool) -> None:
        self._release()
        self.state = ProjectState(status="deleting", erased=erased, leaving=self._types())
        for type in self.state.leaving:
            self.tell(TYPE, self.id, "purge", type=type)
        self.emit(Deleted())
        record(self, "project.deleted", target=self.id)

    def _shown(self) -> Project:
        """Return the project as this turn leaves it."""
        return show(self.id, self.state, self.version + 1)
