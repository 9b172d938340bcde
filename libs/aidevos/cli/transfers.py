"""`aidevos objects export` and `import`: objects as lines of JSON."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

from typer import Argument, Option

from aidevos.cli.errors import CommandError
from aidevos.cli.files import opened, written
from aidevos.cli.owner import call_fleet
from aidevos.cli.progress import Progress, command_errors, report
from aidevos.contracts import subjects
from aidevos.settings import load

Json = Annotated[bool, Option("--json", help="Print the summary as JSON.")]


def export_objects(
    type: Annotated[str, Argument(help="The type's name.")],
    project: Annotated[str | None, Option(help="Only the objects of this project.")] = None,
    where: Annotated[
        str, Option(metavar="JSON", help='Only objects whose states are so, such as {"value": {"gte": 5}}.')
    ] = "",
    output: Annotated[str, Option(metavar="FILE|-", help="A file, or - for standard output.")] = "-",
) -> None:
    """Write the objects of a type as lines of JSON.

    They are as they were at one moment. It reads the MongoDB of the fleet under AIDEVOS_HOME, so it needs that home.
    """
    if not subjects.is_type(type):
        raise CommandError(f"{type!r} is not the name of a type; `aidevos types list` shows them")

    from aidevos.backup import transfers
    from aidevos.backup.fleet_data import find_fleet

    with command_errors(), Progress("exporting") as progress:
        condition = transfers.parse_where(where) if where else None
        fleet = find_fleet(load())
        with written(output) as file:
            count = transfers.export_objects(
                fleet,
                type,
                file,
                project=project,
                where=condition,
                on_total=progress.expect,
                on_done=progress.advance,
            )
            file.flush()
    print(f"{count} objects", file=sys.stderr)


def import_objects(
    file: Annotated[str, Argument(metavar="FILE|-", help="A file, or - for standard input.")],
    on_conflict: Annotated[
        Literal["skip", "replace", "fail"], Option(help="What to do with an object that exists already.")
    ] = "fail",
    dry_run: Annotated[
        bool, Option("--dry-run", help="Check every line against today's types, and change nothing.")
    ] = False,
    stop: Annotated[bool, Option("--stop", help="End at the first failure; by default, the rest goes on.")] = False,
    as_json: Json = False,
) -> None:
    """Load objects from lines of JSON.

    Each is loaded by a command that its host commits. Only the owner of a fleet may do so: it calls the fleet under
    AIDEVOS_HOME over NATS.
    """
    from aidevos.backup import transfers
    from aidevos.backup.fleet_data import find_fleet, known_types
    from aidevos.backup.stored_objects import Loading

    with command_errors(), opened(file) as lines, Progress("importing") as progress:
        known = known_types(find_fleet(load()))

        async def load_all(client: Any) -> Any:
            loading = Loading(client, known, on_conflict, dry_run=dry_run, stop=stop, on_done=progress.advance)
            await loading.run(transfers.read_lines(lines))
            return loading.outcome

        outcome = call_fleet(load_all)
    report(outcome, "objects", as_json=as_json, dry_run=dry_run)
