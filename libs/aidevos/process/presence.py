"""The presence of a process: a file under its home that says what the process is and how it is.

Promise: the file is locked for as long as the process lives, and its time is that of the last turn of the process's
event loop, to a second. A reader on the same machine therefore tells a process that is stopped or hangs from one that
serves, and since when, even if no server answers.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import msgspec

from aidevos.contracts.health import PartProblem
from aidevos.durable.base.beats import until_beat

log = logging.getLogger(__name__)
FOLDER, SUFFIX = "run", ".process"
BEAT_EVERY = 1.0
# Seconds without a beat after which a process doesn't answer.
SILENT_AFTER = 5.0


class Presence(msgspec.Struct, kw_only=True):
    """A process of the fleet.

    `since` is when it began, in seconds since the epoch. `types` and `tasks` are those that it serves. `partitions`
    counts those that it owns of each type, and `objects` those in memory.
    """

    service: str
    replica: int
    pid: int
    since: float
    types: list[str] = []
    tasks: list[str] = []
    partitions: dict[str, int] = {}
    objects: int = 0
    problems: list[PartProblem] = []


class Seen(msgspec.Struct):
    """A living process and the time of its last beat, in seconds since the epoch."""

    process: Presence
    beat_at: float

    def silent_since(self, now: float) -> float | None:
        """Return the time since which it doesn't answer, or None if it does."""
        return self.beat_at if now - self.beat_at > SILENT_AFTER else None


@contextmanager
def open_presence(home: Path, service: str) -> Iterator[IO[bytes] | None]:
    """Create and lock the file of this process, and remove it at the end. Without a home to write to, there is none.

    The files of processes that were killed are removed too.
    """
    folder = home / FOLDER
    path = folder / f"{service}-{os.getpid()}{_suffix()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_stale(folder)
        file = path.with_suffix(".new").open("wb", buffering=0)
        # It is locked before anybody sees it, so one that isn't locked is stale.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.with_suffix(".new").replace(path)
    except OSError as error:
        log.debug("the process can't say under its home how it is: %s", error)
        yield None
        return
    with file:
        try:
            yield file
        finally:
            path.unlink(missing_ok=True)


def _suffix() -> str:
    """Return the end of the names of this machine's files. Several machines or containers may share a home."""
    return f"@{re.sub(r'[^A-Za-z0-9-]', '-', socket.gethostname())}{SUFFIX}"


def _remove_stale(folder: Path) -> None:
    for path in folder.glob(f"*{SUFFIX}"):
        with suppress(OSError), path.open("rb") as file:
            if not _is_locked(file):
                path.unlink()


async def keep_present(file: IO[bytes] | None, describe: Callable[[], Presence]) -> None:
    """Write what the process is whenever that changes, and beat, until cancelled."""
    written = b""
    while file is not None:
        text = msgspec.json.encode(describe())
        if text == written:
            os.utime(file.fileno())
        else:
            os.pwrite(file.fileno(), text, 0)
            os.ftruncate(file.fileno(), len(text))
            written = text
        await asyncio.sleep(until_beat(BEAT_EVERY))


def find_processes(home: Path) -> list[Seen]:
    """Return the living processes of this machine that use a home, by service and replica."""
    found = []
    for path in (home / FOLDER).glob(f"*{_suffix()}"):
        with suppress(OSError), path.open("rb") as file:
            if _is_locked(file) and (process := _read(file)) is not None:
                found.append(Seen(process, os.fstat(file.fileno()).st_mtime))
    return sorted(found, key=lambda seen: (seen.process.service, seen.process.replica, seen.process.since))


def _is_locked(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _read(file: IO[bytes]) -> Presence | None:
    """Return what a file says. What is read while it changes is read again."""
    for _ in range(3):
        file.seek(0)
        with suppress(msgspec.DecodeError):
            return msgspec.json.decode(file.read(), type=Presence)
        time.sleep(0.01)
    return None
