"""`aidevos types`: the object types that the fleet knows, and the removal of those that no host serves any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from nats.aio.client import Client
from nats.errors import Error as NatsError
from typer import Argument, Context, Option, Typer

from aidevos.cli.errors import CommandError
from aidevos.cli.output import print_table
from aidevos.contracts import subjects
from aidevos.contracts.times import rfc3339_of
from aidevos.durable.client.bucket import Bucket
from aidevos.durable.client.connection import connect_once
from aidevos.durable.client.types import UNSERVED_AFTER, TypeDirectory
from aidevos.durable.hosting.membership import serves
from aidevos.process.fleet import fleet_settings
from aidevos.security.tls import client_context
from aidevos.settings import load

# A service whose user of NATS may change the announcements.
USER = "objects"
CONNECT_WITHIN = 3.0
UNREACHABLE = 1


app = Typer(help="List, forget or print (--typescript) the fleet's object types.")


@app.callback(invoke_without_command=True)
def types(
    context: Context,
    typescript: Annotated[
        bool, Option("--typescript", help="Print the types of objects, collections and events for the client.")
    ] = False,
) -> None:
    if typescript:
        from aidevos.cli import typescript as module
        from aidevos.cli.remote import call

        print(call(module.fetch), end="")
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command("list")
def list_types() -> None:
    """Show every type, and when it was last served.

    It asks the NATS server of the fleet under AIDEVOS_HOME.
    """
    now = time.time()
    rows = [
        (type, rfc3339_of(at), "served" if at + UNSERVED_AFTER > now else "not served")
        for type, at in _run(_announcements)
    ]
    print_table(("TYPE", "LAST SERVED", "STATE"), rows)


@app.command()
def forget(type: Annotated[str, Argument(help="The type's name.")]) -> None:
    """Remove a type that no host serves from lists and documents; its objects stay in the database.

    It changes the announcements in the NATS server of the fleet under AIDEVOS_HOME.
    """
    if not subjects.is_type(type):
        raise CommandError(f"{type!r} is not the name of a type; `aidevos types list` shows them")
    _run(lambda connection: _remove(connection, type))


async def _announcements(connection: Client) -> list[tuple[str, float]]:
    directory = TypeDirectory(connection)
    names = sorted(filter(subjects.is_type, await Bucket(connection, subjects.TYPES_BUCKET).keys("")))
    times = [await directory.announced_at(name) for name in names]
    return [(name, at) for name, at in zip(names, times, strict=True) if at is not None]


async def _remove(connection: Client, type: str) -> None:
    if await TypeDirectory(connection).announced_at(type) is None:
        raise CommandError(f"the fleet knows no type {type!r}; `aidevos types list` shows them")
    if await serves(Bucket(connection, subjects.HOSTS_BUCKET), type):
        raise CommandError(f"a host serves the type {type}: stop it first")
    await Bucket(connection, subjects.TYPES_BUCKET).delete(type)


def _run(work: Callable[[Client], Awaitable[Any]]) -> Any:
    """Return the result of work on the running fleet. Raises `CommandError` or `SettingsError`."""

    async def run() -> Any:
        async with _connect() as connection:
            return await work(connection)

    try:
        return asyncio.run(run())
    except (NatsError, OSError, TimeoutError) as error:
        raise CommandError(f"NATS can't be reached: {error or 'no answer'}", UNREACHABLE) from None


@asynccontextmanager
async def _connect() -> AsyncIterator[Client]:
    settings = fleet_settings(load().home, USER)
    async with asyncio.timeout(CONNECT_WITHIN):
        connection = await connect_once(settings.nats_url, client_context(settings))
    try:
        yield connection
    finally:
        await connection.close()
