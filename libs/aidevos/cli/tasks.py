"""`aidevos tasks`: the tasks of projects, which run in the background."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from typer import Argument, Option, Typer

from aidevos.cli.arguments import parse_arguments, read_object
from aidevos.cli.errors import INCOMPLETE, CommandError
from aidevos.cli.listing import Limit, given, parse_moment, parse_span, path_of
from aidevos.cli.output import Column, Json, Yes, confirm, print_fields, print_rows
from aidevos.cli.progress import Progress
from aidevos.cli.projects import find_project
from aidevos.cli.remote import call, read_all
from aidevos.client.api import HttpApi

COLUMNS: dict[str, Column] = {
    "ID": "id",
    "KIND": "kind",
    "STATUS": "status",
    "DONE": lambda task: f"{task['progress']:.0%}",
    "TRIES": lambda task: f"{task['attempts']}/{task['retry']['max_attempts']}",
}
ENDED = ("succeeded", "failed", "cancelled")
# Seconds between two looks at a task.
LOOK_EVERY = 0.5

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Sort = Literal["created_at", "-created_at"]
Task = Annotated[str, Argument(metavar="TASK", help="The task's ID.")]
Project = Annotated[str, Argument(metavar="PROJECT", help="The project's ID, or its name if only one has it.")]
Wait = Annotated[bool, Option("--wait", help="Show its progress until it ends; status 3 unless it succeeds.")]
app = Typer(help="Create, list, watch or end the tasks of projects.")


@app.command("list")
def list_tasks(
    project: Project,
    status: Annotated[Status | None, Option(help="Only tasks with this status.", show_default=False)] = None,
    kind: Annotated[str, Option(help="Only tasks of this kind.", show_default=False)] = "",
    sort: Annotated[Sort, Option(help="The order; a minus reverses it.")] = "-created_at",
    limit: Limit = 0,
    as_json: Json = False,
) -> None:
    """List the tasks of a project, the latest first.

    Example: aidevos tasks list Engine --status failed
    """
    params = given(status=status, kind=kind, sort=sort)

    async def work(api: HttpApi) -> list[Any]:
        path = path_of("projects", (await find_project(api, project))["id"], "tasks")
        return await read_all(api, path, params=params, limit=limit)

    print_rows(call(work), COLUMNS, as_json=as_json)


@app.command("get")
def get_task(id: Task, as_json: Json = False) -> None:
    """Show a task with its payload, and its result or error.

    Example: aidevos tasks get 0f3c5a5e6d1b4c0f9b7f3f6b7f1e2d3c
    """
    print_fields(call(lambda api: api.call("GET", path_of("tasks", id))), as_json=as_json)


@app.command("create")
def create_task(
    project: Project,
    kind: Annotated[str, Argument(help="The kind, such as data.export or one of your own.")],
    pairs: Annotated[list[str] | None, Argument(metavar="[KEY=VALUE]...", help="The payload.")] = None,
    payload: Annotated[str, Option(metavar="JSON|-", help="More of it in JSON, or - for standard input.")] = "",
    priority: Annotated[int | None, Option(min=-100, max=100, help="Higher ones run first.")] = None,
    run_at: Annotated[str, Option(metavar="TIME", help="Not before: a time, or a span from now, such as 2h.")] = "",
    timeout: Annotated[str, Option(metavar="TIME", help="How long an attempt may take, such as 10m.")] = "",
    attempts: Annotated[int | None, Option(min=1, max=100, help="The most attempts.")] = None,
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Queue a task.

    Example: aidevos tasks create Engine data.export collection=parts --wait
    """
    body = {
        "kind": kind,
        "payload": parse_arguments(pairs or []) | (read_object(payload, "--payload") if payload else {}),
    }
    body |= given(priority=priority, run_at=run_at and parse_moment(run_at, "--run-at"))
    body |= given(timeout=timeout and parse_span(timeout, "--timeout"), retry=attempts and {"max_attempts": attempts})

    async def work(api: HttpApi) -> Any:
        return await api.call("POST", path_of("projects", (await find_project(api, project))["id"], "tasks"), body=body)

    _show(call(work), wait=wait, as_json=as_json)


@app.command("watch")
def watch_task(id: Task, as_json: Json = False) -> None:
    """Show a task's progress until it ends, and then the task. Status 3 unless it succeeds.

    Example: aidevos tasks watch 0f3c5a5e6d1b4c0f9b7f3f6b7f1e2d3c
    """
    _show(call(lambda api: api.call("GET", path_of("tasks", id))), wait=True, as_json=as_json)


@app.command("retry")
def retry_task(id: Task, wait: Wait = False, as_json: Json = False) -> None:
    """Queue a task again that has failed or was cancelled.

    Example: aidevos tasks retry 0f3c5a5e6d1b4c0f9b7f3f6b7f1e2d3c --wait
    """
    _show(call(lambda api: api.call("POST", path_of("tasks", id, "retry"))), wait=wait, as_json=as_json)


@app.command("cancel")
def cancel_task(id: Task, as_json: Json = False) -> None:
    """Cancel a task; a running attempt is stopped.

    Example: aidevos tasks cancel 0f3c5a5e6d1b4c0f9b7f3f6b7f1e2d3c
    """
    print_fields(call(lambda api: api.call("POST", path_of("tasks", id, "cancel"))), as_json=as_json)


@app.command("delete")
def delete_tasks(
    ids: Annotated[list[str], Argument(metavar="TASK...", help="The tasks' IDs.")],
    yes: Yes = False,
) -> None:
    """Delete tasks with their results.

    Example: aidevos tasks delete 0f3c5a5e6d1b4c0f9b7f3f6b7f1e2d3c
    """
    confirm(f"Delete {', '.join(ids)} with all results?", yes=yes)

    async def work(api: HttpApi) -> None:
        for id in ids:
            await api.call("DELETE", path_of("tasks", id))
            print(f"{id} is deleted", flush=True)

    call(work)


def _show(task: dict[str, Any], *, wait: bool, as_json: bool) -> None:
    """Print a task, at its end if that is waited for. Raises `CommandError` if it ends without success."""
    if wait:
        with Progress(task["kind"]) as progress:
            progress.expect(100)
            task = call(lambda api: _follow(api, task, progress))
    print_fields(task, as_json=as_json)
    if wait and task["status"] != "succeeded":
        error = f": {task['error']['code']}: {task['error']['detail']}" if task["error"] else ""
        raise CommandError(f"the task has {task['status']}{error}", INCOMPLETE)


async def _follow(api: HttpApi, task: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Return the task at its end."""
    shown = 0
    while task["status"] not in ENDED:
        await asyncio.sleep(LOOK_EVERY)
        task = await api.call("GET", path_of("tasks", task["id"]))
        progress.say(f"{task['kind']} {task['status']}, attempt {task['attempts']}")
        done = round(100 * task["progress"])
        progress.advance(done - shown)
        shown = done
    return task
