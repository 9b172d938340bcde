"""`aidevos ps`: every process of the fleet on this machine, and how it answers."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

from typer import Option

from aidevos.cli.errors import CommandError
from aidevos.cli.output import print_json, print_table
from aidevos.process.overview import Overview, Row
from aidevos.settings import load

# Seconds in which CPU is measured, and between two looks of `--watch`.
MEASURED_FOR = 0.5
LOOK_EVERY = 2.0
COLUMNS = ("NAME", "STATE", "SINCE", "PID", "UP", "RESTARTS", "CPU", "MEMORY", "PARTITIONS", "OBJECTS", "ABOUT")
DOWN = 1


def ps(
    as_json: Annotated[bool, Option("--json", help="Print JSON.")] = False,
    watch: Annotated[bool, Option("--watch", help="Look again every two seconds, until Ctrl-C.")] = False,
) -> None:
    """Show the processes of the fleet on this machine, and how each of them answers."""
    show(load().home, as_json=as_json, watch=watch)


def show(home: Path, *, as_json: bool = False, watch: bool = False) -> None:
    """Print the processes under a home. Raises `CommandError` if there are none, or if nobody supervises them."""
    overview = Overview(home)
    overview.read()
    time.sleep(MEASURED_FOR)
    while True:
        rows = overview.read()
        if not rows:
            raise CommandError(f"no fleet is up under {home}: run `make up`, or set AIDEVOS_HOME to its home", DOWN)
        if watch and sys.stdout.isatty():
            print("\x1b[H\x1b[2J", end="")
        if as_json:
            print_json(rows)
        else:
            print_table(COLUMNS, map(_cells, rows))
        sys.stdout.flush()
        if not watch:
            break
        time.sleep(LOOK_EVERY)
    if overview.is_orphaned:
        raise CommandError(f"the supervisor of the fleet under {home} has ended: run `make up` to start it again", DOWN)


def _cells(row: Row) -> list[str]:
    about = [*row.types, *(f"task {kind}" for kind in row.tasks)]
    return [
        row.name,
        row.state,
        row.since.partition(".")[0].replace("T", " ") + ("Z" if row.since else ""),
        str(row.pid or "-"),
        _duration(row.uptime) if row.pid else "-",
        str(row.restarts) if row.supervised else "-",
        f"{row.cpu:.0f} %",
        f"{row.memory / 1e6:.0f} MB",
        str(row.partitions) if row.partitions else "-",
        str(row.objects) if row.types else "-",
        row.detail or ("" if row.supervised else f"yours: {', '.join(about)}"),
    ]


def _duration(seconds: float) -> str:
    """Return a time in its two largest units."""
    for size, unit, rest, smaller in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} {int(seconds % size // rest)} {smaller}"
    return f"{int(seconds)} s"
