"""The objects of a type that belong to projects: how a project finds them, to count them and to end them.

Such a type has these views, and a command `vanish`, for services, that ends an object if it still belongs
to the project that is named. Whatever comes to belong to a project tells it so by `confirm`.
"""

from __future__ import annotations

import msgspec

from aidevos.contracts.errors import Failure
from aidevos.contracts.projects import COUNT_OF_PROJECT, OF_PROJECT
from aidevos.durable.objects.declaration import View
from aidevos.durable.objects.reader import Reader
from aidevos.durable.store.conditions import Compare, Path
from aidevos.durable.store.port import Find
from aidevos.security.permissions import services

STEP = 100


class OfProject(msgspec.Struct, forbid_unknown_fields=True):
    """Which objects: those behind an ID, in the order of IDs."""

    project: str
    after: str = ""


def belongings(type: str, path: Path) -> tuple[View, View]:
    """The views of a type whose states name their project at this path, by which there has to be an index:
    the IDs, a step at a time, and how many there are, None when they can't be counted in time."""

    async def ids(reader: Reader, args: OfProject) -> list[str]:
        where = Compare(path, "eq", args.project)
        after = (None, args.after) if args.after else None
        return [document.id for document in await reader.find(type, Find(where, STEP, after=after))]

    async def count(reader: Reader, args: OfProject) -> int | None:
        try:
            return await reader.count(type, Compare(path, "eq", args.project))
        except Failure as failure:
            if failure.code == "too-slow":
                return None
            raise

    return View(OF_PROJECT, services(), OfProject, ids), View(COUNT_OF_PROJECT, services(), OfProject, count)
