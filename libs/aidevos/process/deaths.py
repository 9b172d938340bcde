"""The deaths of processes, as files under a home: how often each process has died, and which deaths are to be reported.

Promise: a death that was recorded stays there until it is reported, whichever process ends meanwhile. At most
`MOST_WAITING` deaths wait; further ones are only counted. A number only grows.

Whoever restarts processes records how they ended: the supervisor of `make up`. Elsewhere a platform does, such as
Docker or Kubernetes. There, a process finds out by itself that its predecessor has not ended in order.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

MOST_WAITING = 200
MOST_NAMES = 1000
# The supervisor sets this for the processes that it restarts.
SUPERVISED = "SUPERVISOR_ENABLED"
_COUNT, _DEATH = ".count", ".json"


class Death(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The unexpected end of a process at a time, in seconds since the epoch. `deaths` counts all of its replica so far.

    `signal` or `status` says how it ended, if that is known, and `seconds` how long it had lived.
    """

    service: str
    replica: int
    at: float
    deaths: int
    signal: str = ""
    status: int | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        name = f"{self.service}-{self.replica}" if self.replica else self.service
        how = "it is unknown how"
        if self.signal:
            how = f"killed by {self.signal}"
        elif self.status is not None:
            how = f"with exit status {self.status}"
        lived = "" if self.seconds is None else f" after {self.seconds:.1f} s"
        return f"{name} died{lived}, {how}; deaths so far: {self.deaths}"


def folder_of(home: Path) -> Path:
    """Return the folder of deaths under a home. It exists afterwards."""
    folder = home / "run" / "deaths"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def expect(home: Path, service: str, replica: int) -> None:
    """Let the deaths of a process be shown from now on, so that the first one is seen as a change from zero."""
    (folder_of(home) / f"{service}-{replica}{_COUNT}").open("a").close()


def record(
    home: Path,
    service: str,
    replica: int,
    *,
    signal: str = "",
    status: int | None = None,
    seconds: float | None = None,
) -> Death:
    """Count a death that was noticed now, and let it be reported."""
    folder, at = folder_of(home), time.time()
    counted = folder / f"{service}-{replica}{_COUNT}"
    death = Death(
        service=service,
        replica=replica,
        at=at,
        deaths=_read(counted) + 1,
        signal=signal,
        status=status,
        seconds=seconds,
    )
    _replace(counted, str(death.deaths).encode())
    if len(list(folder.glob(f"*{_DEATH}"))) < MOST_WAITING:
        name = f"{int(at * 1_000_000):018}-{service}-{replica}-{death.deaths}{_DEATH}"
        _replace(folder / name, msgspec.json.encode(death))
    return death


def waiting(home: Path) -> list[tuple[Path, Death]]:
    """Return the deaths that are to be reported, in order, each with its file, which is to be removed then."""
    found = []
    for path in sorted(folder_of(home).glob(f"*{_DEATH}")):
        try:
            found.append((path, msgspec.json.decode(path.read_bytes(), type=Death)))
        except (OSError, msgspec.MsgspecError):
            # Something else, or half of it after a power cut.
            path.unlink(missing_ok=True)
    return found


def services_of(home: Path) -> set[str]:
    """Return the services and servers that have had a process."""
    return {path.stem.rpartition("-")[0] for path in folder_of(home).glob(f"*{_COUNT}")}


@contextmanager
def noticing_death(home: Path, service: str, first: int) -> Iterator[Death | None]:
    """Mark this process as alive while the block runs, and yield the death of its predecessor, if there was one.

    It does nothing if a supervisor sees how the process ends. The process takes the first free number from `first` on.
    """
    if SUPERVISED in os.environ:
        yield None
        return
    with _open_mark(home, service, first) as (replica, mark):
        expect(home, service, replica)
        began = mark.read()
        death = record(home, service, replica) if began else None
        mark.truncate(0)
        mark.write(f"{os.getpid()}\n")
        mark.flush()
        yield death
        # Not if the block has raised: then the next process reports it.
        mark.truncate(0)


@contextmanager
def _open_mark(home: Path, service: str, first: int) -> Iterator[tuple[int, IO[str]]]:
    """Yield a replica's number and its file, whose lock the kernel releases when the process ends."""
    for replica in range(first, first + MOST_NAMES):
        with (folder_of(home) / f"{service}-{replica}.alive").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            file.seek(0)
            yield replica, file
            return
    raise RuntimeError(f"{MOST_NAMES} processes of {service} already run under {home}")


def _read(path: Path) -> int:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return 0
    return int(text) if text.isdecimal() else 0


def _replace(path: Path, content: bytes) -> None:
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_bytes(content)
    new.replace(path)
