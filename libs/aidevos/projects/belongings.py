"""The views through which a project lists and counts its objects of one type.

Such a type also has a command `vanish` for services, which ends an object if it still belongs to the named project.
An object that joins a project tells the project so with `confirm`.
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
    """The arguments of both views. `after` is the last ID of the page before."""

    project: str
    after: str = ""


def project_views(type: str, path: Path) -> tuple[View, View]:
    """Return the views of a type whose states name their project at this path, which must be indexed.

    The first lists a page of IDs in order. The second counts them, or returns None if that takes too long.
    """

    async def ids(reader: Reader, args: OfProject) -> list[str]:
        where = Compare(path, "eq", args.project)
        after = (None, args.after) if args.after else None
        return [document.id for document in await reader.find(type, Find(where, STEP, after=after, only=()))]

    async def count(reader: Reader, args: OfProject) -> int | None:
        try:
            return await reader.count(type, Compare(path, "eq", args.project))
        except Failure as failure:
            if failure.code == "too-slow":
                return None
            raise

    return View(OF_PROJECT, services(), OfProject, ids), View(COUNT_OF_PROJECT, services(), OfProject, count)
