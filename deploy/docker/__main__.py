"""`python -m aidevos.deploy.docker setup|provision|serve`: the command of the fleet's containers.

`setup` creates everything that must exist before a server starts. `provision` creates everything that
needs a running server. Both keep what already exists. A service reads its passwords from the volume
when it starts, so the compose file, the images and `docker inspect` never show them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
import sys
from collections.abc import AsyncIterator

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError
from pymongo.errors import PyMongoError

from aidevos.contracts.fleet_events import FLEET_EVENTS
from aidevos.durable.bus.factory import prepare_rabbitmq
from aidevos.durable.client.connection import connect_once
from aidevos.durable.hosting import provision as nats_provision
from aidevos.process import vulnerabilities
from aidevos.process.fleet import CLIENT_USER, DATA_USER, FLEET_FILE, with_credentials
from aidevos.process.vulnerabilities import Version
from aidevos.security.fleet_secrets import SECRETS_FILE, Secrets, load_secrets
from aidevos.security.keys import ensure_signing_key
from aidevos.security.secret_files import write_secret
from aidevos.security.service_keys import register
from aidevos.security.tls import client_context
from aidevos.settings import Settings, SettingsError, load

from ..local import mongo_server, mongo_setup, nats_server
from ..local.credentials import ensure_secrets
from ..local.endpoints import describe
from ..local.programs import SERVICES, Service, shipped_types
from ..nats.config import ADMIN_USER
from . import homes

# The gateway's name on the fleet's network.
GATEWAY_HOST = "http_gateway"
RABBITMQ_USER = "aidevos"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}", description="Run a step or a service of the fleet in a container."
    )
    parser.add_argument("command", choices=("setup", "provision", "serve"))
    parser.add_argument("service", nargs="?", choices=[service.name for service in SERVICES])
    options = parser.parse_args()
    if (options.service is None) == (options.command == "serve"):
        parser.error("serve needs a service; setup and provision take none")
    os.umask(0o077)
    try:
        settings = load()
        if options.command == "setup":
            setup(settings)
        elif options.command == "provision":
            provision(settings)
        else:
            serve(settings, find(options.service))
    except (SettingsError, NatsError, PyMongoError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def find(name: str) -> Service:
    """Return a service of the fleet."""
    return next(service for service in SERVICES if service.name == name)


def setup(settings: Settings) -> None:
    """Create the secrets, the keys, the servers' files and the services' homes, readable only by the fleet's user."""
    fleet_secrets = ensure_secrets(settings.home)
    ensure_signing_key(settings.home)
    nats_server.configure(settings, fleet_secrets)
    mongo_server.configure(settings, fleet_secrets)
    fleet_secrets = configure_rabbitmq(settings, fleet_secrets)
    for service in SERVICES:
        permissions = service.load_permissions()
        register(settings.home, service.name, permissions, acts_for_others=service.acts_for_others)
        homes.prepare(settings.home, service, fleet_secrets)


def configure_rabbitmq(settings: Settings, fleet_secrets: Secrets) -> Secrets:
    """Name the user that RabbitMQ creates at its first start, so that it has no `guest` user; return all secrets."""
    path = settings.home / "rabbitmq" / "rabbitmq.conf"
    if not path.exists():
        write_secret(path, f"default_user = {RABBITMQ_USER}\ndefault_pass = {secrets.token_urlsafe(24)}\n".encode())
    password = path.read_text().split("default_pass = ")[1].strip()
    with_password = msgspec.structs.replace(fleet_secrets, rabbitmq=password)
    write_secret(settings.home / SECRETS_FILE, msgspec.json.encode(with_password))
    return with_password


def provision(settings: Settings) -> None:
    """Create the replica set, its users, streams, queues and buckets, then write `fleet.json`.

    This must run on the network of MongoDB's container: until the first user exists, the server accepts
    new users only from its own machine.
    """
    fleet_secrets = load_secrets(settings.home)
    mongo_version = mongo_setup.prepare(msgspec.structs.replace(settings, mongo_url=""), fleet_secrets, shipped_types())
    nats_version = asyncio.run(_provision_nats(settings))
    for line in vulnerabilities.warnings({"NATS": nats_version, "MongoDB": mongo_version}, "update the server's image"):
        print(line, file=sys.stderr)
    asyncio.run(
        prepare_rabbitmq(msgspec.structs.replace(settings, event_bus_url=_event_bus_url(settings)), FLEET_EVENTS)
    )
    reachable = msgspec.structs.replace(
        settings,
        host=GATEWAY_HOST,
        nats_url=_nats_url(settings, CLIENT_USER),
        mongo_url=_mongo_url(settings, DATA_USER),
        event_bus_url=_event_bus_url(settings),
    )
    fleet = describe(reachable, fleet_secrets, [])
    write_secret(settings.home / FLEET_FILE, msgspec.json.format(msgspec.json.encode(fleet)) + b"\n")
    for service in SERVICES:
        homes.tell(settings.home, service, fleet_secrets, fleet)


def serve(settings: Settings, service: Service) -> None:
    """Replace this process by the service's process, with only that service's credentials."""
    os.environ["AIDEVOS_NATS_URL"] = _nats_url(settings, service.user)
    os.environ["AIDEVOS_MONGO_URL"] = _mongo_url(settings, service.name) if service.stores else ""
    os.environ["AIDEVOS_EVENT_BUS_URL"] = _event_bus_url(settings)
    os.execv(sys.executable, service.command)  # noqa: S606


async def _provision_nats(settings: Settings) -> Version:
    async with _connect(settings, ADMIN_USER) as connection:
        await nats_provision.provision(connection, settings)
        return vulnerabilities.nats_version(connection)


@contextlib.asynccontextmanager
async def _connect(settings: Settings, user: str) -> AsyncIterator[Client]:
    connection = await connect_once(_nats_url(settings, user), client_context(settings))
    try:
        yield connection
    finally:
        await connection.close()


def _nats_url(settings: Settings, user: str) -> str:
    return with_credentials(settings.nats_url, user, load_secrets(settings.home).nats[user])


def _mongo_url(settings: Settings, user: str) -> str:
    return with_credentials(settings.mongo_url, user, load_secrets(settings.home).mongo[user])


def _event_bus_url(settings: Settings) -> str:
    """Return RabbitMQ's URL with credentials, or an empty string if the fleet's events use NATS."""
    if not settings.event_bus_url:
        return ""
    return with_credentials(settings.event_bus_url, RABBITMQ_USER, load_secrets(settings.home).rabbitmq)


if __name__ == "__main__":
    sys.exit(main())
