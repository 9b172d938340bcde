"""The output of commands: tables for people, JSON for programs.

Promise: nothing in a table is taken for markup or controls the terminal, and what isn't shown on a terminal is never
cut or wrapped.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from typer import Option

from aidevos.cli.errors import CommandError

# Columns of a table that a program reads.
WIDE = 10_000
# Seconds between two looks of `--watch`.
LOOK_EVERY = 2.0
# A path into a row, such as `owner.name`, or a function of the row.
Column = str | Callable[[Any], Any]
Json = Annotated[bool, Option("--json", help="Print JSON.")]
Watch = Annotated[bool, Option("--watch", help="Look again every two seconds, until Ctrl-C.")]
Yes = Annotated[bool, Option("--yes", "-y", help="Don't ask.")]
_controls = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    print(msgspec.json.format(msgspec.json.encode(value)).decode())


def print_line(value: Any) -> None:
    """Print a value as one line of JSON, at once."""
    print(msgspec.json.encode(value).decode(), flush=True)


def print_rows(rows: Sequence[Any], columns: Mapping[str, Column], *, as_json: bool) -> None:
    """Print rows as a table with these headings, or as a JSON array of the whole rows."""
    if as_json:
        print_json(rows)
    else:
        print_table(list(columns), ([shown(_value(row, column)) for column in columns.values()] for row in rows))


def print_fields(value: Mapping[str, Any], *, as_json: bool) -> None:
    """Print an object as a table of its fields, or as JSON."""
    if as_json:
        print_json(value)
    else:
        print_table(("FIELD", "VALUE"), ((name, shown(each, indented=True)) for name, each in value.items()))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table with these headings."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, column in enumerate(columns):
        # The first column is what other commands take, so it stays in one piece.
        table.add_column(column, no_wrap=number == 0 or not sys.stdout.isatty(), overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else WIDE)
    with console.capture() as printed:
        console.print(table)
    print("\n".join(line.rstrip() for line in printed.get().splitlines()))


def repeat(show: Callable[[], None], *, watch: bool) -> None:
    """Show something once or, with `watch`, every two seconds, on a clean screen if it is a terminal."""
    while True:
        if watch and sys.stdout.isatty():
            print("\x1b[H\x1b[2J", end="")
        show()
        sys.stdout.flush()
        if not watch:
            return
        time.sleep(LOOK_EVERY)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that can't be undone. Raises `CommandError` if the answer is no, or nobody can answer."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError(f"{question} Confirm with --yes")
    import typer

    if not typer.confirm(printable(question), err=True):
        raise CommandError("nothing was changed")


def shown(value: Any, *, indented: bool = False) -> str:
    """Return a value as a person reads it."""
    if value is None or value == "" or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    encoded = msgspec.json.encode(value)
    return (msgspec.json.format(encoded) if indented else encoded).decode()


def printable(text: str) -> str:
    """Return a text in which control characters, such as those that move a terminal's cursor, are spelled out."""
    return _controls.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _value(row: Any, column: Column) -> Any:
    if callable(column):
        return column(row)
    for name in column.split("."):
        row = row.get(name) if isinstance(row, Mapping) else getattr(row, name, None)
    return row
