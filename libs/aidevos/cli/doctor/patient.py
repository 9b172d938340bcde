"""The fleet that is examined: its settings, and connections to its servers that the checks share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Any, TypeVar

import msgspec
import pymongo
from nats.aio.client import Client
from nats.errors import Error as NatsError
from pymongo.errors import PyMongoError

from aidevos.cli.doctor.finding import Unreachable
from aidevos.durable.client.connection import connect_once
from aidevos.process.fleet import CLIENT_USER, FLEET_FILE, Fleet, load_fleet, with_credentials
from aidevos.security.fleet_secrets import Secrets, load_secrets
from aidevos.security.tls import client_context, mongo_options
from aidevos.settings import Settings, load

T = TypeVar("T")
Database = pymongo.database.Database[dict[str, Any]]
CONNECT_WITHIN = 3.0
# The user of NATS who may do everything; no service uses it.
NATS_ADMIN = "fleet"
# The settings of the fleet that is up, as its start has left them.
ENVIRONMENT_FILE = "environment.json"


class Patient:
    """The fleet under the home of these settings, or, where none is described there, that of the settings' own URLs."""

    def __init__(self, shell: Settings) -> None:
        self.home = shell.home
        self.fleet: Fleet | None = load_fleet(self.home) if (self.home / FLEET_FILE).exists() else None
        self.variables = _variables(shell) if self.fleet is not None else {}
        self.settings = load(self.variables, home=self.home) if self.fleet is not None else shell
        self._nats: Client | None = None
        self._connecting = asyncio.Lock()

    @cached_property
    def secrets(self) -> Secrets | None:
        try:
            return load_secrets(self.home)
        except FileNotFoundError:
            return None

    @cached_property
    def nats_url(self) -> str:
        if self.fleet is None:
            return self.settings.nats_url
        user, password = self.fleet.nats_username, self.fleet.nats_password
        if user == CLIENT_USER and self.secrets is not None and NATS_ADMIN in self.secrets.nats:
            user, password = NATS_ADMIN, self.secrets.nats[NATS_ADMIN]
        return with_credentials(self.fleet.nats_url, user, password)

    @cached_property
    def mongo_url(self) -> str:
        return self.settings.mongo_url if self.fleet is None else self.fleet.mongo_url

    @cached_property
    def event_bus_url(self) -> str:
        return self.settings.event_bus_url if self.fleet is None else self.fleet.event_bus_url

    async def nats(self) -> Client:
        """Return a connection to NATS as an administrator. Raises `Unreachable`."""
        if not self.nats_url:
            raise Unreachable("no fleet is up")
        async with self._connecting:
            if self._nats is None:
                try:
                    async with asyncio.timeout(CONNECT_WITHIN):
                        self._nats = await connect_once(self.nats_url, client_context(self.settings))
                except (NatsError, OSError, TimeoutError) as error:
                    raise Unreachable(f"NATS can't be reached: {error or 'no answer'}") from None
        return self._nats

    async def ask_mongo(self, work: Callable[[Database], T]) -> T:
        """Return the result of work on the fleet's database, in a thread. Raises `Unreachable`."""
        if not self.mongo_url:
            raise Unreachable("no fleet is up")
        try:
            return await asyncio.to_thread(lambda: work(self._database))
        except PyMongoError as error:
            if isinstance(error, pymongo.errors.OperationFailure):
                raise
            raise Unreachable("MongoDB can't be reached") from None

    @cached_property
    def _database(self) -> Database:
        limit = int(CONNECT_WITHIN * 1000)
        client = pymongo.MongoClient[dict[str, Any]](
            self.mongo_url,
            serverSelectionTimeoutMS=limit,
            connectTimeoutMS=limit,
            socketTimeoutMS=limit,
            **mongo_options(self.settings, self.mongo_url),
        )
        return client[self.settings.mongo_database if self.fleet is None else self.fleet.mongo_database]

    async def close(self) -> None:
        if self._nats is not None:
            await self._nats.close()


def _variables(shell: Settings) -> dict[str, str]:
    try:
        return msgspec.json.decode((shell.home / ENVIRONMENT_FILE).read_bytes(), type=dict[str, str])
    except (OSError, msgspec.MsgspecError):
        return {}


Check = Callable[[Patient], Awaitable[list[Any]]]
