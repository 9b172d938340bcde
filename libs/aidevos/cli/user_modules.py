"""A user's own modules, as opposed to the installed ones and those of Python and this package."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from aidevos.durable.objects.resources import Resource

_LIBRARIES = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_FOREIGN = (str(Path(__file__).parents[1]), *_LIBRARIES)


def is_own(file: str | None) -> bool:
    """True if a file with code is a user's own."""
    return bool(file) and not str(file).startswith((*_FOREIGN, "<")) and "site-packages" not in Path(str(file)).parts


def resources_in(modules: Iterable[ModuleType]) -> list[Resource[Any]]:
    """Return the resources that the modules define or import, each once."""
    values = [value for module in modules for value in vars(module).values()]
    return list(dict.fromkeys(value for value in values if isinstance(value, Resource)))
