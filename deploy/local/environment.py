"""The settings of a running fleet: the variables of the shell that started it or last restarted it.

Promise: a process that starts later, because another one died or its service was scaled, has the same settings as the
others, whatever shell asks for it.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from aidevos.security.secret_files import write_secret
from aidevos.settings import PREFIX

from .processes import MARK

# How the variables of OpenTelemetry begin, which each process reads for itself.
OTEL = "OTEL_"
FILE = "environment.json"
# What the supervisor has of its own, and what is for one command only.
KEPT = (MARK, "AIDEVOS_HOME", "AIDEVOS_BACKUP_PASSPHRASE", "AIDEVOS_BACKUP_PASSPHRASE_FILE")


def of_shell() -> dict[str, str]:
    """Return the variables of this process that are settings of a fleet."""
    return {name: value for name, value in os.environ.items() if name.startswith((PREFIX, OTEL)) and name not in KEPT}


def save(home: Path, variables: dict[str, str]) -> None:
    """Keep these variables, which may contain passwords, for the processes that start from now on."""
    write_secret(home / FILE, msgspec.json.format(msgspec.json.encode(variables)) + b"\n")


def load(home: Path) -> dict[str, str]:
    """Return the variables of the fleet under this home. Raises `FileNotFoundError` if none is up."""
    return msgspec.json.decode((home / FILE).read_bytes(), type=dict[str, str])


def adopt(home: Path) -> None:
    """Replace the variables of this process by those of the fleet."""
    for name in of_shell():
        del os.environ[name]
    os.environ.update(load(home))
