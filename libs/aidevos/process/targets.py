"""The targets of a fleet for Prometheus: a file for each process under `<home>/metrics`, in the format of `file_sd`.

Promise: a file appears as a whole, and is there only while its process shows its metrics. Each process holds a lock on
its file. The kernel releases it when the process ends, however it does, and the file is then removed by the supervisor
or by the next process that starts.
"""

from __future__ import annotations

import fcntl
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import msgspec

FOLDER = "metrics"


@contextmanager
def listed(home: Path, address: str, service: str, replica: str) -> Iterator[None]:
    """List a process as a target, at `host:port`, while the block runs. Raises `OSError` if the home is read-only."""
    folder = home / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    remove_stale(home)
    name = f"{service}-{replica}-{secrets.token_hex(4)}.json"
    target = [{"targets": [address], "labels": {"service": service, "replica": replica}}]
    # It isn't written under `metrics`, where it could be found before it is locked.
    new = home / f".{name}"
    with new.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(msgspec.json.encode(target) + b"\n")
        file.flush()
        new.replace(folder / name)
        try:
            yield
        finally:
            (folder / name).unlink(missing_ok=True)


def remove_stale(home: Path) -> None:
    """Remove the targets of processes that have ended."""
    with suppress(FileNotFoundError):
        for path in (home / FOLDER).iterdir():
            with suppress(OSError), path.open("rb") as file:
                if _is_abandoned(file):
                    path.unlink()


def _is_abandoned(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
