"""The processes of a fleet, found and signalled by a mark that no other process can carry.

Promise: a process is signalled only when it provably belongs to this fleet. A start gives every process
of its fleet a random mark in the environment, which the kernel shows for the life of the process. A PID
that was reused after a crash or a reboot doesn't carry it. The signal goes through a descriptor of the
very process whose mark was read.
"""

from __future__ import annotations

import os
import secrets
import signal
import time
from pathlib import Path
from typing import NamedTuple

from aidevos.security.secret_files import write_secret

MARK = "AIDEVOS_FLEET_MARK"
MARK_FILE = "mark"
# The supervisor sets this for each of its programs; its own environment lacks it.
GROUP = "SUPERVISOR_GROUP_NAME"
POLL = 0.05


class OwnProcess(NamedTuple):
    """A process of this fleet; `group` is the program's name, empty for the supervisor itself."""

    pid: int
    group: str


def new_mark(home: Path) -> str:
    """Create the mark for a new start, and keep it under the home."""
    mark = secrets.token_hex(16)
    write_secret(home / MARK_FILE, mark.encode())
    return mark


def find(home: Path) -> list[OwnProcess]:
    """Return the living processes of this home's last start."""
    try:
        mark = (home / MARK_FILE).read_text()
    except FileNotFoundError:
        return []
    numbers = (int(name) for name in os.listdir("/proc") if name.isdigit())
    candidates = ((pid, _environment(pid)) for pid in numbers)
    # Most processes aren't of the fleet, and a fleet is looked for many times while it ends.
    own = ((pid, entries) for pid, entries in candidates if mark and f"{MARK}={mark}".encode() in entries)
    return [OwnProcess(pid, _value_of(GROUP, entries)) for pid, entries in own]


def end(home: Path, group: str, grace: float) -> bool:
    """End all processes of a group with SIGTERM, and with SIGKILL after `grace` seconds.

    Returns True if there were any. Raises `TimeoutError` if one lives 10 seconds longer.
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
    """Send SIGKILL to all processes of a group."""
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
                # A stopped process must continue before it can end.
                signal.pidfd_send_signal(descriptor, signal.SIGCONT)
                signalled.append(pid)
        except ProcessLookupError:
            continue
        finally:
            os.close(descriptor)
    return signalled


def _environment(pid: int) -> list[bytes]:
    """Return a process's variables as `NAME=value`; none if the process has ended or belongs to another user."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def _value_of(name: str, entries: list[bytes]) -> str:
    start = f"{name}=".encode()
    value = next((entry.removeprefix(start) for entry in entries if entry.startswith(start)), b"")
    return value.decode(errors="replace")
