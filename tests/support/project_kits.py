"""Kits of the projects service, and the actions of its users."""

from __future__ import annotations

from typing import Any

from aidevos import new_id
from aidevos.contracts.errors import Failure
from aidevos.security.permissions import ROLES, Principal
from aidevos.settings import Settings
from aidevos.testing import ObjectKit
from aidevos.testing.kit import ADMIN
from services.projects.service import BELONGINGS
from services.projects.service import service as projects
from tests.support import account_kits
from tests.support.kits import chosen

PASSWORD = "wheelbarrow at noon"


def kit_of(settings: Settings, *others: Any, **options: Any) -> ObjectKit:
    hosted = account_kits.hosted_types(projects, *others)
    belongings = {kind: type for kind, type in BELONGINGS.items() if type in hosted}
    return account_kits.kit_of(settings, projects, *others, belongings=belongings, **options)


async def user(kit: ObjectKit, name: str) -> Principal:
    """Register a user."""
    args = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
    made = await kit.call("user", new_id(), "register", **args)
    return Principal(made["id"], ("user",), ROLES["user"])


async def make(kit: ObjectKit, owner: Principal, name: str = "p") -> str:
    id = new_id()
    await kit.call("project", id, "create", name=name, caller=owner, headers=chosen(id))
    return id


async def give(kit: ObjectKit, id: str, member: Principal, role: str, by: Principal = ADMIN) -> None:
    await kit.call("project", id, "set_member", user_id=member.subject, role=role, caller=by)


async def queue(kit: ObjectKit, project: str, by: Principal = ADMIN, **args: Any) -> str:
    id = new_id()
    making = {"project": project, "kind": "report", **args}
    await kit.call("task", id, "create", **making, caller=by, headers=chosen(id))
    return id


async def outcome(kit: ObjectKit, type: str, id: str, method: str, args: Any, caller: Principal, **headers: str) -> str:
    try:
        await kit.call(type, id, method, **args, caller=caller, headers=headers)
    except Failure as refused:
        return refused.code
    return "done"
