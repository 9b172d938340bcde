"""The fleet's own MongoDB: a replica set of one node that requires credentials, always on loopback.

Only the fleet's own services use it, so `AIDEVOS_HOST` doesn't expose it. `mongo_setup` makes it ready.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aidevos.process.fleet import ADMIN_USER, DATA_USER, with_credentials
from aidevos.security.fleet_secrets import Secrets
from aidevos.security.secret_files import write_secret
from aidevos.settings import Settings

from ..nats.config import HOST_USERS

FOLDER = "mongo"
HOST = "127.0.0.1"
REPLICA_SET = "aidevos"
USERS = (ADMIN_USER, DATA_USER, *HOST_USERS)

OPLOG_MIB = 1024
# Without zlib, through which CVE-2025-14847 reads the server's memory. The compose file has the same ones.
COMPRESSORS = "snappy,zstd"
# Options of WiredTiger. MongoDB reserves 33,000 sessions, which take 1.2 KB each from the start. At most 256 operations
# run at a time.
ENGINE = "session_max=2000"


def configure(settings: Settings, secrets: Secrets) -> None:
    """Create the data folder and the replica set's key file (mode 600)."""
    folder = settings.home / FOLDER
    (folder / "data").mkdir(mode=0o700, parents=True, exist_ok=True)
    write_secret(folder / "key", secrets.mongo_key.encode())


def command(
    program: Path, settings: Settings, extra: Sequence[str] = (), cache: float = 1, engine: str = ENGINE
) -> list[str]:
    """Return the command that runs the configured server in the foreground; `cache` is in GiB."""
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
        "--wiredTigerEngineConfigString": engine,
        "--setParameter": "diagnosticDataCollectionEnabled=false",
    }
    flags = [str(part) for option in options.items() for part in option]
    return [str(program), *flags, "--nounixsocket", "--quiet", *extra]


def url(settings: Settings, secrets: Secrets, user: str) -> str:
    """Return the server's URL with this user's credentials, or `AIDEVOS_MONGO_URL` unchanged if it is set."""
    own = f"mongodb://{HOST}:{settings.mongo_port}/?directConnection=true&authSource=admin"
    return settings.mongo_url or with_credentials(own, user, secrets.mongo[user])
