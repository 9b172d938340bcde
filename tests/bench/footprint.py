"""Measures the start of a local fleet and the memory that it takes when idle.

Memory is the proportional set size (PSS, proc(5)): a page that several processes share counts once, whatever the
number of processes. Another program on the machine that uses the same files, such as a second MongoDB, lowers it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec

from deploy.local import processes
from tests.support.local_fleet import LocalFleet

# Seconds from the end of `make up` to the measurement.
SETTLE = 10.0
MEGABYTES, SECONDS = 400.0, 6.0
HEAD = ("of an idle fleet", "measured", "target")
_FIELD = re.compile(r"^(Pss|Pss_Anon): +(\d+) kB", re.MULTILINE)


class Footprint(msgspec.Struct):
    """Megabytes of each process, the part of them that is in no file, and the seconds of the first and later starts."""

    pss: dict[str, float]
    own: dict[str, float]
    first: float
    later: list[float]

    @property
    def missed(self) -> bool:
        return sum(self.pss.values()) > MEGABYTES or min(self.later) > SECONDS

    def cells(self) -> list[tuple[str, ...]]:
        """Return the rows of a table with the columns of `HEAD`."""
        total, start = sum(self.pss.values()), min(self.later)
        rows = [(name, f"{size:.1f} MB, {self.own[name]:.1f} without files", "") for name, size in self.pss.items()]
        return [
            *rows,
            ("memory", f"{total:.0f} MB", f"≤ {MEGABYTES:.0f} MB {'MISSED' if total > MEGABYTES else 'met'}"),
            ("first `make up` in a home", f"{self.first:.1f} s", ""),
            ("later `make up`", f"{start:.1f} s", f"≤ {SECONDS:.0f} s {'MISSED' if start > SECONDS else 'met'}"),
        ]


def measure(rounds: int, say: Callable[[str], None]) -> Footprint:
    """Start a fleet `rounds` times after a first start, which creates its databases."""
    with closing(LocalFleet()) as fleet:
        say("first start")
        first = _start(fleet)
        later = []
        for turn in range(rounds):
            fleet.run("down")
            say(f"start {turn + 1} of {rounds}")
            later.append(_start(fleet))
        time.sleep(SETTLE)
        sizes = {process.group or "supervisor": read_memory(process.pid) for process in processes.find(fleet.home)}
    return Footprint(
        {name: pss for name, (pss, _) in sorted(sizes.items())},
        {name: own for name, (_, own) in sorted(sizes.items())},
        first,
        later,
    )


def _start(fleet: LocalFleet) -> float:
    began = time.monotonic()
    fleet.up()
    return time.monotonic() - began


def read_memory(pid: int) -> tuple[float, float]:
    """Return the PSS of a process, and the part that isn't in files, in megabytes of 1,000,000 bytes."""
    found = dict(_FIELD.findall(Path(f"/proc/{pid}/smaps_rollup").read_text()))
    return int(found["Pss"]) * 1024 / 1e6, int(found["Pss_Anon"]) * 1024 / 1e6
