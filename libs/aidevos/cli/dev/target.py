"""A search for the code that a user names: a file, a module or a package."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from aidevos.cli.errors import CommandError

# Folders that hold no code of a package.
SKIPPED = frozenset({"__pycache__", "node_modules"})


class Target(NamedTuple):
    """The code to serve. `module` is its name, as it is imported from the folder `root`.

    `path` is the file, or the folder of a package.
    """

    name: str
    root: Path
    module: str
    path: Path

    @property
    def is_package(self) -> bool:
        return self.path.is_dir()

    def folders(self) -> set[Path]:
        """Return the folders with code: all of a package, or that of the file."""
        if not self.is_package:
            return {self.path.parent}
        return {Path(folder) for folder in _walk(self.path)}


def find_target(name: str) -> Target:
    """Return the code of this name: `shop.py`, `shop.carts`, or a package such as `shop/`. Raises `CommandError`."""
    if name.endswith(".py") or os.sep in name or Path(name).is_dir():
        return _at(name, Path(name))
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        raise CommandError(f"{name!r} is neither a file nor the name of a module or package")
    for path in _candidates(parts):
        for found in (path, path.with_suffix(".py")):
            if (found / "__init__.py").is_file() or found.is_file():
                return _at(name, found)
    raise CommandError(f"there is no module {name}: name a file such as shop.py, or a package")


def is_package(name: str) -> bool:
    """True if a name is that of a package, as opposed to a file, a module or nothing."""
    try:
        return find_target(name).is_package
    except CommandError:
        return False


def _candidates(parts: list[str]) -> Iterator[Path]:
    yield Path(*parts)
    yield Path("src", *parts)
    # An installed package. Its parent isn't imported for this.
    sys.path.insert(0, "")
    spec = find_spec(parts[0])
    if spec is not None and spec.origin is not None:
        origin = Path(spec.origin)
        yield (origin.parent if spec.submodule_search_locations else origin.with_suffix("")).joinpath(*parts[1:])


def _at(name: str, path: Path) -> Target:
    if not path.exists():
        raise CommandError(f"there is no file {name}")
    path = path.resolve()
    path = path.parent if path.name == "__init__.py" else path
    if path.is_dir() and not (path / "__init__.py").is_file():
        raise CommandError(f"{name} is a folder without __init__.py: name a package, or a file in it")
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").is_file():
        root, parts = root.parent, [root.name, *parts]
    if wrong := next((part for part in parts if not part.isidentifier()), ""):
        raise CommandError(f"{name} can't be imported, because {wrong!r} is not a name in Python: rename it")
    return Target(name, root, ".".join(parts), path)


def _walk(package: Path) -> Iterator[str]:
    for folder, below, _ in os.walk(package):
        below[:] = [each for each in below if each not in SKIPPED and not each.startswith(".")]
        yield folder
