"""The homes of the services in containers: parts of the owner's home, each with the secrets of one service.

    <home>/homes/<service>/   what the container of the service has as its home
    <home>/public/            what verifies tokens: all containers have it, and the authentication service writes it
    <home>/keys/              the issuer's keys: the authentication service has them

Promise: no service's home has a secret of another service, nor one of the owner's. The owner's own home has everything.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from aidevos.process.fleet import FLEET_FILE, Fleet, with_credentials
from aidevos.security import service_keys
from aidevos.security.fleet_secrets import SECRETS_FILE, Secrets
from aidevos.security.keys import CSRF, FOLDER, PUBLIC_FOLDER, ensure_secret
from aidevos.security.sealed import FILE as SEALING
from aidevos.security.secret_files import write_secret

from ..local.programs import Service

HOMES = "homes"
ISSUER = "authentication"
# The host of the first administrator's account.
ADMINISTRATION = "user_management"
# Keys that were once in one folder for all services, and must go on to be the same.
INHERITED = {
    "http_gateway": (CSRF,),
    "api_gateway": ("api_keys.key",),
    "data_storage": ("cursors",),
    "projects": (SEALING,),
    "events": (SEALING,),
}


def prepare(home: Path, service: Service, secrets: Secrets) -> None:
    """Make the home of a registered service, or bring it up to date."""
    own = _home(home, service)
    for folder in (FOLDER, PUBLIC_FOLDER, service_keys.FOLDER):
        (own / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    write_secret(own / SECRETS_FILE, msgspec.json.encode(_secrets_of(service, secrets)))
    key = Path(service_keys.FOLDER, f"{service.name}.json")
    write_secret(own / key, (home / key).read_bytes())
    for name in INHERITED.get(service.name, ()):
        if (home / FOLDER / name).exists() and not (own / FOLDER / name).exists():
            shutil.copy2(home / FOLDER / name, own / FOLDER / name)
    if service.name == "http_gateway":
        # It has no right to write.
        ensure_secret(own, CSRF)


def tell(home: Path, service: Service, secrets: Secrets, fleet: Fleet) -> None:
    """Write the service's own `fleet.json`, for `aidevos serve` in its container."""
    mongo_url = with_credentials(fleet.mongo_url, service.name, secrets.mongo[service.name]) if service.stores else ""
    told = msgspec.structs.replace(
        fleet,
        nats_username=service.user,
        nats_password=secrets.nats[service.user],
        mongo_url=mongo_url,
        admin_username="",
        admin_password="",
    )
    write_secret(_home(home, service) / FLEET_FILE, msgspec.json.encode(told))


def _home(home: Path, service: Service) -> Path:
    return home / HOMES / service.name


def _secrets_of(service: Service, secrets: Secrets) -> Secrets:
    return Secrets(
        nats={service.user: secrets.nats[service.user]},
        mongo={service.name: secrets.mongo[service.name]} if service.stores else {},
        mongo_key="",
        admin_password=secrets.admin_password if service.name == ADMINISTRATION else "",
        rabbitmq=secrets.rabbitmq,
    )
