r"""Paths in a document as callers write them: `address.city`.

A backslash takes what follows it for a part of the name: `a\.b` is the one name `a.b`, and `\\` a
backslash. So every name can be written, also one that means something else where a path stands:
`\or` in a filter, `\-price` in a sort, `a\,b` in a list. Each dot ends a name, which may be empty.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from aidevos.contracts.errors import Failure
from aidevos.queries import MAX_DEPTH, Path, check_storable

MAX_LENGTH = 512
_character = re.compile(r"\\?.", re.DOTALL)


class Field(NamedTuple):
    """A path to order by."""

    path: Path
    descending: bool = False


def split(path: str, field: str = "path") -> Path:
    """The names in a path, which is called `field` in errors. Raises `invalid`."""
    names = tuple(_unescape(part) for part in _divide(path, ".", field, MAX_LENGTH))
    if len(names) > MAX_DEPTH:
        raise Failure("invalid", f"a path has at most {MAX_DEPTH} names", field=field)
    return names


def split_list(text: str, field: str, limit: int) -> list[str]:
    """The paths in a list with commas, at most `limit`, each as it was written. Raises `invalid`."""
    parts = _divide(text, ",", field, limit * (MAX_LENGTH + 1))
    if len(parts) > limit:
        raise Failure("invalid", f"there are at most {limit} paths", field=field)
    if "" in parts:
        raise Failure("invalid", "a path is missing", field=field)
    return parts


def parse_field(text: str, field: str) -> Field:
    """A path to order by, descending after a minus. Raises `invalid`."""
    return Field(split(text.removeprefix("-"), field), text.startswith("-"))


def _divide(text: str, separator: str, field: str, limit: int) -> list[str]:
    if len(text) > limit:
        raise Failure("invalid", f"this has more than {limit} characters", field=field)
    check_storable(text, field)
    if "\0" in text:
        raise Failure("invalid", "no name has NUL in it", field=field)
    if "\\" not in text:
        return text.split(separator)
    parts = [""]
    for character in _character.findall(text):
        if character == "\\":
            raise Failure("invalid", "a backslash stands before a character", field=field)
        if character == separator:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _unescape(part: str) -> str:
    return re.sub(r"\\(.)", r"\1", part, flags=re.DOTALL) if "\\" in part else part
