"""The fleet's own MongoDB: a replica set of one node that asks for credentials, always on loopback.

Nobody but the fleet's own services needs it, so `AIDEVOS_HOST` doesn't open it to others.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import OperationFailure, PyMongoError

from aidevos.process.fleet import with_credentials
from aidevos.security.fleet_secrets import Secrets
from aidevos.security.keys import write_secret
from aidevos.security.tls import mongo_options
from aidevos.settings import Settings, SettingsError

from .binaries import MONGO_MINIMUM
from .vulnerabilities import Version

FOLDER = "mongo"
HOST = "127.0.0.1"
REPLICA_SET = "aidevos"
# Makes the other users; no service runs with it.
ADMIN_USER = "fleet"
# Reads and writes the product's database.
DATA_USER = "aidevos"
USERS = (ADMIN_USER, DATA_USER)

OPLOG_MIB = 1024
TIMEOUT = 30.0
# Without zlib, through which CVE-2025-14847 reads the server's memory. The compose file has the same ones.
COMPRESSORS = "snappy,zstd"
UNAUTHORIZED, ALREADY_INITIALIZED, USER_EXISTS = 13, 23, 51003

Admin = pymongo.MongoClient[dict[str, Any]]


def configure(settings: Settings, secrets: Secrets) -> None:
    """Make the data folder and the key of the replica set (mode 600)."""
    folder = settings.home / FOLDER
    (folder / "data").mkdir(mode=0o700, parents=True, exist_ok=True)
    write_secret(folder / "key", secrets.mongo_key.encode())


def command(program: Path, settings: Settings, extra: Sequence[str] = (), cache: float = 1) -> list[str]:
    """How the configured server is started, in the foreground; `cache` is in GiB."""
    folder = settings.home / FOLDER
    options = {
        "--dbpath": folder / "data",
        "--port": settings.mongo_port,
        "--bind_ip": HOST,
        "--replSet": REPLICA_SET,
        "--keyFile": folder / "key",
        "--oplogSize": OPLOG_MIB,
        "--wiredTigerCacheSizeGB": cache,
        "--networkMessageCompressors": COMPRESSORS,
    }
    flags = [str(part) for option in options.items() for part in option]
    return [str(program), *flags, "--nounixsocket", "--quiet", *extra]


def url(settings: Settings, secrets: Secrets, user: str) -> str:
    """The server's URL with a user's credentials; that of a server run elsewhere stays as it is set."""
    own = f"mongodb://{HOST}:{settings.mongo_port}/?directConnection=true&authSource=admin"
    return settings.mongo_url or with_credentials(own, user, secrets.mongo[user])


def check_external(settings: Settings) -> Version:
    """Return the version of the MongoDB that is run elsewhere; raises `SettingsError` if it can't serve a fleet."""
    try:
        options = mongo_options(settings, settings.mongo_url)
        with Admin(settings.mongo_url, serverSelectionTimeoutMS=3000, **options) as client:
            version = _version(client)
            hello = client.admin.command("hello")
    except PyMongoError as error:
        raise SettingsError(f"the MongoDB at AIDEVOS_MONGO_URL doesn't let us in: {error}") from None
    if version[:2] < MONGO_MINIMUM:
        raise SettingsError(
            f"the MongoDB at AIDEVOS_MONGO_URL is version {version[0]}.{version[1]}, too old: 6.0 is needed"
        )
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise SettingsError(
            "the MongoDB at AIDEVOS_MONGO_URL is no replica set: start it with --replSet and initiate it"
        )
    return version


def prepare(settings: Settings, secrets: Secrets) -> Version:
    """Initiate the replica set and make its users, as far as that hasn't happened, and wait until it
    takes writes. Return the server's version. Raises `TimeoutError`."""
    with _connect(settings) as anonymous:
        _initiate(anonymous, f"{HOST}:{settings.mongo_port}")
        wait_for_primary(anonymous)
        _create_administrator(anonymous, secrets.mongo[ADMIN_USER])
    with Admin(url(settings, secrets, ADMIN_USER)) as admin:
        _grant(admin, secrets.mongo[DATA_USER], settings.mongo_database)
        return _version(admin)


def wait_for_primary(client: Admin, timeout: float = TIMEOUT) -> None:
    """Return when the server takes writes; raises `TimeoutError`."""
    end = time.monotonic() + timeout
    while not client.admin.command("hello")["isWritablePrimary"]:
        if time.monotonic() > end:
            raise TimeoutError("MongoDB has not become primary of its replica set")
        time.sleep(0.02)


def _version(client: Admin) -> Version:
    major, minor, patch = client.server_info()["versionArray"][:3]
    return major, minor, patch


def _connect(settings: Settings) -> Admin:
    return Admin(HOST, settings.mongo_port, directConnection=True)


def _initiate(anonymous: Admin, address: str) -> None:
    """The server lets anyone on this machine do this until the first user exists."""
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


def _grant(admin: Admin, password: str, database: str) -> None:
    roles: list[dict[str, str]] = [{"role": role, "db": database} for role in ("readWrite", "dbAdmin")]
    roles.append({"role": "clusterMonitor", "db": "admin"})
    verb = "updateUser" if admin.admin.command("usersInfo", DATA_USER)["users"] else "createUser"
    admin.admin.command(verb, DATA_USER, pwd=password, roles=roles)
