"""`aidevos settings`: every setting with its value and where that comes from."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from typer import Option

from aidevos.cli.output import Column, Json, print_rows

COLUMNS: dict[str, Column] = {"VARIABLE": "variable", "VALUE": lambda each: _text(each["value"]), "FROM": "origin"}


def settings(
    fleet: Annotated[
        bool, Option("--fleet", help="Show those of the gateway of the fleet in use; requires fleet:read.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show every setting and where its value comes from.

    They are those that a process started in this shell would have. Values that may be secret are hidden.
    """
    print_rows(_of_fleet() if fleet else _of_shell(), COLUMNS, as_json=as_json)


def _of_shell() -> list[Any]:
    from aidevos.process.shown_settings import list_settings

    return [msgspec.to_builtins(each) for each in list_settings()]


def _of_fleet() -> list[Any]:
    from aidevos.cli.remote import call

    found: list[Any] = call(lambda api: api.call("GET", "/fleet/settings"))["settings"]
    return found


def _text(value: Any) -> str:
    """Return a value as its variable would have it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.15g}" if isinstance(value, float) else str(value)
