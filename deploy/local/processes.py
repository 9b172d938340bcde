"""The processes of a fleet, found and signalled by a mark that nobody else can carry.

Promise: a process is signalled only when it is proven to be this fleet's. A start gives every
process of its fleet a random mark in the environment, which the kernel shows as long as the process
lives. A PID that was given to somebody else, after a crash or a reboot, doesn't carry it, and the
signal goes through a descriptor of the very process whose mark was read.
"""

from __future__ import annotations

import os
import secrets
import signal
import time
from pathlib import Path
from typing import NamedTuple

from aidevos.security.keys import write_secret

MARK = "AIDEVOS_FLEET_MARK"
MARK_FILE = "mark"
# The supervisor gives each program its name; itself it has none.
GROUP = "SUPERVISOR_GROUP_NAME"
POLL = 0.05


class OwnProcess(NamedTuple):
    """`group` is the program's name, empty for the supervisor itself."""

    pid: int
    group: str


def new_mark(home: Path) -> str:
    """The mark for a new start, kept under the home."""
    mark = secrets.token_hex(16)
    write_secret(home / MARK_FILE, mark.encode())
    return mark


def find(home: Path) -> list[OwnProcess]:
    """The living processes of this home's last start."""
    try:
        mark = (home / MARK_FILE).read_text()
    except FileNotFoundError:
        return []
    numbers = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    candidates = ((pid, _environment(pid)) for pid in numbers)
    return [OwnProcess(pid, env.get(GROUP, "")) for pid, env in candidates if mark and env.get(MARK) == mark]


def end(home: Path, group: str, grace: float) -> bool:
    """End all processes of a group: SIGTERM, and SIGKILL to those that live after `grace` seconds.

    Returns whether there were any.
    """
    found = bool(_signal(home, group, signal.SIGTERM))
    deadline = time.monotonic() + grace
    killed = False
    while _members(home, group):
        if time.monotonic() > deadline and not killed:
            _signal(home, group, signal.SIGKILL)
            killed = True
        if time.monotonic() > deadline + 10:
            raise TimeoutError(f"{group or 'the supervisor'} can't be ended")
        time.sleep(POLL)
    return found


def kill(home: Path, group: str) -> None:
    """SIGKILL to all processes of a group."""
    _signal(home, group, signal.SIGKILL)


def _members(home: Path, group: str) -> list[int]:
    return [process.pid for process in find(home) if process.group == group]


def _signal(home: Path, group: str, number: signal.Signals) -> list[int]:
    signalled = []
    for pid in _members(home, group):
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if pid in _members(home, group):
                signal.pidfd_send_signal(descriptor, number)
                # A process that was paused must wake up to end.
                signal.pidfd_send_signal(descriptor, signal.SIGCONT)
                signalled.append(pid)
        except ProcessLookupError:
            continue
        finally:
            os.close(descriptor)
    return signalled


def _environment(pid: int) -> dict[str, str]:
    """Empty for processes that have ended and for other users'."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)
