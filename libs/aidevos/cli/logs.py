"""`aidevos logs`: what the processes of the fleet on this machine log, merged by time."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from aidevos.cli.errors import CommandError
from aidevos.log_levels import LEVELS
from aidevos.quantities import parse_time
from aidevos.settings import load

if TYPE_CHECKING:
    from aidevos.observability.log_entries import Entry

LINES = 100
# Seconds between two looks at files that are followed.
POLL = 0.2

Services = Annotated[
    list[str] | None,
    Argument(metavar="SERVICE", help="Services, servers, or single processes such as objects-1.", show_default=False),
]


def logs(
    services: Services = None,
    follow: Annotated[
        bool, Option("--follow", "-f", help="Go on with the lines that are written from now on.")
    ] = False,
    since: Annotated[
        str, Option(metavar="TIME", help="Show all lines since a time, like 10m ago or 2026-11-30T08:00:00Z.")
    ] = "",
    grep: Annotated[str, Option(metavar="REGEX", help="Only lines with a value that has a match.")] = "",
    level: Annotated[str, Option(metavar="LEVEL", help="Only lines of this level and more severe ones.")] = "DEBUG",
    lines: Annotated[
        int | None,
        Option("--lines", "-n", min=0, help=f"The number of last lines; by default {LINES}, or all with --since."),
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Print each line as JSON.")] = False,
) -> None:
    """Show what the fleet's processes log, merged by time.

    It reads the files of the fleet under AIDEVOS_HOME.

    Example: aidevos logs objects --since 10m --level WARNING
    """
    from aidevos.observability.log_files import Follower, LogFile, entries_since, last_entries

    wanted, start = _filter(level, grep), _parse_since(since)
    show, home = _printer(as_json=as_json), load().home
    find = _finder(home, services or [])
    with ExitStack() as stack:
        found = [LogFile(path, stack) for path in find()]
        if lines is None and start is not None:
            show(entries_since(found, start, wanted))
        else:
            recent = last_entries(found, LINES if lines is None else lines, wanted)
            show(entry for entry in recent if start is None or entry.at >= start)
        followers = {log.path: stack.enter_context(closing(log.follow())) for log in found} if follow else {}
        while follow:
            time.sleep(POLL)
            for path in set(find()) - followers.keys():
                followers[path] = stack.enter_context(closing(Follower(path)))
            new = [entry for each in followers.values() for entry in each.poll() if wanted(entry)]
            show(sorted(new, key=lambda entry: entry.at))


def _finder(home: Path, services: list[str]) -> Callable[[], list[Path]]:
    """Return a function that finds the logs of these services, or all. Raises `CommandError` if there is none now."""
    from aidevos.observability.log_files import SUFFIXES, programs_in
    from aidevos.process.fleet import LOGS

    folder = home / LOGS
    known = programs_in(folder)
    if not known:
        raise CommandError(
            f"there are no logs under {folder}: run `make up`, or set AIDEVOS_HOME to the fleet's home", 1
        )
    for service in services:
        if not any(_belongs(program, service) for program in known):
            names = ", ".join(sorted({program.partition("-")[0] for program in known}))
            raise CommandError(f"there is no log of {service!r} under {folder}; there are those of {names}")

    def find() -> list[Path]:
        programs = programs_in(folder)
        chosen = [name for name in programs if not services or any(_belongs(name, service) for service in services)]
        paths = (folder / f"{name}{suffix}" for name in chosen for suffix in SUFFIXES)
        return [path for path in paths if path.exists()]

    return find


def _belongs(program: str, service: str) -> bool:
    """True if the program is a process of the service, or is named itself."""
    return service in (program, re.sub(r"-\d+$", "", program))


def _filter(level: str, grep: str) -> Callable[[Entry], bool]:
    if level.upper() not in LEVELS:
        raise CommandError(f"--level {level!r}: there are {', '.join(LEVELS)}")
    try:
        pattern = re.compile(grep)
    except re.error as error:
        raise CommandError(f"--grep {grep!r} isn't a regular expression: {error}") from None
    least = LEVELS.index(level.upper())
    return lambda entry: entry.is_severe(least) and (not grep or entry.matches(pattern))


def _parse_since(text: str) -> float | None:
    """Return the seconds since the epoch, or None for an empty text. A time without a zone is in UTC."""
    if not text:
        return None
    try:
        return time.time() - parse_time(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"--since {text!r} must be like 10m, 1h30m or 2026-11-30T08:00:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _printer(*, as_json: bool) -> Callable[[Iterable[Entry]], None]:
    """Return a function that prints entries at once."""
    import msgspec

    from aidevos.observability.log_lines import is_colourful, line_renderer

    render = line_renderer(colours=is_colourful(sys.stdout))

    def show(entries: Iterable[Entry]) -> None:
        for entry in entries:
            text = (entry.raw or msgspec.json.encode(entry.line).decode()) if as_json else render(entry.line)
            sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    return show
