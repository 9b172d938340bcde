"""The part of the API's description that is about projects and tasks."""

from __future__ import annotations

from aidevos.contracts import projects, subjects, tasks

from .bodies import MERGE_PATCH
from .openapi_parts import (
    CHANGE,
    CHANGING,
    COMMON,
    ETAG,
    LOCATION,
    READING,
    UNCHANGED,
    Json,
    content,
    given,
    operation,
    parameter,
    reference,
    schemas_of,
    sent,
)

TAG: Json = {"name": "projects", "description": "Projects, their members and their tasks"}
# What the roles in a project let their members do.
ABOUT = {
    "viewer": "For members.",
    "maintainer": "For maintainers and owners.",
    "owner": "For owners.",
}
NEEDED = " Needs `projects:create`, with which others are told that there is nothing, or `projects:manage`."


def schemas() -> Json:
    found = schemas_of(
        projects.ChangedMember,
        projects.Deletion,
        projects.MemberBody,
        projects.MemberPage,
        projects.Project,
        projects.ProjectBody,
        projects.ProjectPage,
        projects.RenewBody,
        projects.WebhookSecret,
        tasks.CreateTaskBody,
        tasks.Task,
        tasks.TaskPage,
        *tasks.KINDS.values(),
    )
    found["CreateTaskBody"]["properties"]["payload"] = {
        "description": "By the kind: " + ", ".join(f"`{kind}`: {type.__name__}" for kind, type in tasks.KINDS.items()),
        "type": "object",
        "default": {},
    }
    return found


def parameters() -> Json:
    id = f"^{subjects.ID_PATTERN}$"
    return {
        "project_id": parameter("project_id", "path", id, "A project's ID"),
        "member_id": parameter("user_id", "path", id, "A user's ID, or `me`"),
        "task_id": parameter("task_id", "path", id, "A task's ID"),
        "project_q": parameter("q", "query", r"^[^\x00-\x1f]{0,100}$", "A part of the name or the description"),
        "member": parameter("member", "query", id, "Only projects with this member: a user's ID, or `me`"),
        "project_sort": parameter("sort", "query", "^-?(created_at|name)$", "The order, with a minus from the last on"),
        "task_status": parameter(
            "status", "query", "^(queued|running|succeeded|failed|cancelled)$", "Only tasks of this status"
        ),
        "kind": parameter("kind", "query", f"^{tasks.KIND_PATTERN}$", "Only tasks of this kind"),
        "task_sort": parameter("sort", "query", "^-?created_at$", "The order, with a minus from the last on"),
    }


def paths() -> Json:
    return _project_paths() | _member_paths() | _webhook_paths() | _task_paths()


def _project_paths() -> Json:
    shown = content("The project", reference("Project"), ETAG)
    made = content("The project", reference("Project"), ETAG | LOCATION)
    return {
        "/projects": {
            "get": _reading(
                "search_projects",
                "The projects that the caller may read",
                {"200": content("One page", reference("ProjectPage"))},
                "Those of which the caller is a member; with `projects:manage` all.",
                ("limit", "cursor", "project_q", "member", "project_sort", "Deadline"),
            ),
            "post": _changing(
                "create_project",
                "Make a project",
                {"201": made},
                "Needs `projects:create`. The caller is its owner.",
                reference("ProjectBody"),
            ),
        },
        "/projects/{project_id}": {
            **given("project_id"),
            "get": _reading("read_project", "Show a project", {"200": shown} | UNCHANGED, _about("viewer")),
            "put": _changing(
                "replace_project", "Replace a project", {"200": shown}, _about("maintainer"), reference("ProjectBody")
            ),
            "patch": _patching("patch_project", "Change a project", shown),
            "delete": _changing(
                "delete_project",
                "Delete a project with all that it has",
                {"202": content("It is gone, and what it had is going", reference("Deletion"))},
                _about("owner"),
            ),
        },
    }


def _member_paths() -> Json:
    changed = content("The member", reference("ChangedMember"), ETAG)
    listed = content("All members", reference("MemberPage"), ETAG)
    return {
        "/projects/{project_id}/members": {
            **given("project_id"),
            "get": _reading("list_members", "A project's members", {"200": listed} | UNCHANGED, _about("viewer")),
        },
        "/projects/{project_id}/members/{user_id}": {
            **given("project_id", "member_id"),
            "put": _changing(
                "set_member",
                "Give a user a role in a project",
                {"200": changed},
                _about("owner"),
                reference("MemberBody"),
            ),
            "delete": _changing(
                "remove_member",
                "Take a member out of a project",
                {"204": {"description": "No member any more"}},
                "For owners, and for the member. The last owner stays." + NEEDED,
            ),
        },
    }


def _webhook_paths() -> Json:
    return {
        "/projects/{project_id}/webhook-secret": {
            **given("project_id"),
            "post": _changing(
                "webhook_secret",
                "Show the secret that webhooks are signed with, or renew it",
                {"200": content("The secret", reference("WebhookSecret"))},
                _about("owner") + " After a renewal messages are signed with the former secret too, for a day.",
                reference("RenewBody"),
            ),
        },
    }


def _task_paths() -> Json:
    shown = content("The task", reference("Task"), ETAG)
    made = content("The task", reference("Task"), ETAG | LOCATION)
    return {
        "/projects/{project_id}/tasks": {
            **given("project_id"),
            "get": _reading(
                "list_tasks",
                "A project's tasks",
                {"200": content("One page", reference("TaskPage"))},
                _about("viewer"),
                ("limit", "cursor", "task_status", "kind", "task_sort", "Deadline"),
            ),
            "post": _changing(
                "create_task", "Queue a task", {"201": made}, _about("maintainer"), reference("CreateTaskBody")
            ),
        },
        "/tasks/{task_id}": {
            **given("task_id"),
            "get": _reading("read_task", "Show a task", {"200": shown} | UNCHANGED, _about("viewer")),
            "patch": _patching("patch_task", "Change a task that is queued", shown),
            "delete": _changing(
                "delete_task", "Delete a task", {"204": {"description": "Deleted"}}, _about("maintainer")
            ),
        },
        "/tasks/{task_id}/cancel": {
            **given("task_id"),
            "post": _changing("cancel_task", "Cancel a task", {"200": shown}, _about("maintainer")),
        },
        "/tasks/{task_id}/retry": {
            **given("task_id"),
            "post": _changing(
                "retry_task", "Queue a failed or cancelled task again", {"200": shown}, _about("maintainer")
            ),
        },
    }


def _about(role: str) -> str:
    return ABOUT[role] + NEEDED


def _reading(
    operation_id: str, summary: str, responses: Json, description: str, given: tuple[str, ...] = READING
) -> Json:
    return operation(operation_id, "projects", summary, responses, COMMON, given, description=description)


def _changing(operation_id: str, summary: str, responses: Json, description: str, body: Json | None = None) -> Json:
    return operation(operation_id, "projects", summary, responses, CHANGE, CHANGING, body, description)


def _patching(operation_id: str, summary: str, shown: Json) -> Json:
    described = _changing(operation_id, f"{summary} by a merge patch (RFC 7396)", {"200": shown}, _about("maintainer"))
    schema = {"type": "object"}
    return described | sent(schema, MERGE_PATCH)
