"""A kit of the projects service with one project, used by the kit's administrator alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from aidevos import BaseDurableObject, Failure, command, new_id, query, services
from aidevos.security.keys import ensure_signing_key
from aidevos.settings import Settings, load
from aidevos.testing import ObjectKit
from aidevos.testing.kit import ADMIN, SERVICE
from services.authentication.audit import AuditDO
from services.projects.service import service as projects

PROJECT = "p1"
LEASE = 10.0


class PersonState(msgspec.Struct):
    status: str = "active"


class Person(BaseDurableObject[PersonState], type="user"):
    """A fake of the users' own type."""

    @query(allow=services())
    async def is_erased(self) -> bool:
        return False

    @command(allow=services())
    async def become(self, status: str) -> None:
        self.state.status = status

    @query(allow=services())
    async def show(self) -> dict[str, Any]:
        if self.id != ADMIN.subject:
            raise Failure("not-found", "there is no such user")
        moments = {"created_at": "", "updated_at": ""}
        shown = {"id": self.id, "username": "ada", "email": None, "full_name": "", "roles": ["admin"], "settings": {}}
        return shown | {"status": self.state.status, "email_verified": True, "version": 1, **moments}


def settings(home: Path, **changed: Any) -> Settings:
    ensure_signing_key(home)
    return msgspec.structs.replace(load({}, home=home), task_lease=LEASE, **changed)


@asynccontextmanager
async def task_kit(home: Path, *others: type[BaseDurableObject[Any]]) -> AsyncIterator[ObjectKit]:
    belongings = {"tasks": "task"}
    async with ObjectKit(projects, Person, AuditDO, *others, settings=settings(home), belongings=belongings) as kit:
        await kit.call("project", PROJECT, "create", name="Engine")
        yield kit


async def queue(kit: ObjectKit, kind: str = "report", payload: Any = None, **plan: Any) -> str:
    """Create a task and return its ID."""
    id = new_id()
    making = {"project": PROJECT, "kind": kind, "payload": payload or {}, **plan}
    await kit.call("task", id, "create", **making)
    return id


async def start(kit: ObjectKit, id: str) -> Any:
    return await kit.call("task", id, "start", worker="w", caller=SERVICE)


async def work(kit: ObjectKit, id: str, method: str, run: str, **args: Any) -> Any:
    """Call a task as its worker."""
    return await kit.call("task", id, method, **{"run": run, **args}, caller=SERVICE)


async def due(kit: ObjectKit, *kinds: str) -> list[str]:
    return list(await kit.query("task", "due", kinds=kinds or ("report",), caller=SERVICE))
