"""`aidevos roles`: roles and their permissions."""

from __future__ import annotations

from typing import Annotated, Any

from typer import Argument, Option, Typer

from aidevos.cli.errors import CommandError
from aidevos.cli.listing import Limit, path_of
from aidevos.cli.output import Json, Yes, confirm, print_fields, print_rows
from aidevos.cli.remote import call, read_all
from aidevos.client.api import HttpApi

COLUMNS = {"NAME": "name", "PERMISSIONS": "permissions", "BUILT IN": "builtin", "DESCRIPTION": "description"}

Name = Annotated[str, Argument(metavar="ROLE", help="The role's name.")]
Permissions = Annotated[list[str], Argument(metavar="PERMISSION...", help="Permissions, such as cart:write.")]
Description = Annotated[str | None, Option(help="A text for people.", show_default=False)]
app = Typer(help="List, create or change roles.")


@app.command("list")
def list_roles(limit: Limit = 0, as_json: Json = False) -> None:
    """List roles by name.

    Example: aidevos roles list
    """
    print_rows(call(lambda api: read_all(api, "/roles", limit=limit)), COLUMNS, as_json=as_json)


@app.command("get")
def get_role(name: Name, as_json: Json = False) -> None:
    """Show a role.

    Example: aidevos roles get clerk
    """
    print_fields(call(lambda api: api.call("GET", path_of("roles", name))), as_json=as_json)


@app.command("create")
def create_role(name: Name, permissions: Permissions, description: Description = None, as_json: Json = False) -> None:
    """Create a role.

    Example: aidevos roles create clerk users:read audit:read
    """
    body = {"name": name, "permissions": permissions, "description": description or ""}
    print_fields(call(lambda api: api.call("POST", "/roles", body=body)), as_json=as_json)


@app.command("change")
def change_role(
    name: Name,
    add: Annotated[list[str] | None, Option(metavar="PERMISSION", help="A further permission.")] = None,
    remove: Annotated[list[str] | None, Option(metavar="PERMISSION", help="A permission to take away.")] = None,
    description: Description = None,
    as_json: Json = False,
) -> None:
    """Change a role's permissions, which count everywhere within a second.

    Example: aidevos roles change clerk --add data:read --remove audit:read
    """
    if not add and not remove and description is None:
        raise CommandError("say what to change: --add, --remove or --description")

    async def work(api: HttpApi) -> Any:
        path = path_of("roles", name)
        role = await api.call("GET", path)
        permissions = [*dict.fromkeys([*role["permissions"], *(add or [])])]
        body = {
            "permissions": [each for each in permissions if each not in (remove or [])],
            "description": role["description"] if description is None else description,
        }
        return await api.call("PUT", path, body=body, headers={"If-Match": f'"{role["version"]}"'})

    print_fields(call(work), as_json=as_json)


@app.command("delete")
def delete_role(name: Name, yes: Yes = False) -> None:
    """Delete a role that no user has.

    Example: aidevos roles delete clerk
    """
    confirm(f"Delete the role {name}?", yes=yes)
    call(lambda api: api.call("DELETE", path_of("roles", name)))
    print(f"the role {name} is deleted")
