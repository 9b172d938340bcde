"""The set-up of MongoDB for a fleet: the replica set and the users of its own server, and the check of another one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from pymongo.errors import OperationFailure, PyMongoError

from aidevos.process.fleet import ADMIN_USER, DATA_USER
from aidevos.process.mongo_users import Admin, ensure_service, ensure_user
from aidevos.process.vulnerabilities import Version
from aidevos.security.fleet_secrets import Secrets
from aidevos.security.tls import mongo_options
from aidevos.settings import Settings, SettingsError

from ..nats.config import HOST_USERS
from .binaries import MONGO_MINIMUM
from .mongo_server import HOST, REPLICA_SET, url

TIMEOUT = 30.0
UNAUTHORIZED, ALREADY_INITIALIZED, USER_EXISTS = 13, 23, 51003


def check_external(settings: Settings) -> Version:
    """Return the version of the MongoDB at AIDEVOS_MONGO_URL. Raises `SettingsError` if it can't serve a fleet."""
    try:
        options = mongo_options(settings, settings.mongo_url)
        with Admin(settings.mongo_url, serverSelectionTimeoutMS=3000, **options) as client:
            version = _version(client)
            hello = client.admin.command("hello")
    except PyMongoError as error:
        raise SettingsError(f"can't connect to the MongoDB at AIDEVOS_MONGO_URL: {error}") from None
    if version[:2] < MONGO_MINIMUM:
        raise SettingsError(
            f"the MongoDB at AIDEVOS_MONGO_URL is version {version[0]}.{version[1]}: 6.0 or newer is needed"
        )
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise SettingsError(
            "the MongoDB at AIDEVOS_MONGO_URL isn't a replica set: start it with --replSet and initiate it"
        )
    return version


def prepare(settings: Settings, secrets: Secrets, types: Mapping[str, Iterable[str]] = MappingProxyType({})) -> Version:
    """Initiate the replica set, create its users, wait until it accepts writes, and return its version.

    `types` are those of each service, whose user may use their collections. Steps that are already done are skipped.
    Raises `TimeoutError`.
    """
    with _connect(settings) as anonymous:
        _initiate(anonymous, f"{HOST}:{settings.mongo_port}")
        wait_for_primary(anonymous)
        _create_administrator(anonymous, secrets.mongo[ADMIN_USER])
    with Admin(url(settings, secrets, ADMIN_USER)) as admin:
        ensure_user(admin, DATA_USER, secrets.mongo[DATA_USER], _data_roles(settings.mongo_database))
        for service in HOST_USERS:
            password = secrets.mongo[service]
            ensure_service(admin, settings.mongo_database, service, password, types.get(service, ()))
        return _version(admin)


def wait_for_primary(client: Admin, timeout: float = TIMEOUT) -> None:
    """Return once the server accepts writes. Raises `TimeoutError` after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not client.admin.command("hello")["isWritablePrimary"]:
        if time.monotonic() > end:
            raise TimeoutError("MongoDB didn't become the primary of its replica set in time")
        time.sleep(0.02)


def _version(client: Admin) -> Version:
    major, minor, patch = client.server_info()["versionArray"][:3]
    return major, minor, patch


def _connect(settings: Settings) -> Admin:
    return Admin(HOST, settings.mongo_port, directConnection=True)


def _initiate(anonymous: Admin, address: str) -> None:
    """Initiate the replica set; without users, the server allows this from its own machine."""
    config = {"_id": REPLICA_SET, "members": [{"_id": 0, "host": address}]}
    try:
        anonymous.admin.command("replSetInitiate", config)
    except OperationFailure as error:
        if error.code not in (UNAUTHORIZED, ALREADY_INITIALIZED):
            raise


def _create_administrator(anonymous: Admin, password: str) -> None:
    try:
        anonymous.admin.command("createUser", ADMIN_USER, pwd=password, roles=["root"])
    except OperationFailure as error:
        if error.code not in (UNAUTHORIZED, USER_EXISTS):
            raise


def _data_roles(database: str) -> list[dict[str, str]]:
    roles = [{"role": role, "db": database} for role in ("readWrite", "dbAdmin")]
    return [*roles, {"role": "clusterMonitor", "db": "admin"}]
