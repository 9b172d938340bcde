"""`aidevos settings`: every setting with its value and the variable that it comes from."""

from __future__ import annotations

from typing import Annotated, Any

from typer import Option

from aidevos.cli.output import print_json, print_table
from aidevos.process.shown_settings import list_settings


def settings(as_json: Annotated[bool, Option("--json", help="Print JSON.")] = False) -> None:
    """Show every setting with its value and where that comes from."""
    found = list_settings()
    if as_json:
        print_json(found)
    else:
        print_table(("VARIABLE", "VALUE", "FROM"), [(each.variable, _text(each.value), each.origin) for each in found])


def _text(value: Any) -> str:
    """Return a value as its variable would have it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.15g}" if isinstance(value, float) else str(value)
