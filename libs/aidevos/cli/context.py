"""`aidevos context`: the fleets that a user has logged in to, and which of them commands use."""

from __future__ import annotations

from typing import Annotated, Any

from typer import Argument, Typer

from aidevos.cli.contexts import LOCAL, changed_contexts, load_contexts
from aidevos.cli.output import Column, Json, print_fields, print_rows

app = Typer(help="Choose the fleet that commands use.")
Name = Annotated[str, Argument(metavar="CONTEXT", help="Its name, or `local` for the fleet under AIDEVOS_HOME.")]


@app.command("list")
def list_contexts(as_json: Json = False) -> None:
    """Show every context; an asterisk marks the one in use."""
    stored = load_contexts()
    rows: list[dict[str, Any]] = [{"name": LOCAL, "url": "", "username": "", "in_use": not stored.current}]
    rows += [
        {"name": name, "url": each.url, "username": each.username, "in_use": name == stored.current}
        for name, each in sorted(stored.contexts.items())
    ]
    columns: dict[str, Column] = {
        "": lambda row: "*" if row["in_use"] else " ",
        "NAME": "name",
        "URL": "url",
        "USER": "username",
    }
    print_rows(rows, columns, as_json=as_json)


@app.command()
def use(name: Name) -> None:
    """Let commands use a context from now on."""
    with changed_contexts() as stored:
        if name != LOCAL:
            stored.get(name)
        stored.current = "" if name == LOCAL else name


@app.command()
def remove(name: Name) -> None:
    """Forget a context with its credentials. `aidevos logout` ends its session on the fleet."""
    with changed_contexts() as stored:
        stored.get(name)
        del stored.contexts[name]
        stored.current = "" if stored.current == name else stored.current


@app.command()
def show(as_json: Json = False) -> None:
    """Show which fleet commands use now, and who calls."""
    from aidevos.cli.target import find_target

    target = find_target()
    print_fields({"context": target.name, "url": target.url, "user": target.user}, as_json=as_json)
