"""`/projects` with their members and tasks, and `/tasks`."""

from __future__ import annotations

from typing import Any

import msgspec

from aidevos.contracts import projects, subjects, tasks
from aidevos.contracts.projects import MemberBody, Project, ProjectBody
from aidevos.contracts.tasks import CreateTaskBody, Task

from ..http import parameters
from ..http.parameters import ID_PATTERN, PAGE, text, variable
from ..http.request import HttpRequest
from .api_router import APIRouter
from .operation import Target, create, delete, get, in_path, patch, post, put

ME = "me"
# The payload and the other fields.
TASK_LIMIT = tasks.PAYLOAD_LIMIT + 16 * 1024
PROJECTS, PROJECT, TASK = "/projects", "/projects/{project_id}", "/tasks/{task_id}"
MEMBER = f"{PROJECT}/members/{{user_id}}"
SEARCH = subjects.query(projects.TYPE, projects.SEARCH)
OF_ID = Target(projects.TYPE, in_path("project_id", "project"))
BY_ID = Target(tasks.TYPE, in_path("task_id", "task"))
FINDING = (
    text("q", "Part of the name or description", r"^[^\x00-\x1f]{0,100}$"),
    text("member", "Only projects with this member: a user's ID, or `me`", ID_PATTERN),
    text("sort", "The order; a minus reverses it", "^-?(created_at|name)$"),
)
LISTING = (
    text("status", "Only tasks with this status", "^(queued|running|succeeded|failed|cancelled)$"),
    text("kind", "Only tasks of this kind", f"^{tasks.KIND_PATTERN}$"),
    text("sort", "The order; a minus reverses it", "^-?created_at$"),
)
_NEEDED = " Requires `projects:create`, or `projects:manage` for any project; others get `not-found`."
VIEWERS = f"For members.{_NEEDED}"
OWNERS = f"For owners.{_NEEDED}"
LEAVERS = f"For owners and for the member. The last owner can't be removed.{_NEEDED}"
READABLE = "Shows the caller's projects; with `projects:manage`, all projects."
RENEWAL = "For a day after a renewal, messages are also signed with the former secret."
KINDS = "The type of the payload depends on the kind: " + ", ".join(
    f"`{kind}`: {type.__name__}" for kind, type in tasks.KINDS.items()
)
EXAMPLE = {"kind": "report", "payload": {"month": "2026-11"}}


def _search(request: HttpRequest, body: None) -> dict[str, Any]:
    wanted = {**request.parameters, "limit": parameters.parse_limit(request.parameters)}
    return wanted | {"member": request.principal.subject} if wanted.get("member") == ME else wanted


def _user(request: HttpRequest, body: None = None) -> dict[str, str]:
    id = request.path["user_id"]
    return {"user_id": request.principal.subject if id == ME else id}


def _member(request: HttpRequest, body: MemberBody) -> dict[str, str]:
    return {**_user(request), "role": body.role}


def _task(request: HttpRequest, body: CreateTaskBody) -> dict[str, Any]:
    return {**msgspec.structs.asdict(body), "project": OF_ID.id(request, None)}


class ProjectRouter(APIRouter):
    """`/projects` and `/tasks`."""

    tag = "projects"
    about = "Projects, their members and their tasks"
    needs = f"For maintainers and owners.{_NEEDED}"
    variables = (
        variable("project_id", "A project's ID", ID_PATTERN),
        variable("user_id", "A user's ID, or `me`", ID_PATTERN),
        variable("task_id", "A task's ID", ID_PATTERN),
    )
    types = tuple(tasks.KINDS.values())
    # fmt: off
    rows = (
        get(PROJECTS, "search_projects", "Find projects", SEARCH, projects.ProjectPage, query=(*PAGE, *FINDING),
            args=_search, needs=READABLE),
        create(PROJECTS, "create_project", "Create a project, owned by the caller", projects.TYPE, Project, ProjectBody,
               needs="Requires `projects:create`."),
        get(PROJECT, "read_project", "Show a project", OF_ID, Project, needs=VIEWERS),
        put(PROJECT, "replace_project", "Replace a project", OF_ID, Project, ProjectBody),
        patch(PROJECT, "patch_project", "Change a project", OF_ID, Project, ProjectBody),
        delete(PROJECT, "delete_project", "Delete a project and all its content", (OF_ID, "delete"),
               projects.Deletion, status=202, needs=OWNERS),
        get(f"{PROJECT}/members", "list_members", "List all members", (OF_ID, "members"), projects.MemberPage,
            needs=VIEWERS),
        put(MEMBER, "set_member", "Give a user a role in a project", (OF_ID, "set_member"), projects.ChangedMember,
            MemberBody, args=_member, needs=OWNERS),
        delete(MEMBER, "remove_member", "Remove a member from a project", (OF_ID, "remove_member"), args=_user,
               needs=LEAVERS),
        post(f"{PROJECT}/webhook-secret", "webhook_secret", "Show the secret that signs webhooks, or renew it",
             (OF_ID, "webhook_secret"), projects.WebhookSecret, projects.RenewBody, about=RENEWAL, needs=OWNERS),
        get(f"{PROJECT}/tasks", "list_tasks", "List a project's tasks", (OF_ID, "tasks"), tasks.TaskPage,
            query=(*PAGE, *LISTING), needs=VIEWERS),
        create(f"{PROJECT}/tasks", "create_task", "Queue a task", tasks.TYPE, Task, CreateTaskBody, limit=TASK_LIMIT,
               args=_task, location="/tasks/{id}", about=KINDS, example=EXAMPLE),
        get(TASK, "read_task", "Show a task", BY_ID, Task, needs=VIEWERS),
        patch(TASK, "patch_task", "Change a queued task", BY_ID, Task, CreateTaskBody, limit=TASK_LIMIT),
        delete(TASK, "delete_task", "Delete a task", (BY_ID, "delete")),
        post(f"{TASK}/cancel", "cancel_task", "Cancel a task", (BY_ID, "cancel"), Task),
        post(f"{TASK}/retry", "retry_task", "Queue a failed or cancelled task again", (BY_ID, "retry"), Task),
    )
    # fmt: on
