"""The owner's access to the data of a fleet: its database, and what says which of its hosts live."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pymongo
from bson.raw_bson import RawBSONDocument
from nats.errors import Error as NatsError
from pymongo import ReadPreference, WriteConcern
from pymongo.database import Database
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from aidevos.backup.errors import BackupError
from aidevos.backup.manifest import split_collection
from aidevos.contracts import subjects
from aidevos.durable.client.bucket import Bucket
from aidevos.durable.client.connection import connect_once
from aidevos.durable.hosting.provision import read_partitions
from aidevos.durable.store.mongo import MongoStore
from aidevos.process.fleet import FLEET_FILE, fleet_settings, load_fleet
from aidevos.security.fleet_secrets import SECRETS_FILE, load_secrets
from aidevos.security.tls import client_context, mongo_options
from aidevos.settings import Settings, load

Documents = Database[RawBSONDocument]
# A service whose user of NATS may read the bucket of hosts.
USER = "objects"
WRITE_TIMEOUT_MS = 60_000
SNAPSHOT_UNAVAILABLE, SNAPSHOT_TOO_OLD = 246, 239
# For a lease to end after its host was killed, in seconds.
LEASES_END_WITHIN = 20.0
POLL = 0.2


class FleetData(NamedTuple):
    """The servers of a fleet, with the owner's credentials, and its first administrator."""

    home: Path
    mongo_url: str
    database: str
    settings: Settings
    admin_username: str
    admin_password: str


def find_fleet(settings: Settings) -> FleetData:
    """Return the fleet that is up under the settings' home, or the one at the servers that the settings name.

    Raises `SettingsError`.
    """
    home = settings.home
    if settings.mongo_url and settings.nats_url and not (home / FLEET_FILE).exists() and (home / SECRETS_FILE).exists():
        password = settings.admin_password or load_secrets(home).admin_password
        return FleetData(home, settings.mongo_url, settings.mongo_database, settings, settings.admin_username, password)
    fleet = load_fleet(home)
    joined = fleet_settings(home, USER)
    return FleetData(home, fleet.mongo_url, fleet.mongo_database, joined, fleet.admin_username, fleet.admin_password)


@contextmanager
def open_database(fleet: FleetData) -> Iterator[Documents]:
    """Open the fleet's database. Errors of MongoDB in the block become `BackupError`."""
    options = mongo_options(load(), fleet.mongo_url)
    try:
        with pymongo.MongoClient(
            fleet.mongo_url,
            document_class=RawBSONDocument,
            tz_aware=True,
            serverSelectionTimeoutMS=5000,
            appname="aidevos backup",
            **options,
        ) as client:
            yield client.get_database(
                fleet.database,
                read_preference=ReadPreference.PRIMARY,
                read_concern=ReadConcern("majority"),
                write_concern=WriteConcern(w="majority", j=True, wtimeout=WRITE_TIMEOUT_MS),
            )
    except OperationFailure as error:
        raise BackupError(_explain(error)) from None
    except PyMongoError as error:
        raise BackupError(f"MongoDB: {_first_line(error)}") from None


def collections(database: Documents) -> list[str]:
    """Return the names of the collections that a copy has, sorted."""
    return sorted(name for name in database.list_collection_names() if split_collection(name))


def open_types(fleet: FleetData, types: list[str]) -> None:
    """Make the collections of these types and their fences, and prove each fence. Raises `BackupError`."""

    async def prove() -> None:
        store = MongoStore(fleet.mongo_url, fleet.database, tls=mongo_options(load(), fleet.mongo_url))
        try:
            for type in types:
                await store.open(type)
        finally:
            store.close()

    try:
        asyncio.run(prove())
    except Exception as error:
        raise BackupError(f"the fence can't be proven: {error}") from error


def read_partition_count(fleet: FleetData) -> int:
    """Return the number of partitions of each type. Raises `SettingsError` or `BackupError`."""

    async def read(connection: Any) -> int:
        return await read_partitions(connection)

    found: int = _ask(fleet, read)
    return found


def known_types(fleet: FleetData) -> set[str]:
    """Return the types that hosts have announced. Raises `BackupError`."""

    async def read(connection: Any) -> set[str]:
        return {name for name in await Bucket(connection, subjects.TYPES_BUCKET).keys("") if subjects.is_type(name)}

    found: set[str] = _ask(fleet, read)
    return found


def wait_until_no_host_lives(fleet: FleetData, within: float = LEASES_END_WITHIN) -> list[str]:
    """Return the services whose hosts still live after `within` seconds; none if all have ended."""

    async def wait(connection: Any) -> list[str]:
        hosts, loop = Bucket(connection, subjects.HOSTS_BUCKET), asyncio.get_running_loop()
        end = loop.time() + within
        while True:
            leases = [key.split(".") for key in await hosts.keys("") if key.startswith("lease.")]
            if not leases or loop.time() > end:
                return sorted({service for _, service, *_ in leases})
            await asyncio.sleep(POLL)

    living: list[str] = _ask(fleet, wait)
    return living


def _ask(fleet: FleetData, question: Any) -> Any:
    async def ask() -> Any:
        async with asyncio.timeout(5):
            connection = await connect_once(fleet.settings.nats_url, client_context(fleet.settings))
        try:
            return await question(connection)
        finally:
            await connection.close()

    try:
        return asyncio.run(ask())
    except (NatsError, OSError, TimeoutError) as error:
        raise BackupError(f"NATS can't be reached: {error or 'no answer'}") from None


def _explain(error: OperationFailure) -> str:
    if error.code == SNAPSHOT_TOO_OLD:
        return (
            "MongoDB no longer has the moment that the copy shows: raise the server's parameter "
            "minSnapshotHistoryWindowInSeconds (300 by default) above the time that a backup takes, and run it again"
        )
    if error.code == SNAPSHOT_UNAVAILABLE:
        return "a service changed a collection or an index meanwhile: run the backup again"
    return f"MongoDB: {_first_line(error)}"


def _first_line(error: PyMongoError) -> str:
    return str(error).partition(", full error")[0].splitlines()[0][:300]
