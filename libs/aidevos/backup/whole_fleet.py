"""The steps of restoring a whole fleet: check everything, stop the services, replace data and keys, start the services.

Promise: nothing of the fleet changes before the whole copy has been checked. A fleet that is in use is refused.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import msgspec

from aidevos.backup.encryption import CopyKey
from aidevos.backup.errors import BackupError
from aidevos.backup.fleet_data import FleetData, collections, open_database, wait_until_no_host_lives
from aidevos.backup.home_keys import check_keys, write_keys
from aidevos.backup.manifest import OBJECTS, Manifest, split_collection
from aidevos.backup.restoring import OnRestored, check_parts, restore_documents
from aidevos.backup.storage import Storage
from aidevos.process.fleet import load_fleet
from aidevos.process.supervised import SupervisedServices, SupervisorError, wait_until_ready

# The types whose objects a first start makes, or a first login. There is one user, the administrator.
FIRST = {"role", "auth", "administrators", "session", "audit", "quota", "access_token"}
BOUNDS = {"user": 1}
STOPS_WITHIN = 60.0
READY_WITHIN = 90.0


class Summary(msgspec.Struct, kw_only=True):
    """The outcome of a restore. `running` is False if the services have to be started by hand."""

    place: str
    at: str
    objects: int
    documents: int
    bytes: int
    seconds: float
    types: dict[str, int]
    running: bool


def restore_fleet(
    fleet: FleetData,
    storage: Storage,
    key: CopyKey,
    manifest: Manifest,
    *,
    replace: bool,
    say: Callable[[str], None],
    on_restored: OnRestored,
) -> Summary:
    """Make the fleet what the copy shows. With `replace`, also one that is in use. Raises `BackupError`."""
    began = time.monotonic()
    _check(fleet, manifest, replace=replace)
    say("checking the copy")
    check_parts(storage, dict(enumerate(manifest.parts)))
    services = SupervisedServices(fleet.home)
    say("stopping the services")
    _stop(fleet, services)
    say("restoring")
    try:
        restore_documents(fleet, storage, key, manifest, on_restored)
        write_keys(fleet.home, manifest.keys, manifest.admin_password)
    except BaseException as error:
        raise BackupError(
            f"the restore has stopped half-way, and the services stay down: {error}. Run it again with --replace"
        ) from error
    if services.exist:
        say("starting the services")
        _start(services, load_fleet(fleet.home).gateway_url)
    types = _count(manifest)
    return Summary(
        place=storage.place,
        at=manifest.at,
        objects=types.total(),
        documents=sum(part.documents for part in manifest.parts),
        bytes=sum(part.bytes for part in manifest.parts),
        seconds=round(time.monotonic() - began, 3),
        types=dict(sorted(types.items())),
        running=services.exist,
    )


def _check(fleet: FleetData, manifest: Manifest, *, replace: bool) -> None:
    check_keys(manifest.keys)
    if manifest.admin_username.lower() != fleet.admin_username.lower():
        raise BackupError(
            f"the first administrator of the copy is {manifest.admin_username!r}: start the fleet with "
            f"AIDEVOS_ADMIN_USERNAME={manifest.admin_username}"
        )
    if not replace and (used := _find_use(fleet)):
        raise BackupError(f"the fleet is in use ({used}): start a new one, or replace all of it with --replace")


def _find_use(fleet: FleetData) -> str:
    """Return what the fleet has besides the objects of a first start, or an empty string."""
    with open_database(fleet) as database:
        for name in collections(database):
            family, type = split_collection(name) or ("", "")
            if family != OBJECTS or type in FIRST:
                continue
            bound = BOUNDS.get(type, 0)
            if database[name].count_documents({}, limit=bound + 1) > bound:
                return f"it has objects of the type {type}"
    return ""


def _stop(fleet: FleetData, services: SupervisedServices) -> None:
    try:
        if services.exist:
            services.stop(STOPS_WITHIN)
    except SupervisorError as error:
        raise BackupError(str(error)) from None
    if living := wait_until_no_host_lives(fleet):
        raise BackupError(f"stop the processes of {', '.join(living)} first: nothing may run while a fleet is restored")


def _start(services: SupervisedServices, url: str) -> None:
    try:
        services.start()
    except SupervisorError as error:
        raise BackupError(f"everything is restored, but {error}: run `make down` and `make up`") from None
    if not wait_until_ready(url, READY_WITHIN):
        raise BackupError("everything is restored, but the services don't get ready: `make logs` shows why")


def _count(manifest: Manifest) -> Counter[str]:
    types: Counter[str] = Counter()
    for part in manifest.parts:
        family, type = split_collection(part.collection) or ("", "")
        types[type] += part.documents if family == OBJECTS else 0
    return +types
