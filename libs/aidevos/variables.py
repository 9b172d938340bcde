"""Environment variables as typed values, with units and from files.

Promise: a value that can't be used and a variable whose name looks like a mistake raise `SettingsError`, one line that
names the variable. The line never shows a secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec
from msgspec import Meta
from msgspec.structs import FieldInfo

from aidevos.quantities import parse_size, parse_time

PREFIX = "AIDEVOS_"
# What a file variable is called: `AIDEVOS_ADMIN_PASSWORD_FILE` names the file that holds `AIDEVOS_ADMIN_PASSWORD`.
FILE = "_FILE"
SECONDS, BYTES, KIBIBYTES, BYTE_RATE = "seconds", "bytes", "KiB", "bytes per second"
# How alike two names without the prefix are, of which one is taken for a misspelling of the other, from 0 to 1.
ALIKE = 0.75
LARGEST_FILE = 64 * 1024


class SettingsError(Exception):
    """Raised for a setting that can't be used; the message is one line that names the variable."""


class Given(NamedTuple):
    """The value of a variable, and the name of the variable that it came from."""

    value: Any
    origin: str


def read(environ: Mapping[str, str], fields: Iterable[FieldInfo]) -> dict[str, Given]:
    """Return what the environment sets of these fields, by their names. Raises `SettingsError`.

    An empty variable counts as not set.
    """
    by_variable = {PREFIX + field.name.upper(): field for field in fields}
    files = {variable + FILE: variable for variable, field in by_variable.items() if is_secret(field)}
    _refuse_misspelt(environ, {*by_variable, *files})
    texts = {variable: (environ[variable], variable) for variable in by_variable if environ.get(variable)}
    for origin, variable in files.items():
        if path := environ.get(origin):
            if variable in texts:
                raise SettingsError(f"{variable} and {origin} are both set: keep one of them")
            texts[variable] = (_read_file(origin, path), origin)
    return {
        by_variable[variable].name: Given(_convert(origin, text, by_variable[variable]), origin)
        for variable, (text, origin) in texts.items()
    }


def is_secret(field: FieldInfo) -> bool:
    """True if the value is, or may contain, a password or a key."""
    return bool(_extra(field).get("secret"))


def _extra(field: FieldInfo) -> dict[str, Any]:
    metas = (meta for meta in get_args(field.type) if isinstance(meta, Meta))
    return {name: value for meta in metas for name, value in (meta.extra or {}).items()}


def _refuse_misspelt(environ: Mapping[str, str], known: Iterable[str]) -> None:
    """Raise `SettingsError` for a variable that is called nearly like one of those known.

    Others belong to tools, or to a version that knows more settings.
    """
    names = {variable.removeprefix(PREFIX) for variable in known}
    given = {variable.removeprefix(PREFIX) for variable in environ if variable.startswith(PREFIX)}
    for name in sorted(given - names):
        if meant := get_close_matches(name, names, n=1, cutoff=ALIKE):
            raise SettingsError(f"{PREFIX}{name} isn't a setting: did you mean {PREFIX}{meant[0]}?")


def _read_file(origin: str, path: str) -> str:
    try:
        with Path(path).expanduser().open("rb") as file:
            text = file.read(LARGEST_FILE + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{origin}={path!r} can't be read: {error}") from None
    if len(text) > LARGEST_FILE:
        raise SettingsError(f"{origin}={path!r} is longer than {LARGEST_FILE} characters")
    if not (text := text.rstrip("\r\n")):
        raise SettingsError(f"{origin}={path!r} is empty")
    return text


def _convert(variable: str, text: str, field: FieldInfo) -> Any:
    shown = variable if is_secret(field) else f"{variable}={text!r}"
    try:
        if field.type is Path:
            return Path(text)
        return msgspec.convert(_without_unit(text, _extra(field).get("unit", "")), field.type, strict=False)
    except (msgspec.ValidationError, ValueError) as error:
        raise SettingsError(f"{shown} can't be used: {error}") from None


def _without_unit(text: str, unit: str) -> Any:
    """Return the number in a text such as `15m`, in the unit of the setting. Raises `ValueError`."""
    if unit == SECONDS:
        value = parse_time(text)
    elif unit in (BYTES, BYTE_RATE):
        value = parse_size(text)
    elif unit == KIBIBYTES:
        value = float(text) if text.strip().isdigit() else parse_size(text) / 1024
    else:
        return text
    return int(value) if value.is_integer() else value
