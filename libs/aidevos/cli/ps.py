"""`aidevos ps`: every process of the fleet on this machine, and how it answers, or the hosts of a fleet elsewhere."""

from __future__ import annotations

import time
from pathlib import Path

from aidevos.cli.errors import UNREACHABLE, CommandError
from aidevos.cli.output import Json, Watch, print_json, print_table, repeat
from aidevos.process.overview import Overview, Row
from aidevos.settings import load

# Seconds in which CPU is measured.
MEASURED_FOR = 0.5
COLUMNS = ("NAME", "STATE", "SINCE", "PID", "UP", "RESTARTS", "CPU", "MEMORY", "PARTITIONS", "OBJECTS", "ABOUT")


def ps(as_json: Json = False, watch: Watch = False) -> None:
    """Show the processes of the fleet, and how each answers.

    Of a fleet elsewhere, it shows the hosts, like `aidevos fleet`.
    """
    from aidevos.cli.target import is_local

    if is_local():
        show(load().home, as_json=as_json, watch=watch)
    else:
        from aidevos.cli.hosts import fleet

        fleet(as_json, watch)


def show(home: Path, *, as_json: bool = False, watch: bool = False) -> None:
    """Print the processes under a home. Raises `CommandError` if there are none, or if nobody supervises them."""
    overview = Overview(home)
    overview.read()
    time.sleep(MEASURED_FOR)

    def look() -> None:
        rows = overview.read()
        if not rows:
            advice = "run `make up`, or set AIDEVOS_HOME to its home"
            raise CommandError(f"no fleet is up under {home}: {advice}", UNREACHABLE)
        if as_json:
            print_json(rows)
        else:
            print_table(COLUMNS, map(_cells, rows))

    repeat(look, watch=watch)
    if overview.is_orphaned:
        advice = "run `make up` to start it again"
        raise CommandError(f"the supervisor of the fleet under {home} has ended: {advice}", UNREACHABLE)


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
