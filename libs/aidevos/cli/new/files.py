"""The files of new projects, objects and tasks, made of templates.

Promise: a file that exists is never overwritten, and then none of the others is written either.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath

from aidevos.cli.errors import CommandError

SUFFIX = ".tmpl"
Files = dict[PurePosixPath, str]


class _Template(string.Template):
    # Neither Python, YAML nor JavaScript has it.
    delimiter = "@@"


def render(kind: str, names: Mapping[str, str]) -> Files:
    """Return the texts of the files of a kind: `project`, `object` or `task`.

    In a path, `PACKAGE` and `NAME` stand for `package` and `name`.
    """
    folder = files(__package__) / "templates" / kind
    return {_rename(path, names): _Template(text).substitute(names) for path, text in _walk(folder, PurePosixPath())}


def write(folder: Path, texts: Files) -> None:
    """Write files that don't exist yet below a folder. Raises `CommandError`."""
    if there := next((path for path in texts if (folder / path).exists()), None):
        raise CommandError(f"{folder / there} exists already: nothing was written")
    try:
        for path, text in texts.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with (folder / path).open("x") as file:
                file.write(text)
    except OSError as error:
        raise CommandError(f"{error.filename or folder} can't be written: {error.strerror}") from None


def _walk(folder: Traversable, path: PurePosixPath) -> Iterator[tuple[PurePosixPath, str]]:
    for each in sorted(folder.iterdir(), key=lambda each: each.name):
        if each.is_dir():
            yield from _walk(each, path / each.name)
        elif each.name.endswith(SUFFIX):
            yield path / each.name.removesuffix(SUFFIX), each.read_text("utf-8")


def _rename(path: PurePosixPath, names: Mapping[str, str]) -> PurePosixPath:
    parts = [part.replace("PACKAGE", names["package"]).replace("NAME", names["name"]) for part in path.parts]
    return PurePosixPath(*parts)
