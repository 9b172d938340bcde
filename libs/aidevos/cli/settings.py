"""`aidevos settings`: every setting with its value and the variable that it comes from."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import fields

from aidevos.settings import PREFIX, Settings, load
from aidevos.variables import is_secret, read

DEFAULT = "default"
HIDDEN = "(hidden)"


class Shown(msgspec.Struct):
    """A setting. The value of one that may contain a password or a key is hidden."""

    variable: str
    value: Any
    origin: str


def add_to(commands: Any) -> None:
    parser = commands.add_parser("settings", help="show every setting with its value and where that comes from")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    settings = list_settings()
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(settings)).decode())
        return
    row = "{:32}  {:40}  {}".format
    print(row("VARIABLE", "VALUE", "FROM"))
    for each in settings:
        print(row(each.variable, _text(each.value), each.origin))


def list_settings() -> list[Shown]:
    """Return the settings of this environment. Raises `SettingsError`."""
    settings, given = load(), read(os.environ, fields(Settings))
    return [
        Shown(
            PREFIX + field.name.upper(),
            _hide(getattr(settings, field.name), secret=is_secret(field)),
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
