"""The users of the fleet's own MongoDB: each service's may use the collections of its own types, and nothing else.

Promise: a collection is granted to one service only. A service that serves a type of another one is refused.

The rights are in MongoDB itself, in a role for each service. A type's collections are granted when it is first
served, by whoever has the administrator's password.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from aidevos.durable.store.mongo import collections_of
from aidevos.settings import SettingsError

# Of a role, before the name of its service.
PREFIX = "service_"
ACTIONS = ("find", "insert", "update", "remove", "createCollection", "createIndex", "dropIndex", "collMod")
# A resource for a whole database, whose collections' options a service may read.
WHOLE = ""
Admin = pymongo.MongoClient[dict[str, Any]]


def ensure_user(admin: Admin, user: str, password: str, roles: list[Any]) -> None:
    """Create a user, or give an existing one this password and these roles."""
    verb = "updateUser" if admin.admin.command("usersInfo", user)["users"] else "createUser"
    admin.admin.command(verb, user, pwd=password, roles=roles)


def ensure_service(admin: Admin, database: str, service: str, password: str, types: Iterable[str]) -> None:
    """Create the user of a service, and grant these types to it."""
    grant(admin, database, service, types)
    ensure_user(admin, service, password, [PREFIX + service])


def grant(admin: Admin, database: str, service: str, types: Iterable[str]) -> None:
    """Let a service use the collections of these types, in addition to those that it may already use.

    Raises `SettingsError` if a type belongs to another service.
    """
    known = {role["role"].removeprefix(PREFIX): _resources(role) for role in _roles(admin)}
    collections = [(database, name) for type in types for name in collections_of(type)]
    for owner, resources in known.items():
        if owner != service and (taken := [each for each in collections if each in resources]):
            raise SettingsError(f"the collection {taken[0][1]} belongs to {owner}, so {service} can't serve its type")
    granted = known.get(service)
    wanted = {*collections, (database, WHOLE)}
    if granted is None or not wanted <= granted:
        verb = "createRole" if granted is None else "updateRole"
        admin.admin.command(verb, PREFIX + service, privileges=_privileges(wanted | (granted or set())), roles=[])


def grant_as_owner(url: str, options: dict[str, Any], database: str, service: str, types: Collection[str]) -> None:
    """Grant types to a service over an administrator's URL. Raises `SettingsError`."""
    try:
        with Admin(url, serverSelectionTimeoutMS=5000, **options) as admin:
            grant(admin, database, service, types)
    except PyMongoError as error:
        raise SettingsError(f"{service} can't be given the collections of {', '.join(types)}: {error}") from None


def _roles(admin: Admin) -> list[dict[str, Any]]:
    found = admin.admin.command("rolesInfo", 1, showPrivileges=True)["roles"]
    return [role for role in found if role["role"].startswith(PREFIX)]


def _resources(role: dict[str, Any]) -> set[tuple[str, str]]:
    """Return the databases and names of the collections that a role may use."""
    resources = [privilege["resource"] for privilege in role["privileges"]]
    return {(resource["db"], resource["collection"]) for resource in resources}


def _privileges(resources: set[tuple[str, str]]) -> list[dict[str, Any]]:
    return [
        {
            "resource": {"db": database, "collection": name},
            "actions": ["listCollections"] if name == WHOLE else list(ACTIONS),
        }
        for database, name in sorted(resources)
    ]
