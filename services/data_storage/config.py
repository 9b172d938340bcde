"""Rules of a collection's configuration; nothing here waits for anything."""

from __future__ import annotations

from aidevos.contracts.data import Config
from aidevos.contracts.errors import Failure
from services.data_storage.paths import split
from services.data_storage.schemas import Validator


def check_config(config: Config) -> None:
    """Raises `invalid` for a configuration that can't be kept, with the path."""
    for place, path in enumerate(config.unique):
        _check_path(path, f"args.config.unique[{place}]")
    for place, paths in enumerate(config.indexes):
        for at, path in enumerate(paths):
            _check_path(path.removeprefix("-"), f"args.config.indexes[{place}][{at}]")
    if config.schema is not None:
        Validator(config.schema)


def _check_path(path: str, field: str) -> None:
    if not all(split(path)):
        raise Failure("invalid", "a path is names with dots between them", field=field)
