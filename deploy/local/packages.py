"""Programs and libraries of the system that no wheel carries: found, or else installed.

Promise: nothing that is there is installed again, an installation is announced in one line, no
service that a package brings is started, and where nothing can be installed one line says what to
install.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import NamedTuple

from aidevos.settings import SettingsError

from . import binaries

POLICY = "/usr/sbin/policy-rc.d"
# Debian's packages start their services when they are installed, unless this program forbids it.
INSTALL = """
set -e
if [ ! -e "$0" ]; then
    trap 'rm -f "$0"' EXIT
    printf '#!/bin/sh\\nexit 101\\n' > "$0"
    chmod 755 "$0"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qqy install --no-install-recommends "$@" > /dev/null
"""


class Need(NamedTuple):
    """Something that must be there: its name, Debian's packages of it, and another way to have it."""

    name: str
    packages: tuple[str, ...]
    otherwise: str
    is_met: Callable[[], bool]


def provide(needs: Iterable[Need], has_engine: Callable[[], bool] = lambda: False) -> None:
    """Install what is missing, unless `has_engine` says that containers can take its place.

    Raises `SettingsError`, in one line that says what to install, when something is missing still.
    """
    missing = [need for need in needs if not need.is_met()]
    if not missing:
        return
    names = _listed([need.name for need in missing])
    if has_engine():
        print(f"{names} will run in containers: not found on this machine.", flush=True)
        return
    packages = [package for need in missing for package in need.packages]
    _install(names, packages)
    if missing := [need for need in missing if not need.is_met()]:
        names = _listed([need.name for need in missing])
        packages = [package for need in missing for package in need.packages]
        remedies = _listed([need.otherwise for need in missing], "or")
        raise SettingsError(f"not found: {names}. Install Debian's {_listed(packages)}, or {remedies}")


def _install(names: str, packages: list[str]) -> None:
    """Install these packages if this user may; a failure leaves its reason on stderr."""
    privileged = _privileged()
    if shutil.which("apt-get") is None or privileged is None:
        return
    print(f"Installing {names} with apt-get: {' '.join(packages)} …", flush=True)
    subprocess.run([*privileged, "sh", "-c", INSTALL, POLICY, *packages], check=False)  # noqa: S603


def _privileged() -> list[str] | None:
    """Return the words before a command that run it as root (none, or sudo); None if it can't be done."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo is None:
        return None
    asks = subprocess.run([sudo, "-n", "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0  # noqa: S603
    return None if asks and not sys.stdin.isatty() else [sudo]


def _listed(items: list[str], conjunction: str = "and") -> str:
    *others, last = items
    return f"{', '.join(others)} {conjunction} {last}" if others else last


def _can_run_mongod() -> bool:
    """False only where a server is found that fails for want of this library."""
    if os.environ.get("AIDEVOS_MONGO_URL"):
        return True
    try:
        binaries.mongod()
    except SettingsError as error:
        return "libcurl" not in str(error)
    return True


LIBCURL = Need(
    "libcurl4 (for the MongoDB server that comes as a wheel)", ("libcurl4",), "set AIDEVOS_MONGO_URL", _can_run_mongod
)
