"""The names of processes, each of which belongs to one living process at a time."""

from __future__ import annotations

import fcntl
import os
import re
import socket
from pathlib import Path
from typing import IO

MAX_NAMES = 1000


class HostName:
    """A name that only one living process has.

    The process holds a lock on a file, which the kernel releases when the process ends and not before. The name
    contains the file's identity, so processes with one name lock one file, and two homes on one machine have no name
    in common. The holder of the lock may therefore replace its predecessor. Raises `RuntimeError` if `MAX_NAMES`
    names are taken.

    With `host`, such as a pod's name, the name contains it in place of the machine's name and the file's identity.
    Whoever gives it must see to it that no two homes have the same one.
    """

    def __init__(self, home: Path, service: str, first: int = 0, host: str = "") -> None:
        folder = home / "run"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for replica in range(first, first + MAX_NAMES):
            file = (folder / f"{service}-{replica}.lock").open("w")
            if _lock(file):
                self._file, self.replica = file, replica
                self.name = f"{service}-{replica}_{host or _local_host(file)}"
                return
            file.close()
        raise RuntimeError(f"{MAX_NAMES} processes of {service} already run under {home}")

    def close(self) -> None:
        self._file.close()


def _local_host(file: IO[str]) -> str:
    machine = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
    status = os.fstat(file.fileno())
    return f"{machine}_{status.st_dev:x}-{status.st_ino:x}"


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    file.truncate()
    file.write(f"{os.getpid()}\n")
    file.flush()
    return True
