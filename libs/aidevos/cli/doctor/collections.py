"""Checks of MongoDB's collections: their validators, which are the fence of all writes, and their indexes."""

from __future__ import annotations

from typing import Any

from aidevos.cli.doctor.finding import Finding, error, ok, warning
from aidevos.cli.doctor.patient import Database, Patient
from aidevos.durable.store.mongo import DUE, GONE, PENDING
from aidevos.durable.store.mongo_fence import OPTIONS

PREFIX = "obj_"
RESTART = "restart the service of the type, which sets it"


async def check_collections(patient: Patient) -> list[Finding]:
    """Find collections without their validator or an index, and indexes that are being built."""
    return await patient.ask_mongo(_check_all)


def _check_all(database: Database) -> list[Finding]:
    names = {each["name"]: each for each in database.list_collections(filter={"name": {"$regex": f"^{PREFIX}"}})}
    found = [finding for name, each in sorted(names.items()) for finding in _judge(database, name, each["options"])]
    return found or [ok("collections", f"{len(names)} have their validators and indexes")]


def _judge(database: Database, name: str, options: dict[str, Any]) -> list[Finding]:
    found = []
    if {key: options.get(key) for key in OPTIONS} != OPTIONS:
        detail = f"{name} has another validator than this version sets: former owners might write"
        found.append(error("collections", detail, RESTART))
    indexes = [dict(index["key"]) for index in database[name].list_indexes()]
    missing = [key for key in (PENDING, DUE, GONE) if dict(key) not in indexes]
    if missing:
        lost = ", ".join("+".join(key) for key in missing)
        found.append(warning("collections", f"{name} lacks the index {lost}", RESTART))
    if building := _unfinished(database, name):
        found.append(warning("collections", f"{name}: {', '.join(building)} is being built", "wait until it is done"))
    return found


def _unfinished(database: Database, name: str) -> list[str]:
    stats = database.command("collStats", name)
    return [str(index) for index in stats.get("indexBuilds", [])]
