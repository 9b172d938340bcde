r"""Paths in a document as callers write them: `address.city`.

A backslash makes the next character part of the name: `a\.b` is the single name `a.b`, and `\\` is a
backslash. Every name can therefore be written, even one with a special meaning in its place: `\or` in
a filter, `\-price` in a sort, `a\,b` in a list. Dots separate names, and a name may be empty.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from aidevos.contracts.errors import Failure
from aidevos.queries import MAX_DEPTH, Path, check_storable

MAX_LENGTH = 512
_character = re.compile(r"\\?.", re.DOTALL)


class Field(NamedTuple):
    """A path to sort by, and the direction."""

    path: Path
    descending: bool = False


def split(path: str, field: str = "path") -> Path:
    """Return the names in a path. Raises `invalid`, with `field` as the place."""
    names = tuple(_unescape(part) for part in _split_unescaped(path, ".", field, MAX_LENGTH))
    if len(names) > MAX_DEPTH:
        raise Failure("invalid", f"a path may have at most {MAX_DEPTH} names", field=field)
    return names


def split_list(text: str, field: str, limit: int) -> list[str]:
    """Return the paths of a comma-separated list, still escaped. Raises `invalid` for more than `limit`."""
    parts = _split_unescaped(text, ",", field, limit * (MAX_LENGTH + 1))
    if len(parts) > limit:
        raise Failure("invalid", f"at most {limit} paths are allowed", field=field)
    if "" in parts:
        raise Failure("invalid", "the list contains an empty path", field=field)
    return parts


def parse_field(text: str, field: str) -> Field:
    """Return a path to sort by, which is descending if it begins with a minus. Raises `invalid`."""
    return Field(split(text.removeprefix("-"), field), text.startswith("-"))


def _split_unescaped(text: str, separator: str, field: str, limit: int) -> list[str]:
    if len(text) > limit:
        raise Failure("invalid", f"the text has more than {limit} characters", field=field)
    check_storable(text, field)
    if "\0" in text:
        raise Failure("invalid", "a name may not contain NUL", field=field)
    if "\\" not in text:
        return text.split(separator)
    parts = [""]
    for character in _character.findall(text):
        if character == "\\":
            raise Failure("invalid", "a backslash must be followed by a character", field=field)
        if character == separator:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _unescape(part: str) -> str:
    return re.sub(r"\\(.)", r"\1", part, flags=re.DOTALL) if "\\" in part else part
