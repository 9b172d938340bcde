"""`aidevos objects migrate`: tries all stored states against today's types, and rewrites those of older schemas."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Annotated, Any

import msgspec
from typer import Argument, Exit, Option

from aidevos.cli.errors import INCOMPLETE, CommandError
from aidevos.cli.listing import path_of
from aidevos.cli.output import print_json, print_table
from aidevos.cli.progress import Progress
from aidevos.cli.remote import call
from aidevos.cli.target import find_owned_target
from aidevos.cli.transfers import DEADLINE, exported_lines
from aidevos.cli.types import TYPES
from aidevos.client.api import HttpApi
from aidevos.client.errors import ApiError
from aidevos.contracts.objects import MigratedPage, StoredObject

# Objects of one request.
PAGE = 200
SHOWN_PROBLEMS = 50
# Failures that concern one type, by code, and what they say of it.
OF_TYPE = {
    "unknown-type": "no host serves them",
    "unavailable": "no host serves them",
    "forbidden": "only the owner of the fleet may see their states: run it where the home of the fleet is",
}
OTHERS = "name your own types as module:Class"

Types = Annotated[
    list[str] | None,
    Argument(
        metavar="TYPE|MODULE:CLASS",
        help="Types of the services, such as user, or your own, such as shop:Cart; by default all of the services.",
        show_default=False,
    ),
]


class Rewritten(msgspec.Struct):
    """How many objects of a type were rewritten, and why others weren't, by ID."""

    type: str
    objects: int = 0
    failed: dict[str, str] = msgspec.field(default_factory=dict)


def migrate(
    types: Types = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Only try the states, and change nothing.")] = False,
    rate: Annotated[int, Option(min=1, metavar="N", help="The most objects per second.")] = 2000,
    as_json: Annotated[bool, Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Try every stored state, and rewrite those of older schemas.

    The states are tried with the code that is installed here. Your own types are loaded from the present folder.

    Example: aidevos objects migrate --dry-run shop:Cart

    It may be interrupted, and repeated at any time. Exit status 3 means that some states can't be read, or couldn't be
    rewritten.
    """
    sys.path.insert(0, "")
    known, one = _find_types(types or []), _try if dry_run else _rewrite
    with Progress("trying" if dry_run else "rewriting") as progress:
        work = Migration(known, one, Pace(rate, progress.advance), progress, skips=not types)
        results = call(work.run, deadline=DEADLINE, target=find_owned_target())
    for reason, names in work.skipped.items():
        print(f"aidevos: not tried: {', '.join(names)} ({reason})", file=sys.stderr)
    if as_json:
        print_json(results)
    else:
        _show(results)
    if any(each.failing or each.newer if dry_run else each.failed for each in results):
        raise Exit(INCOMPLETE)


class Pace:
    """Lets at most `rate` objects per second be read or rewritten. `on_done` is called with their numbers."""

    def __init__(self, rate: int, on_done: Callable[[int], None]) -> None:
        self._rate = rate
        self._on_done = on_done
        self._count = 0
        self._began = 0.0

    async def add(self, count: int) -> None:
        """Wait until so many more may be done."""
        now = asyncio.get_running_loop().time()
        self._began = self._began or now
        self._count += count
        self._on_done(count)
        ahead = self._count / self._rate - (now - self._began)
        if ahead > 0:
            await asyncio.sleep(ahead)


class Migration:
    """Tries or rewrites the states of types, one type after another.

    With `skips`, types of which the caller can't see the states now are left out. `skipped` has their names, and those
    of the other types that the fleet knows, by the reason.
    """

    def __init__(
        self,
        types: Sequence[Any],
        one: Callable[[HttpApi, Any, Pace], Awaitable[Any]],
        pace: Pace,
        progress: Progress,
        *,
        skips: bool,
    ) -> None:
        self._types = types
        self._one = one
        self._pace = pace
        self._progress = progress
        self._skips = skips
        self.skipped: dict[str, list[str]] = {}

    async def run(self, api: HttpApi) -> list[Any]:
        """Return the result of each type. Raises `ApiError`."""
        results = []
        for type in self._types:
            self._progress.say(type.name)
            try:
                results.append(await self._one(api, type, self._pace))
            except ApiError as error:
                if not (self._skips and error.code in OF_TYPE):
                    raise
                self.skipped.setdefault(OF_TYPE[error.code], []).append(type.name)
        if self._skips and self._one is _try:
            await self._name_others(api)
        return results

    async def _name_others(self, api: HttpApi) -> None:
        known = {each["type"] for each in (await api.call("GET", TYPES))["types"]}
        if others := sorted(known - {type.name for type in self._types}):
            self.skipped[OTHERS] = others


async def _try(api: HttpApi, type: Any, pace: Pace) -> Any:
    """Return what today's code makes of the states of a type."""
    from aidevos.process.migration import Findings, examine

    found = Findings(type.name, type.cls.schema_version)
    async for line in exported_lines(api, type.name, {}):
        each = msgspec.json.decode(line, type=StoredObject)
        examine(found, type, each.id, each.state, each.schema)
        await pace.add(1)
    return found


async def _rewrite(api: HttpApi, type: Any, pace: Pace) -> Rewritten:
    """Let each object with an older schema rewrite its state in a turn of its own, and so under its fence."""
    done, cursor = Rewritten(type.name), None
    path, wanted = path_of("durable-objects", type.name, "migrate"), {"schema": type.cls.schema_version, "limit": PAGE}
    while True:
        page = msgspec.convert(await api.call("POST", path, body=wanted | {"cursor": cursor}), MigratedPage)
        done.objects += page.migrated
        for each in page.failed:
            id, reason = each.object_id.partition(":")[2], f"{each.code}: {each.detail}"
            done.failed[id] = reason
        await pace.add(page.examined)
        if (cursor := page.next_cursor) is None:
            return done


def _find_types(names: Sequence[str]) -> list[Any]:
    """Return the object types of these names and paths, or all of the services. Raises `CommandError`."""
    from aidevos.cli.openapi import services, shipped_types
    from aidevos.cli.serving import load_service
    from aidevos.durable.objects.registry import DurableObjectRegistry

    shipped = {} if names and all(":" in each for each in names) else _by_name(shipped_types(services()))
    unknown = [each for each in names if ":" not in each and each not in shipped]
    if unknown:
        raise CommandError(f"no service has a type {unknown[0]!r}: name your own types as module:Class")
    chosen = [shipped[each] for each in names if ":" not in each] if names else list(shipped.values())
    for path in names:
        chosen += load_service([path]).types if ":" in path else []
    try:
        registered = DurableObjectRegistry(dict.fromkeys(chosen)).types
    except TypeError as error:
        raise CommandError(str(error)) from None
    return [registered[name] for name in sorted(registered)]


def _by_name(classes: Iterable[Any]) -> dict[str, Any]:
    return {cls.object_type: cls for cls in classes}


def _show(results: Sequence[Any]) -> None:
    if not results or isinstance(results[0], Rewritten):
        print_table(("TYPE", "REWRITTEN", "FAILED"), [(r.type, f"{r.objects}", f"{len(r.failed)}") for r in results])
        problems = [(f"{each.type}:{id}", why) for each in results for id, why in each.failed.items()]
    else:
        columns = ("TYPE", "SCHEMA", "OBJECTS", "OLDER", "NEWER", "FAILING")
        rows = [(r.type, *map(str, (r.schema, r.objects, r.older, r.newer, r.failing))) for r in results]
        print_table(columns, rows)
        found = [problem for each in results for problem in each.problems]
        problems = [(f"{p.type}:{p.id}", f"schema {p.schema}: {p.field}: {p.detail}") for p in found]
    for object_id, detail in problems[:SHOWN_PROBLEMS]:
        print(f"{object_id}: {detail}")
    if len(problems) > SHOWN_PROBLEMS:
        print(f"… and {len(problems) - SHOWN_PROBLEMS} more: see --json")
