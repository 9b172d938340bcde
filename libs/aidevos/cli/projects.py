"""`aidevos projects`: projects and their members."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from typer import Argument, Option, Typer

from aidevos.cli.errors import NOT_FOUND, CommandError
from aidevos.cli.listing import Limit, at, given, patch, path_of
from aidevos.cli.output import Column, Json, Yes, confirm, print_fields, print_rows
from aidevos.cli.remote import call, read_all
from aidevos.cli.users import ME, find_user
from aidevos.client.api import HttpApi
from aidevos.client.errors import NotFound

COLUMNS: dict[str, Column] = {
    "ID": "id",
    "NAME": "name",
    "MEMBERS": lambda project: len(project["members"]),
    "CREATED": at("created_at"),
}
MEMBERS = {"USER": "user_id", "ROLE": "role"}
PROJECTS = "/projects"

Sort = Literal["created_at", "-created_at", "name", "-name"]
Role = Literal["viewer", "maintainer", "owner"]
Project = Annotated[str, Argument(metavar="PROJECT", help="The project's ID, or its name if only one has it.")]
User = Annotated[str, Argument(metavar="USER", help="A user's ID, name or e-mail address, or `me`.")]
app = Typer(help="List, create or change projects and their members.")


async def find_project(api: HttpApi, project: str) -> dict[str, Any]:
    """Return the project with this ID or name. Raises `CommandError` unless there is exactly one."""
    try:
        return dict(await api.call("GET", path_of("projects", project)))
    except NotFound:
        found = [each for each in await read_all(api, PROJECTS, params={"q": project[:100]}) if each["name"] == project]
    if len(found) == 1:
        return dict(found[0])
    if found:
        ids = ", ".join(each["id"] for each in found)
        raise CommandError(f"{len(found)} projects are called {project!r}: use the ID of one, {ids}")
    raise CommandError(f"there is no project {project!r}; `aidevos projects list` shows them", NOT_FOUND)


@app.command("list")
def list_projects(
    search: Annotated[str, Option(help="Part of a name or description.", show_default=False)] = "",
    member: Annotated[str, Option(metavar="USER", help="Only projects of this member.", show_default=False)] = "",
    sort: Annotated[Sort, Option(help="The order; a minus reverses it.")] = "created_at",
    limit: Limit = 0,
    as_json: Json = False,
) -> None:
    """List your projects; with `projects:manage`, all.

    Example: aidevos projects list --member me
    """

    async def work(api: HttpApi) -> list[Any]:
        user = (await find_user(api, member))["id"] if member not in ("", ME) else member
        return await read_all(api, PROJECTS, params=given(q=search, member=user, sort=sort), limit=limit)

    print_rows(call(work), COLUMNS, as_json=as_json)


@app.command("get")
def get_project(project: Project, as_json: Json = False) -> None:
    """Show a project.

    Example: aidevos projects get Engine
    """
    print_fields(call(lambda api: find_project(api, project)), as_json=as_json)


@app.command("create")
def create_project(
    name: Annotated[str, Argument(help="The new project's name.")],
    description: Annotated[str, Option(help="A text for people.", show_default=False)] = "",
    as_json: Json = False,
) -> None:
    """Create a project, which you own.

    Example: aidevos projects create Engine
    """
    body = {"name": name, "description": description}
    print_fields(call(lambda api: api.call("POST", PROJECTS, body=body)), as_json=as_json)


@app.command("change")
def change_project(
    project: Project,
    name: Annotated[str | None, Option(help="Another name.", show_default=False)] = None,
    description: Annotated[str | None, Option(help="Another text for people.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Change a project's name or description.

    Example: aidevos projects change Engine --name Motor
    """
    changes = {field: value for field, value in (("name", name), ("description", description)) if value is not None}
    if not changes:
        raise CommandError("say what to change: --name or --description")

    async def work(api: HttpApi) -> Any:
        found = await find_project(api, project)
        return await patch(api, path_of("projects", found["id"]), found, changes)

    print_fields(call(work), as_json=as_json)


@app.command("delete")
def delete_project(project: Project, yes: Yes = False) -> None:
    """Delete a project with its tasks, collections, objects and API keys.

    Example: aidevos projects delete Engine
    """
    found = call(lambda api: find_project(api, project))
    name = f"{found['name']} ({found['id']})"
    confirm(f"Delete the project {name} with its tasks, collections, objects and API keys for good?", yes=yes)
    gone = call(lambda api: api.call("DELETE", path_of("projects", found["id"])))
    removed = ", ".join(f"{'?' if count is None else count} {kind}" for kind, count in gone["removes"].items())
    print(f"the project {name} is deleted, with {removed}")


@app.command()
def members(project: Project, as_json: Json = False) -> None:
    """List the members of a project.

    Example: aidevos projects members Engine
    """

    async def work(api: HttpApi) -> Any:
        return await api.call("GET", path_of("projects", (await find_project(api, project))["id"], "members"))

    print_rows(call(work)["items"], MEMBERS, as_json=as_json)


@app.command()
def set_member(project: Project, user: User, role: Annotated[Role, Argument(help="What the member may do.")]) -> None:
    """Make a user a member of a project, or change a member's role.

    Example: aidevos projects set-member Engine grace maintainer
    """

    async def work(api: HttpApi) -> None:
        await api.call("PUT", await _member_path(api, project, user), body={"role": role})

    call(work)
    print(f"{user} is {role} of {project}")


@app.command()
def remove_member(project: Project, user: User) -> None:
    """Take a member out of a project.

    Example: aidevos projects remove-member Engine grace
    """

    async def work(api: HttpApi) -> None:
        await api.call("DELETE", await _member_path(api, project, user))

    call(work)
    print(f"{user} is no member of {project} any more")


async def _member_path(api: HttpApi, project: str, user: str) -> str:
    """Return the path of a member. Only its ID is needed, which callers know who may not read users."""
    found = await find_project(api, project)
    id = user if user == ME or user in found["members"] else (await find_user(api, user))["id"]
    return path_of("projects", found["id"], "members", id)
