"""`python -m aidevos.deploy.kubernetes secrets|provision`: the Secrets of a fleet, and the step before its services.

`secrets` prints the Secrets for `kubectl apply`, made from the owner's home, which it keeps. `provision` runs in the
cluster: it creates MongoDB's users, and the streams, queues and buckets. Both keep what already exists.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

import msgspec
from nats.errors import Error as NatsError
from pymongo.errors import PyMongoError

from aidevos.cli.errors import CommandError
from aidevos.cli.serving import load_service
from aidevos.contracts.fleet_events import FLEET_EVENTS
from aidevos.durable.bus.factory import prepare_rabbitmq
from aidevos.durable.client.connection import connect_once
from aidevos.durable.hosting import provision as nats_provision
from aidevos.durable.objects.registry import DurableObjectRegistry
from aidevos.process import vulnerabilities
from aidevos.process.mongo_users import Admin, ensure_service
from aidevos.process.vulnerabilities import Version
from aidevos.security.fleet_secrets import load_secrets
from aidevos.security.tls import client_context, mongo_options
from aidevos.settings import Settings, SettingsError, load

from ..local import mongo_setup
from ..local.programs import shipped_types
from .manifests import OBJECTS, TYPES, manifests

SECRETS, PROVISION = "secrets", "provision"


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description="Prepare a fleet on Kubernetes.")
    parser.add_argument("command", choices=(SECRETS, PROVISION))
    parser.add_argument("--prefix", default="aidevos", help="of the names of the Secrets (the chart's secretsPrefix)")
    parser.add_argument(
        "--shared-mongo-user",
        action="store_true",
        help="let all services use AIDEVOS_MONGO_URL as it is, where its user may create no others",
    )
    parser.add_argument(
        "--types", nargs="+", default=[], help="your own types or service for `objects`, like package.module:Class"
    )
    options = parser.parse_args()
    os.umask(0o077)
    try:
        settings = load()
        if options.command == SECRETS:
            own = _load(options.types) if options.types else None
            items = manifests(settings, options.prefix, own, shares_mongo_user=options.shared_mongo_user)
            print(msgspec.json.encode({"apiVersion": "v1", "kind": "List", "items": items}).decode())
        else:
            provision(settings)
    except (SettingsError, CommandError, NatsError, PyMongoError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _load(paths: list[str]) -> DurableObjectRegistry:
    """Return your own types. Raises `CommandError`."""
    sys.path.insert(0, "")
    service = load_service(paths)
    if service.name != OBJECTS:
        raise CommandError(f"the service {service.name} has no Secrets: name it {OBJECTS}")
    return DurableObjectRegistry(service.types)


def provision(settings: Settings) -> None:
    """Check the servers, and create what the fleet needs in them: users, streams, queues and buckets."""
    mongo_version = mongo_setup.check_external(settings)
    _create_mongo_users(settings)
    nats_version = asyncio.run(_provision_nats(settings))
    for line in vulnerabilities.warnings({"NATS": nats_version, "MongoDB": mongo_version}, "update the server"):
        print(line, file=sys.stderr)
    asyncio.run(prepare_rabbitmq(settings, FLEET_EVENTS))


def _create_mongo_users(settings: Settings) -> None:
    passwords = load_secrets(settings.home).mongo
    own = msgspec.json.decode((settings.home / TYPES).read_bytes(), type=list[str])
    shipped = shipped_types()
    types = shipped | {OBJECTS: [*shipped[OBJECTS], *own]}
    with Admin(settings.mongo_url, **mongo_options(settings, settings.mongo_url)) as admin:
        for service, password in passwords.items():
            ensure_service(admin, settings.mongo_database, service, password, types[service])


async def _provision_nats(settings: Settings) -> Version:
    connection = await connect_once(settings.nats_url, client_context(settings))
    try:
        await nats_provision.provision(connection, settings)
        return vulnerabilities.nats_version(connection)
    finally:
        await connection.close()


if __name__ == "__main__":
    sys.exit(main())
