"""The names of new projects, objects and tasks.

Promise: code with a name that is accepted can be imported and served. Any other is refused in a line that says why.
"""

from __future__ import annotations

import keyword
import re
import sys
from importlib.util import find_spec

from aidevos.cli.errors import CommandError
from aidevos.contracts import placement_events
from aidevos.contracts.built_in import BUILT_IN
from aidevos.contracts.tasks import RESERVED

# What a project has besides its package.
FOLDERS = frozenset({"collections", "tests", "test", "web", "var", "conftest"})
_is_name = re.compile(r"[a-z][a-z0-9_]{0,47}").fullmatch
_words = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def check_project(name: str) -> str:
    """Return the name of a project's package. Raises `CommandError`."""
    _check(name, "a project")
    if name in FOLDERS:
        raise CommandError(f"a project can't be called {name!r}, because a folder in it is")
    if name in sys.stdlib_module_names or _is_installed(name):
        raise CommandError(f"a project can't be called {name!r}, because an installed package is: it would hide that")
    return name


def check_object(name: str) -> str:
    """Return the name of an object type, which may be given as that of its class. Raises `CommandError`."""
    name = _words.sub("_", name).lower() if name.isidentifier() else name
    _check(name, "an object type")
    owner = BUILT_IN.get(name, "fleet" if name == placement_events.TYPE else "")
    if owner:
        raise CommandError(f"an object type can't be called {name!r}, because a type of the service {owner} is")
    return name


def check_task(name: str) -> str:
    """Return the kind of a task. Raises `CommandError`."""
    _check(name, "a task")
    if name in RESERVED:
        raise CommandError(f"a task can't be called {name!r}, because built-in kinds begin with that")
    return name


def class_name(name: str) -> str:
    """Return the name of the class for a name in snake case."""
    return "".join(part.capitalize() for part in name.split("_"))


def _check(name: str, what: str) -> None:
    if _is_name(name) is None:
        suggested = re.sub(r"\W+", "_", name).strip("_").lower()
        hint = f", such as {suggested}" if _is_name(suggested) else ""
        raise CommandError(
            f"{what} can't be called {name!r}: "
            f"use up to 48 lower-case letters, digits and underscores, a letter first{hint}"
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise CommandError(f"{what} can't be called {name!r}, because that is a word of Python itself")


def _is_installed(name: str) -> bool:
    """True if a top-level module of this name can be imported, and not from the present folder."""
    path = [entry for entry in sys.path if entry]
    before, sys.path = sys.path, path
    try:
        return find_spec(name) is not None
    finally:
        sys.path = before
