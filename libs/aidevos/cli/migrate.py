"""`aidevos objects migrate`: tries all stored states against today's types, and rewrites those of older schemas."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Annotated, Any

import msgspec
from typer import Argument, Exit, Option

from aidevos.cli.errors import INCOMPLETE, UNREACHABLE, CommandError
from aidevos.cli.output import print_json, print_table
from aidevos.cli.owner import call_fleet
from aidevos.cli.progress import Progress
from aidevos.contracts import objects
from aidevos.contracts.errors import Failure
from aidevos.durable.client.client import DurableObjectClient
from aidevos.settings import load

# Documents that are read at once, and objects that are rewritten at once.
PAGE, AT_ONCE = 200, 16
SHOWN_PROBLEMS = 50

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

    It works on the fleet under AIDEVOS_HOME: it reads MongoDB, and only the owner of the fleet may let objects rewrite
    their states, over NATS. Your own types are loaded from the present folder.

    Example: aidevos objects migrate --dry-run shop:Cart

    Exit status 3 means that some states can't be read, or couldn't be rewritten.
    """
    sys.path.insert(0, "")
    known = _find_types(types or [])
    results = _try_all(known, rate, names_others=not types) if dry_run else _rewrite_all(known, rate)
    if as_json:
        print_json(results)
    else:
        _show(results)
    if any(each.failing or each.newer if dry_run else each.failed for each in results):
        raise Exit(INCOMPLETE)


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


def _try_all(types: Sequence[Any], rate: int, *, names_others: bool) -> list[Any]:
    from aidevos.process.migration import LIVE, SHOWN, examine

    with _database() as database, Progress("trying") as progress:
        progress.expect(sum(database[f"obj_{type.name}"].estimated_document_count() for type in types))
        found = []
        for type in types:
            progress.say(type.name)
            documents = database[f"obj_{type.name}"].find(LIVE, SHOWN, batch_size=PAGE)
            found.append(examine(type, _paced(documents, rate), progress.advance))
        if names_others:
            _name_others(database, {type.name for type in types})
        return found


def _rewrite_all(types: Sequence[Any], rate: int) -> list[Any]:
    from aidevos.process.migration import LIVE, older_ids

    with _database() as database, Progress("rewriting") as progress:
        done = []
        for type in types:
            progress.say(type.name)
            documents = database[f"obj_{type.name}"].find(LIVE, {"schema": True}, batch_size=PAGE)
            ids = _paced(older_ids(type, documents), rate)
            done.append(_rewrite(type.name, type.cls.schema_version, ids, progress))
        return done


def _rewrite(type: str, schema: int, ids: Iterator[str], progress: Progress) -> Rewritten:
    """Let each object rewrite its state in a turn of its own, and so under its fence."""
    done = Rewritten(type)

    async def rewrite(client: DurableObjectClient, id: str) -> None:
        try:
            reached = await client.call(type, id, objects.MIGRATE)
            if reached != schema:
                done.failed[id] = f"its host's code has schema version {reached}, not {schema}"
            done.objects += reached == schema
        except Failure as failure:
            if failure.code != "not-found":
                done.failed[id] = f"{failure.code}: {failure.detail}"
        progress.advance(1)

    async def run(client: DurableObjectClient) -> None:
        while some := list(islice(ids, AT_ONCE)):
            await asyncio.gather(*(rewrite(client, id) for id in some))

    call_fleet(run)
    return done


def _database() -> Any:
    from contextlib import contextmanager

    from aidevos.backup.errors import BackupError
    from aidevos.backup.fleet_data import find_fleet, open_database

    @contextmanager
    def opened() -> Iterator[Any]:
        try:
            with open_database(find_fleet(load())) as database:
                yield database
        except BackupError as error:
            raise CommandError(str(error), UNREACHABLE) from None

    return opened()


def _paced(items: Iterable[Any], rate: int) -> Iterator[Any]:
    """Yield items, at most `rate` per second."""
    began = time.monotonic()
    for count, item in enumerate(items):
        ahead = count / rate - (time.monotonic() - began)
        if ahead > 0:
            time.sleep(ahead)
        yield item


def _name_others(database: Any, tried: set[str]) -> None:
    """Say which types the database has besides these."""
    stored = {name.removeprefix("obj_") for name in database.list_collection_names() if name.startswith("obj_")}
    if others := sorted(stored - tried):
        print(f"aidevos: not tried: {', '.join(others)}", file=sys.stderr)


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
