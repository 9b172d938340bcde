"""The Secrets of a fleet on Kubernetes, made from the home of its owner.

Promise: a service's Secrets hold its own secrets, and none of another service or of the owner. The same home gives the
same Secrets, except for keys that are due to be replaced.

    <prefix>-<service>-env    the URLs of the servers, with the service's own credentials
    <prefix>-<service>-keys   its files: the key that it signs with, and keys of what it seals or derives
    <prefix>-public           a ConfigMap: what verifies tokens
    <prefix>-nats             a part of the configuration of the NATS server: users, rights and the subject mapping
    <prefix>-provision-env, <prefix>-provision-keys   what the step needs that prepares the servers
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from aidevos.durable.objects.registry import DurableObjectRegistry
from aidevos.process.fleet import with_credentials
from aidevos.process.nats_users import ACCOUNTS, write_accounts
from aidevos.process.nats_users import FOLDER as NATS_FOLDER
from aidevos.security import keys, service_keys
from aidevos.security.fleet_secrets import SECRETS_FILE, Secrets
from aidevos.security.sealed import FILE as SEALING
from aidevos.security.secret_files import write_secret
from aidevos.settings import Settings, SettingsError

from ..docker import homes
from ..local.credentials import ensure_secrets
from ..local.programs import SERVICES, Service
from ..nats.config import ADMIN_USER, HOST_USERS, render_shared

PROVISION = "provision"
# The service that hosts your own types, and the file of their names.
OBJECTS = "objects"
TYPES = "types.json"
NATS_CONFIG = "aidevos.conf"
# The file of the number of partitions with which the Secrets were first made.
PARTITIONS = "partitions"
# The keys that all processes of a service must share, besides the one that it signs with.
SHARED_KEYS = homes.INHERITED | {homes.ISSUER: (SEALING, "refresh.key", "links.key")}
# Pods see a changed Secret after up to two minutes. Only then may the next key sign.
KEY_NOTICE = 600.0
Manifest = dict[str, Any]


def manifests(
    settings: Settings,
    prefix: str,
    own: DurableObjectRegistry | None = None,
    *,
    shares_mongo_user: bool = False,
) -> list[Manifest]:
    """Return the Secrets, after making or replacing keys under the home where that is due.

    The service `objects` gets the rights of your `own` types too. With `shares_mongo_user`, all services use
    `AIDEVOS_MONGO_URL` as it is. Otherwise its user creates one for each. Raises `SettingsError` if a server's URL is
    missing, or if the number of partitions has changed.
    """
    for name in ("nats_url", "mongo_url"):
        if not getattr(settings, name):
            raise SettingsError(f"AIDEVOS_{name.upper()} must be set: it is where the pods find the server")
    home = settings.home
    secrets = ensure_secrets(home)
    _keep_partitions(home, settings.partitions)
    keys.maintain(home, settings.key_age, max(settings.key_notice, KEY_NOTICE))
    for service in SERVICES:
        service_keys.register(home, service.name, service.load_permissions(), acts_for_others=service.acts_for_others)
        homes.prepare(home, service, secrets)
    if own is not None:
        service_keys.register(home, OBJECTS, own.permissions())
    types = sorted(own.types) if own is not None else []
    made = [_nats(settings, prefix, secrets), *_provision(settings, prefix, secrets, types, shares_mongo_user)]
    for service in SERVICES:
        name = f"{prefix}-{kubernetes_name(service.name)}"
        environment = _environment(settings, service, secrets, shares_mongo_user)
        made.append(_secret(f"{name}-env", _encoded(environment)))
        made.append(_secret(f"{name}-keys", _files(home, service)))
    return [*made, _public(home, prefix)]


def _keep_partitions(home: Path, wanted: int) -> None:
    """Refuse another number of partitions than at first: running servers would map all objects anew at once."""
    path = home / PARTITIONS
    if not path.exists():
        write_secret(path, b"%d" % wanted)
    kept = int(path.read_bytes())
    if kept != wanted:
        raise SettingsError(f"AIDEVOS_PARTITIONS must be {kept}, as when this fleet's Secrets were first made")


def kubernetes_name(service: str) -> str:
    return service.replace("_", "-")


def _environment(settings: Settings, service: Service, secrets: Secrets, shares_mongo_user: bool) -> dict[str, str]:
    found = {"AIDEVOS_NATS_URL": with_credentials(settings.nats_url, service.user, secrets.nats[service.user])}
    if service.stores:
        url = settings.mongo_url
        own = url if shares_mongo_user else with_credentials(url, service.name, secrets.mongo[service.name])
        found["AIDEVOS_MONGO_URL"] = own
    if settings.event_bus_url:
        found["AIDEVOS_EVENT_BUS_URL"] = settings.event_bus_url
    if service.name == homes.ADMINISTRATION:
        found["AIDEVOS_ADMIN_PASSWORD"] = settings.admin_password or secrets.admin_password
    if service.name == homes.ISSUER and settings.smtp_url:
        found["AIDEVOS_SMTP_URL"] = settings.smtp_url
    return found


def _files(home: Path, service: Service) -> dict[str, bytes]:
    own = home if service.name == homes.ISSUER else home / homes.HOMES / service.name
    shared = SHARED_KEYS.get(service.name, ())
    found = {name: keys.ensure_secret(own, name) for name in shared}
    if service.name == homes.ISSUER:
        found[keys.RING] = (own / keys.FOLDER / keys.RING).read_bytes()
    signing = f"{service.name}.json"
    return found | {signing: (home / service_keys.FOLDER / signing).read_bytes()}


def _nats(settings: Settings, prefix: str, secrets: Secrets) -> Manifest:
    folder = settings.home / NATS_FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    write_accounts(settings.home)
    config = render_shared(passwords=secrets.nats, max_body=settings.max_body, partitions=settings.partitions)
    return _secret(f"{prefix}-nats", {NATS_CONFIG: config.encode(), ACCOUNTS: (folder / ACCOUNTS).read_bytes()})


def _provision(
    settings: Settings, prefix: str, secrets: Secrets, types: list[str], shares_mongo_user: bool
) -> list[Manifest]:
    environment = {
        "AIDEVOS_NATS_URL": with_credentials(settings.nats_url, ADMIN_USER, secrets.nats[ADMIN_USER]),
        "AIDEVOS_MONGO_URL": settings.mongo_url,
        "AIDEVOS_PARTITIONS": str(settings.partitions),
    }
    if settings.event_bus_url:
        environment["AIDEVOS_EVENT_BUS_URL"] = settings.event_bus_url
    users = {} if shares_mongo_user else {user: secrets.mongo[user] for user in HOST_USERS}
    own = Secrets(nats={}, mongo=users, mongo_key="", admin_password="")
    name = f"{prefix}-{PROVISION}"
    files = {SECRETS_FILE: msgspec.json.encode(own), TYPES: msgspec.json.encode(types)}
    return [_secret(f"{name}-env", _encoded(environment)), _secret(f"{name}-keys", files)]


def _public(home: Path, prefix: str) -> Manifest:
    files = sorted(path for path in (home / keys.PUBLIC_FOLDER).glob("[!.]*.json"))
    data = {path.name: path.read_text() for path in files}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{prefix}-public"}, "data": data}


def _secret(name: str, data: Mapping[str, bytes]) -> Manifest:
    content = {key: base64.b64encode(value).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "Opaque", "data": content}


def _encoded(values: Mapping[str, str]) -> dict[str, bytes]:
    return {name: value.encode() for name, value in values.items()}
