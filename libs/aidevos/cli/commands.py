"""The commands of `aidevos`, a row each. The module of a command is loaded when it runs, or shows its own help.

Promise: the list of commands, its completion and suggestions for misspelt names load no command.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, Any, NamedTuple

from typer import Exit, Option, Typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

PACKAGE = "aidevos.cli"
HELP = """Self-hosted durable objects on NATS and MongoDB.

Commands use the fleet of the context in use (see `aidevos login`), or else the one on this machine under AIDEVOS_HOME,
as its administrator.
"""


class Row(NamedTuple):
    """A command's name, its source, and its line of help.

    The source is `module:name` of a function or a `Typer` in this package, or the rows of a group.
    """

    name: str
    source: str | tuple[Row, ...]
    about: str


OBJECTS = (
    Row("list", "objects:list_objects", "List objects by type and ID."),
    Row("count", "objects:count", "Print the number of objects."),
    Row("get", "objects:get", "Show an object with its state."),
    Row("call", "objects:call_method", "Call a method of an object, and print its result as JSON."),
    Row("search", "objects:search", "Ask a search or view of a type."),
    Row("watch", "objects:watch", "Show an object whenever it changes, until Ctrl-C."),
    Row("history", "objects:history", "List the versions of an object, the newest first, or show one."),
    Row("delete", "objects:delete", "Delete objects."),
    Row("export", "transfers:export_objects", "Write the objects of a type as lines of JSON."),
    Row("import", "transfers:import_objects", "Load objects from lines of JSON."),
    Row("migrate", "migrate:migrate", "Try every stored state, and rewrite those of older schemas."),
)
DATA = (
    Row("collections", "data:list_collections", "List the collections and how many items they have."),
    Row("config", "data:show_config", "Show the configuration of a collection."),
    Row("configure", "data:configure", "Create a collection, or replace its configuration."),
    Row("drop", "data:drop_collection", "Delete a collection with all its items."),
    Row("get", "data:get_item", "Show an item."),
    Row("put", "data:put_item", "Create an item, or replace its data."),
    Row("patch", "data:patch_item", "Change parts of an item's data."),
    Row("delete", "data:delete_items", "Delete items."),
    Row("find", "data:find_items", "Find items."),
    Row("history", "data:show_history", "List the versions of an item, the latest first."),
    Row("restore", "data:restore_item", "Give an item the data of an earlier version."),
    Row("export", "data_files:export_items", "Write the items of a collection as lines of JSON."),
    Row("import", "data_files:import_items", "Create items from lines of JSON."),
)
COMMANDS: dict[str, tuple[Row, ...]] = {
    "The fleet on this machine": (
        Row("up", "local:up", "Start the fleet on this machine."),
        Row("down", "local:down", "End the fleet on this machine."),
        Row("restart", "local:restart", "Replace processes one by one, without losing a request."),
        Row("scale", "local:scale", "Change the number of a service's processes."),
        Row("logs", "logs:logs", "Show what the fleet's processes log, merged by time."),
        Row("doctor", "doctor.command:doctor", "Examine the fleet, and say what to do."),
        Row("backup", "backup:backup", "Copy the whole fleet into a folder or a bucket."),
        Row("restore", "backup:restore", "Restore a copy, as a whole or in parts."),
        Row("signing-keys", "signing_keys:app", "Show or rotate the keys that sign access tokens."),
        Row("nats-user", "nats_users:nats_user", "Create, list or remove users of the NATS server."),
    ),
    "Your code": (
        Row("new", "new.command:app", "Create a project, or add an object or a task to one."),
        Row("dev", "dev.command:dev", "Serve your code, and each change of it at once."),
        Row("serve", "serving:serve", "Host your own object types in the running fleet."),
        Row("work", "serving:work", "Run your own kinds of tasks in the running fleet."),
        Row("grant", "serving:grant", "Let a service host your own object types."),
        Row("types", "types:app", "List, forget or print (--typescript) the fleet's object types."),
    ),
    "Any fleet": (
        Row("login", "login:login", "Log in to a fleet, and use it from now on."),
        Row("logout", "login:logout", "End a login, on its fleet too, and forget its credentials."),
        Row("context", "context:app", "Choose the fleet that commands use."),
        Row("fleet", "hosts:fleet", "Show the hosts of the fleet in use."),
        Row("ps", "ps:ps", "Show the processes of the fleet, and how each answers."),
        Row("settings", "settings:settings", "Show every setting and where its value comes from."),
        Row("objects", OBJECTS, "Show, call, watch, move or delete objects."),
        Row("events", "events:app", "Follow events as they happen."),
        Row("mcp", "mcp:mcp", "Serve the fleet to a coding agent, over standard input and output."),
        Row("token", "tokens:token", "Print an access token."),
        Row("tokens", "tokens:app", "List or revoke the tokens that `aidevos token` has printed."),
        Row("openapi", "openapi:openapi", "Print the OpenAPI document of the fleet."),
        Row("asyncapi", "openapi:asyncapi", "Print the AsyncAPI document of the NATS interface."),
    ),
    "Ready-made services": (
        Row("users", "users:app", "List, create or change users."),
        Row("roles", "roles:app", "List, create or change roles."),
        Row("keys", "keys:app", "Create, list or revoke API keys."),
        Row("data", DATA, "Read, write, import or export collections and their items."),
        Row("projects", "projects:app", "List, create or change projects and their members."),
        Row("tasks", "tasks:app", "Create, list, watch or end the tasks of projects."),
        Row("webhooks", "webhooks:app", "Create, list, test or delete webhooks."),
        Row("dead-letters", "dead_letters:app", "List, replay or delete messages that couldn't be delivered."),
    ),
    "This command": (Row("completion", "completion:completion", "Print the completion script of a shell."),),
}


class Pending(TyperCommand):
    """A command of which only the row is known."""

    def __init__(self, row: Row) -> None:
        super().__init__(row.name, short_help=row.about, rich_markup_mode=None)
        self._row = row

    def load(self) -> Any:
        """Return the command itself."""
        name, source, about = self._row
        if isinstance(source, tuple):
            return Commands({"Commands": source}, name=name, help=about, rich_markup_mode=None)
        module, _, attribute = source.partition(":")
        found = getattr(import_module(f"{PACKAGE}.{module}"), attribute)
        if isinstance(found, Typer):
            found.rich_markup_mode = None
            command: Any = get_group(found)
        else:
            alone = Typer(**PLAIN)
            alone.command(name)(found)
            command = get_command(alone)
        command.name = name
        return command


class Commands(TyperGroup):
    """A group of commands, which loads each when it is reached."""

    def __init__(self, sections: Mapping[str, tuple[Row, ...]] = COMMANDS, **options: Any) -> None:
        super().__init__(**options)
        self._sections = sections
        self.commands = {row.name: Pending(row) for rows in sections.values() for row in rows}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, Pending) else command, rest

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, rows in self._sections.items():
            with formatter.section(title):
                formatter.write_dl([(row.name, row.about) for row in rows])


PLAIN: dict[str, Any] = {"rich_markup_mode": None, "pretty_exceptions_enable": False, "add_completion": False}
app = Typer(cls=Commands, help=HELP, **(PLAIN | {"add_completion": True}))


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"aidevos {version('aidevos')}")
        raise Exit


@app.callback()
def choose_context(
    context: Annotated[
        str,
        Option(metavar="NAME", envvar="AIDEVOS_CONTEXT", help="The context to use, or `local`.", show_default=False),
    ] = "",
    version: Annotated[
        bool, Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    from aidevos.cli.target import chosen

    chosen.set(context)
