"""The settings of this process as people may see them: each with its origin, and secrets hidden."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import fields

from aidevos.settings import PREFIX, Settings, load
from aidevos.variables import is_secret, read

DEFAULT = "default"
HIDDEN = "(hidden)"


class Setting(msgspec.Struct):
    """A setting. The value of one that may contain a password or a key is hidden."""

    variable: str
    value: Any
    origin: str


class SettingList(msgspec.Struct):
    settings: list[Setting]


def list_settings() -> list[Setting]:
    """Return the settings of this environment. Raises `SettingsError`."""
    loaded, given = load(), read(os.environ, fields(Settings))
    return [
        Setting(
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
