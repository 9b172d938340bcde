"""Projects and their members as both entry points show them, and the messages of the type `project`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from aidevos.contracts import subjects
from aidevos.contracts.patterns import whole

TYPE = "project"
# The search over the projects that the caller may read: `query.project.search`.
SEARCH = "search"
# For services: a user's role in a project, `query.project.role`; the projects of a user, `query.project.of_user`;
# a type's objects in a project, `query.<type>.of_project`; and their number, `query.<type>.count_of_project`.
ROLE = "role"
OF_USER = "of_user"
OF_PROJECT = "of_project"
COUNT_OF_PROJECT = "count_of_project"
# The type that removes a deleted user from all projects: `do.departure.<user>.begin`.
DEPARTURE_TYPE = "departure"
# The type whose object, under a user's ID, bounds the user's projects.
HOLDER_TYPE = "project_holder"
CREATE = "projects:create"
MANAGE = "projects:manage"

MAX_MEMBERS = 1000

# In order of increasing permissions.
Role = Literal["viewer", "maintainer", "owner"]
Id = Annotated[str, Meta(pattern=whole(subjects.ID_PATTERN))]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Description = Annotated[str, Meta(max_length=2000)]
Text = Annotated[str, Meta(max_length=100, pattern=whole(r"[^\x00-\x1f]*"))]


class Project(msgspec.Struct, kw_only=True):
    """A project as both entry points show it.

    `settings` are chosen by the members and may have any shape. `members` maps user IDs to roles.
    `version` is the ETag. Times are RFC 3339 in UTC.
    """

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
    """All members of a project; `version` is the project's."""

    items: list[Member]
    version: int


class ChangedMember(Member, kw_only=True):
    """A member after a change; `version` is the project's."""

    version: int


class MemberBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `PUT /projects/{project_id}/members/{user_id}`."""

    role: Role


class Deletion(msgspec.Struct, kw_only=True):
    """The response to a deletion: the project is gone at once, and its content is deleted in the background.

    `removes` counts that content by kind; null means that there was too much to count in time.
    """

    id: str
    status: Literal["deleting"] = "deleting"
    removes: dict[str, int | None]


class FindProjects(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The arguments of `query.project.search`, and the parameters of `GET /projects`.

    `q` is part of the name or description, `member` the ID of a member.
    """

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
    """The secret that signs a project's webhooks, in the form of Standard Webhooks: `whsec_…`."""

    secret: str
