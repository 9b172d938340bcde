"""Copies of databases that tests fill themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pymongo
import pyrage

from aidevos.backup.encryption import CopyKey
from aidevos.backup.fleet_data import FleetData
from aidevos.backup.manifest import Manifest, open_copy
from aidevos.backup.restoring import check_parts, restore_documents
from aidevos.backup.saving import Summary, back_up
from aidevos.backup.storage import Storage
from tests.support.servers import Servers

PASSPHRASE = "correct horse battery staple"
# Opens copies without the seconds that a passphrase takes by design.
OWNER = pyrage.x25519.Identity.generate()
MADE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def fleet_of(servers: Servers, database: str) -> FleetData:
    settings = servers.settings(mongo_database=database)
    return FleetData(servers.home, servers.mongo_url, database, settings, "admin", "secret")


def save(fleet: FleetData, place: str | Path, **options: Any) -> Summary:
    recipients = options.pop("recipients", [str(OWNER.to_public())])
    return back_up(fleet, Storage(str(place), create=True), PASSPHRASE, recipients, **options)


def unlock(passphrase: str = PASSPHRASE, identity: Path | None = None) -> Callable[[bytes], CopyKey]:
    return lambda locked: CopyKey.unlock(locked, passphrase, identity)


def unlock_as_owner(locked: bytes) -> CopyKey:
    with NamedTemporaryFile("w") as file:
        file.write(str(OWNER))
        file.flush()
        return CopyKey.unlock(locked, "", Path(file.name))


def load_copy(
    place: str | Path, unlock: Callable[[bytes], CopyKey] = unlock_as_owner
) -> tuple[Storage, CopyKey, Manifest]:
    storage = Storage(str(place))
    return storage, *open_copy(storage, unlock)


def restore(fleet: FleetData, place: str | Path) -> None:
    """Check the copy and restore its documents, as the command does once the services are down."""
    storage, key, manifest = load_copy(place)
    check_parts(storage, dict(enumerate(manifest.parts)))
    restore_documents(fleet, storage, key, manifest)


def document(id: str, owner: str = "host.1", **fields: Any) -> dict[str, Any]:
    """Return an object's document as a host would have left it."""
    counters = {"epoch": 3, "turn": 7, "expected": 7, "version": 4}
    times = {"created_at": MADE, "made_at": MADE, "updated_at": MADE}
    known = {"owner": owner, "by": owner, "commit": f"{owner}.7", "partition": 0, "schema": 1, "outbox": {}}
    return {"_id": id, "state": {"value": 1}, **counters, **times, **known, **fields}


@contextmanager
def collections(servers: Servers, database: str) -> Iterator[Any]:
    with pymongo.MongoClient[dict[str, Any]](servers.mongo_url, tz_aware=True) as client:
        yield client[database]
