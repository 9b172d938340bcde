"""System programs and libraries that no wheel carries: found, or else installed.

Promise: nothing is installed twice, each installation is announced in one line, and no service that a
package brings is started. If nothing can be installed, one line says what to install.
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
# Debian's packages start their services on installation unless this program forbids it.
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
    """A required program or library, with the Debian packages that provide it and an alternative to them."""

    name: str
    packages: tuple[str, ...]
    alternative: str
    is_met: Callable[[], bool]


def provide(needs: Iterable[Need], has_engine: Callable[[], bool] = lambda: False) -> None:
    """Install what is missing, unless `has_engine` says that containers can replace it.

    Raises `SettingsError`, in one line that says what to install, if anything is still missing.
    """
    missing = [need for need in needs if not need.is_met()]
    if not missing:
        return
    names = _join([need.name for need in missing])
    if has_engine():
        print(f"{names} will run in containers: not found on this machine.", flush=True)
        return
    packages = [package for need in missing for package in need.packages]
    _install(names, packages)
    if missing := [need for need in missing if not need.is_met()]:
        names = _join([need.name for need in missing])
        packages = [package for need in missing for package in need.packages]
        remedies = _join([need.alternative for need in missing], "or")
        raise SettingsError(f"not found: {names}. Install Debian's {_join(packages)}, or {remedies}")


def _install(names: str, packages: list[str]) -> None:
    """Install these packages if this user may do so; a failure leaves its reason on stderr."""
    privileged = _find_privilege()
    if shutil.which("apt-get") is None or privileged is None:
        return
    print(f"Installing {names} with apt-get: {' '.join(packages)} …", flush=True)
    subprocess.run([*privileged, "sh", "-c", INSTALL, POLICY, *packages], check=False)  # noqa: S603


def _find_privilege() -> list[str] | None:
    """Return the words that make a command run as root (none, or sudo), or None if that is impossible."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo is None:
        return None
    needs_password = subprocess.run([sudo, "-n", "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0  # noqa: S603
    return None if needs_password and not sys.stdin.isatty() else [sudo]


def _join(items: list[str], conjunction: str = "and") -> str:
    *others, last = items
    return f"{', '.join(others)} {conjunction} {last}" if others else last


def _can_run_mongod() -> bool:
    """Return False only if a server is found that fails because this library is missing."""
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
