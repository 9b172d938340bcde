"""Facts about a process that the kernel of this machine knows (proc(5))."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

TICKS, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
STOPPED = ("T", "t")


class Usage(NamedTuple):
    """A process at a moment: its parent, its state (`T` is stopped), and what it uses.

    `memory` is in bytes, `cpu` in seconds of a processor since its beginning at `since` (seconds since the epoch).
    """

    pid: int
    parent: int
    state: str
    memory: int
    cpu: float
    since: float


def read_usage(pid: int) -> Usage | None:
    """Return what a process uses, or None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    # The name of the program, in parentheses, may contain anything.
    fields = stat.rpartition(")")[2].split()
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / TICKS
    cpu = (int(fields[11]) + int(fields[12])) / TICKS
    return Usage(pid, int(fields[1]), fields[0], resident * PAGE, cpu, time.time() - age)
