"""`aidevos types`: the object types that the fleet knows, and the removal of those that no host serves any more."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Context, Option, Typer

from aidevos.cli.listing import at, path_of
from aidevos.cli.output import Json, print_rows
from aidevos.cli.remote import call

TYPES = "/fleet/types"
COLUMNS = {
    "TYPE": "type",
    "LAST SERVED": at("announced_at"),
    "STATE": lambda entry: "served" if entry["served"] else "not served",
}
app = Typer(help="List, forget or print (--typescript) the fleet's object types.")


@app.callback(invoke_without_command=True)
def types(
    context: Context,
    typescript: Annotated[
        bool, Option("--typescript", help="Print the types of objects, collections and events for the client.")
    ] = False,
) -> None:
    if typescript:
        from aidevos.cli import typescript as module

        print(call(module.fetch), end="")
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command("list")
def list_types(as_json: Json = False) -> None:
    """Show every type, and when a host last announced that it serves it.

    Example: aidevos types list
    """
    print_rows(call(lambda api: api.call("GET", TYPES))["types"], COLUMNS, as_json=as_json)


@app.command()
def forget(type: Annotated[str, Argument(help="The type's name.")]) -> None:
    """Remove a type that no host serves from lists and documents; its objects stay in the database.

    Example: aidevos types forget cart
    """
    call(lambda api: api.call("DELETE", TYPES + path_of(type)))
