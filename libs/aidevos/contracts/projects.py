"""Projects and their members as both doors show them, and the messages of the type `project`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from aidevos.contracts import subjects
from aidevos.contracts.patterns import whole

TYPE = "project"
# A search over the projects that the caller may read: `query.project.search`.
SEARCH = "search"
# For services: what a user is in a project, `query.project.role`, in which projects it is something,
# `query.project.of_user`, which objects of a type belong to a project, `query.<type>.of_project`, and how many.
ROLE = "role"
OF_USER = "of_user"
OF_PROJECT = "of_project"
COUNT_OF_PROJECT = "count_of_project"
# What a user's departure from its projects is called: `do.departure.<user>.begin`.
DEPARTURE_TYPE = "departure"
CREATE = "projects:create"
MANAGE = "projects:manage"

MAX_MEMBERS = 1000

# From the one that may least to the one that may most.
Role = Literal["viewer", "maintainer", "owner"]
Id = Annotated[str, Meta(pattern=whole(subjects.ID_PATTERN))]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Description = Annotated[str, Meta(max_length=2000)]
Text = Annotated[str, Meta(max_length=100, pattern=whole(r"[^\x00-\x1f]*"))]


class Project(msgspec.Struct, kw_only=True):
    """A project as both doors show one. `settings` are its members' own, of any shape; `members` are the
    users' roles by their IDs; `version` is the ETag; times are RFC 3339 in UTC."""

    id: str
    name: str
    description: str
    settings: dict[str, Any]
    members: dict[str, Role]
    status: Literal["active"] = "active"
    version: int
    created_at: str
    updated_at: str


class ProjectBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /projects` and `PUT /projects/{project_id}`, and the arguments of `create` and `replace`."""

    name: Name
    description: Description = ""
    settings: dict[str, Any] = {}


class Member(msgspec.Struct, kw_only=True):
    user_id: str
    role: Role


class MemberPage(msgspec.Struct, kw_only=True):
    """All members; `version` is the project's."""

    items: list[Member]
    version: int


class ChangedMember(Member, kw_only=True):
    """A member after a change; `version` is the project's."""

    version: int


class MemberBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `PUT /projects/{project_id}/members/{user_id}`."""

    role: Role


class Deletion(msgspec.Struct, kw_only=True):
    """The answer to a deletion: the project is gone for everyone, and what it had goes in the background.
    `removes` counts that by kind; null is more than could be counted in time."""

    id: str
    status: Literal["deleting"] = "deleting"
    removes: dict[str, int | None]


class FindProjects(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The arguments of `query.project.search`, and the parameters of `GET /projects`. `q` is a part of the
    name or the description, `member` the ID of one of the users."""

    limit: int = 50
    cursor: str | None = None
    q: Text = ""
    member: Id | None = None
    sort: Literal["created_at", "-created_at", "name", "-name"] = "created_at"


class ProjectPage(msgspec.Struct, kw_only=True):
    items: list[Project]
    next_cursor: str | None = None


class RenewBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /projects/{project_id}/webhook-secret`."""

    renew: bool = False


class WebhookSecret(msgspec.Struct, kw_only=True):
    """What a project's webhooks are signed with, as Standard Webhooks spells it: `whsec_…`."""

    secret: str
