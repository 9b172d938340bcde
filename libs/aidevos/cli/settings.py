"""`aidevos settings`: every setting with its value and the variable that it comes from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec.structs import fields
from typer import Option

from aidevos.cli.output import print_json, print_table
from aidevos.settings import PREFIX, Settings, load
from aidevos.variables import is_secret, read

DEFAULT = "default"
HIDDEN = "(hidden)"


class Shown(msgspec.Struct):
    """A setting. The value of one that may contain a password or a key is hidden."""

    variable: str
    value: Any
    origin: str


def settings(as_json: Annotated[bool, Option("--json", help="Print JSON.")] = False) -> None:
    """Show every setting with its value and where that comes from."""
    found = list_settings()
    if as_json:
        print_json(found)
    else:
        print_table(("VARIABLE", "VALUE", "FROM"), [(each.variable, _text(each.value), each.origin) for each in found])


def list_settings() -> list[Shown]:
    """Return the settings of this environment. Raises `SettingsError`."""
    loaded, given = load(), read(os.environ, fields(Settings))
    return [
        Shown(
            PREFIX + field.name.upper(),
            _hide(getattr(loaded, field.name), secret=is_secret(field)),
            given[field.name].origin if field.name in given else DEFAULT,
        )
        for field in fields(Settings)
    ]


def _hide(value: Any, *, secret: bool) -> Any:
    if secret and value:
        return HIDDEN
    return str(value) if isinstance(value, Path) else value


def _text(value: Any) -> str:
    """Return a value as its variable would have it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.15g}" if isinstance(value, float) else str(value)
